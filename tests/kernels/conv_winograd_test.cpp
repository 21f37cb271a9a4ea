// Convolutions by graft's own Winograd algorithm: on every processor, whether its device would use them or not.
#include <gtest/gtest.h>

#include "kernels/cpu/conv_winograd.h"
#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

struct Case {
  ConvSpec spec;
  ConvFormats formats;
};

/// Tiles that the image's edge cuts in every way, blocks of 8, of 16, of both and none; channels and tiles that make
/// several tasks, and a last one that is smaller. For gradients of weights the last three have several blocks of tiles
/// in several parts and in one, and a block without tiles.
std::vector<Case> cases() {
  const auto spec = [](Shape x, std::int64_t k, std::int64_t pad_h, std::int64_t pad_w) {
    return ConvSpec{.x = x, .k = k, .r = 3, .s = 3, .pad_h = pad_h, .pad_w = pad_w};
  };
  return {{spec({2, 16, 9, 14}, 32, 1, 1), {{8}, {8}}},    {spec({1, 48, 7, 7}, 16, 0, 0), {kNhwc, kNhwc}},
          {spec({3, 32, 6, 5}, 48, 2, 1), {{16}, {16}}},   {spec({2, 16, 30, 27}, 80, 1, 1), {{8}, {16}}},
          {spec({2, 80, 33, 18}, 144, 1, 1), {{8}, {8}}},  {spec({1, 80, 33, 18}, 144, 1, 0), {{16}, {16}}},
          {spec({1, 16, 3, 3}, 16, 0, 0), {{8}, kNhwc}},   {spec({1, 144, 41, 64}, 16, 1, 2), {kNhwc, {8}}},
          {spec({1, 144, 1, 389}, 144, 1, 1), {{8}, {8}}}, {spec({1, 384, 1, 97}, 384, 1, 1), {{8}, {8}}},
          {spec({1, 16, 156, 160}, 16, 1, 1), {{8}, {8}}}};
}

using Run = std::function<void(Backend&, CaseOperands&)>;

/// What the CPU with so many threads makes of a case's first operand.
std::vector<double> results(const OpCase& op, const Run& run, Write write, int threads,
                            const std::vector<Format>& formats) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend({.threads = threads});
  CaseOperands operands(*cpu, op, write, formats);
  run(*cpu, operands);
  EXPECT_EQ(operands.damage(), "");
  return operands.values(op.operands[0].name);
}

double root_mean_square(const std::vector<double>& values) {
  double squares = 0;
  for (const double v : values) squares += v * v;
  return std::sqrt(squares / double(values.size()));
}

/// `run` on the CPU, with one thread and with three to the same bits, gives what `expected` gives on the reference.
void expect_the_references(const OpCase& op, Write write, const Run& run, const Run& expected) {
  std::vector<Format> formats;
  for (const Operand& o : op.operands) formats.push_back(o.format);
  const std::vector<double> actual = results(op, run, write, 1, formats);
  EXPECT_EQ(results(op, run, write, 3, formats), actual);

  const std::unique_ptr<Backend> reference = make_backend({DeviceKind::reference});
  CaseOperands exact(*reference, op, write, formats);
  expected(*reference, exact);
  const std::vector<double> truth = exact.values(op.operands[0].name);
  ASSERT_EQ(actual.size(), truth.size());
  // A direct sum's errors are 2e-7 of the results (root mean square), these are 1e-6, and hardly one is ten times that.
  const double size = root_mean_square(truth);
  std::vector<double> errors(truth.size());
  for (std::size_t i = 0; i < truth.size(); ++i) {
    errors[i] = actual[i] - truth[i];
    ASSERT_NEAR(actual[i], truth[i], 3e-5 * size) << i;
  }
  EXPECT_LE(root_mean_square(errors), 1.5e-6 * size);
}

TEST(ConvWinograd, ForwardEqualsTheReference) {
  for (const auto& [s, formats] : cases()) {
    SCOPED_TRACE(to_string(s.x));
    ASSERT_TRUE(has_winograd({.spec = s, .formats = formats}));
    for (const bool has_epilogue : {false, true}) {
      OpCase op;
      op.operands = {fresh("y", s.y()).in(formats.y), input("x", s.x).in(formats.x), input("w", {s.k, s.x.c, 3, 3}),
                     input("bias", {1, s.k, 1, 1}), input("residual", s.y()).in(formats.y)};
      const auto epilogue = [&](CaseOperands& o) {
        return has_epilogue ? ConvEpilogue{.bias = o["bias"], .relu = true, .residual = o["residual"]} : ConvEpilogue{};
      };
      expect_the_references(
          op, Write::overwrite,
          [&](Backend& b, CaseOperands& o) { winograd_conv(b, s, o["y"], o["x"], o["w"], epilogue(o)); },
          [&](Backend& b, CaseOperands& o) { b.conv(s, o["y"], o["x"], o.weight("w"), epilogue(o)); });
    }
  }
}

TEST(ConvWinograd, DataGradientEqualsTheReference) {
  for (const auto& [s, formats] : cases())
    for (const Write write : {Write::overwrite, Write::add}) {
      SCOPED_TRACE(to_string(s.x));
      OpCase op;
      op.operands = {output("dx", s.x).in(formats.x), input("dy", s.y()).in(formats.y), input("w", {s.k, s.x.c, 3, 3})};
      expect_the_references(
          op, write, [&](Backend& b, CaseOperands& o) { winograd_data_grad(b, s, o["dx"], write, o["dy"], o["w"]); },
          [&](Backend& b, CaseOperands& o) { b.conv_data_grad(s, o["dx"], write, o["dy"], o.weight("w")); });
    }
}

TEST(ConvWinograd, WeightGradientEqualsTheReference) {
  for (const auto& [s, formats] : cases())
    for (const Write write : {Write::overwrite, Write::add}) {
      SCOPED_TRACE(to_string(s.x));
      OpCase op;
      op.operands = {output("dw", {s.k, s.x.c, 3, 3}), input("dy", s.y()).in(formats.y), input("x", s.x).in(formats.x)};
      expect_the_references(
          op, write, [&](Backend& b, CaseOperands& o) { winograd_weight_grad(b, s, o["dw"], write, o["dy"], o["x"]); },
          [&](Backend& b, CaseOperands& o) { b.conv_weight_grad(s, o["dw"], write, o["dy"], o["x"]); });
    }
}

TEST(ConvWinograd, LeavesOtherConvolutionsAlone) {
  const ConvSpec s{.x = {16, 64, 56, 56}, .k = 64, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  const auto with = [&](auto change) {
    ConvCall call{.spec = s, .formats = {{8}, {8}}};
    change(call);
    return call;
  };
  EXPECT_TRUE(has_winograd(with([](ConvCall&) {})));
  EXPECT_FALSE(has_winograd(with([](ConvCall& c) { c.spec.x.c = 3; })));
  EXPECT_FALSE(has_winograd(with([](ConvCall& c) { c.spec.k = 24; })));
  EXPECT_FALSE(has_winograd(with([](ConvCall& c) { c.formats.x = {1}; })));  // channel by channel
  EXPECT_FALSE(has_winograd(with([](ConvCall& c) { c.formats.y = {4}; })));
  EXPECT_FALSE(has_winograd(with([](ConvCall& c) { c.spec.x.n = 0; })));
  for (const auto number : {&ConvSpec::stride_h, &ConvSpec::stride_w, &ConvSpec::dilation_h, &ConvSpec::dilation_w})
    EXPECT_FALSE(has_winograd(with([&](ConvCall& c) { c.spec.*number = 2; })));
  for (const auto number : {&ConvSpec::r, &ConvSpec::s})
    EXPECT_FALSE(has_winograd(with([&](ConvCall& c) { c.spec.*number = 1; })));
  for (const auto number : {&ConvSpec::pad_h, &ConvSpec::pad_w})
    EXPECT_FALSE(has_winograd(with([&](ConvCall& c) { c.spec.*number = 3; })));
}

/// With few tiles weights would be transformed longer than they are multiplied.
TEST(ConvWinograd, GainsWithManyTilesOfResults) {
  const auto gains = [](ConvCall::Pass pass, Shape x, std::int64_t pad) {
    return gains_by_winograd({.pass = pass, .spec = {.x = x, .k = 64, .r = 3, .s = 3, .pad_h = pad, .pad_w = pad}});
  };
  using Pass = ConvCall::Pass;
  EXPECT_TRUE(gains(Pass::forward, {16, 512, 7, 7}, 1));
  EXPECT_FALSE(gains(Pass::forward, {15, 512, 7, 7}, 1));
  EXPECT_TRUE(gains(Pass::data_grad, {16, 512, 5, 5}, 0));  // of x, in whose place y has a tile of an image
  EXPECT_FALSE(gains(Pass::forward, {16, 512, 5, 5}, 0));
  EXPECT_TRUE(gains(Pass::weight_grad, {4, 512, 7, 7}, 1));
  EXPECT_FALSE(gains(Pass::weight_grad, {3, 512, 7, 7}, 1));
}

TEST(ConvWinograd, CarriesNaNThroughItsRelu) {
  const ConvSpec s{.x = {1, 16, 8, 8}, .k = 16, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  OpCase op;
  op.operands = {fresh("y", s.y()), input("x", s.x), input("w", {16, 16, 3, 3})};
  const std::unique_ptr<Backend> cpu = make_cpu_backend({.threads = 1});
  CaseOperands o(*cpu, op, Write::overwrite, {kNhwc, kNhwc, kNhwc});
  std::vector<double> x = o.values("x");
  x[0] = std::nan("");  // the first pixel, which the first tile alone reads
  o.set("x", x);
  winograd_conv(*cpu, s, o["y"], o["x"], o["w"], {.relu = true});
  const std::vector<double> y = o.values("y");
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i / 8 % 8 < 4 && i % 8 < 4) << i;
}

/// The device that may use Winograd's algorithm does, for all three calls: oneDNN's where that has one, or graft's,
/// for which oneDNN is not asked at all.
TEST(ConvWinograd, IsWhatTheDeviceUsesIfItMay) {
  const ConvSpec s{.x = {2, 32, 24, 24}, .k = 48, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  const std::unique_ptr<Backend> cpu = make_cpu_backend({.threads = kTestThreads, .allows_winograd = true});
  const ConvFormats formats = cpu->conv_formats(s);
  OpCase op;
  op.operands = {fresh("y", s.y()).in(formats.y),  input("x", s.x).in(formats.x),  input("w", {s.k, s.x.c, 3, 3}),
                 input("dy", s.y()).in(formats.y), fresh("dx", s.x).in(formats.x), fresh("dw", {s.k, s.x.c, 3, 3})};
  CaseOperands o(*cpu, op, Write::overwrite, {formats.y, formats.x, kNhwc, formats.y, formats.x, kNhwc});
  const bool is_onednns = cpu->description().find("AVX-512") != std::string::npos;
  const char* limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (limit && limit == std::string("AVX2")) {
    ASSERT_FALSE(is_onednns) << "this oneDNN heeds no ONEDNN_MAX_CPU_ISA";
  }
  cpu->conv(s, o["y"], o["x"], o.weight("w"), {});
  cpu->conv_data_grad(s, o["dx"], Write::overwrite, o["dy"], o.weight("w"));
  cpu->conv_weight_grad(s, o["dw"], Write::overwrite, o["dy"], o["x"]);
  const std::vector<std::string> made = cpu_implementations(*cpu);
  EXPECT_EQ(made.size(), is_onednns ? 3 : 0);
  for (const std::string& line : made) EXPECT_NE(line.find("wino"), line.npos) << line;
  for (const char* result : {"y", "dx", "dw"})  // were NaN
    for (const double v : o.values(result)) ASSERT_TRUE(std::isfinite(v)) << result;
}

}  // namespace
}  // namespace graft
