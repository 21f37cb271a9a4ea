// unfold.cu on the host model: x', w' and w's gradient, by themselves. With the graphs around them they run in the op
// cases of convolutions.
#include "tests/host_model/unfold_testing.h"

#include "kernels/dry_backend.h"
#include "tests/host_model/backend.h"
#include "tests/host_model/host_model.h"

namespace graft {
namespace {

using host_model::Order;

constexpr DType kHalves[] = {DType::bf16, DType::f16};

/// Windows of ResNet's stem and VGG's, others that differ in every parameter; widths that packs of eight fit and not.
std::vector<ConvSpec> specs() {
  return {
      {.x = {2, 3, 17, 15}, .k = 5, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2, .pad_h = 3, .pad_w = 3},
      {.x = {2, 3, 16, 16}, .k = 8, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2, .pad_h = 3, .pad_w = 3},
      {.x = {1, 3, 5, 8}, .k = 4, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1},
      {.x = {2, 3, 9, 7}, .k = 3, .r = 3, .s = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1},
      {.x = {2, 1, 6, 50}, .k = 3, .r = 5, .s = 2, .stride_h = 1, .stride_w = 3, .pad_h = 2, .pad_w = 1},
      {.x = {1, 5, 11, 9}, .k = 2, .r = 7, .s = 4, .stride_h = 3, .stride_w = 1, .pad_h = 1, .pad_w = 3},
      {.x = {1, 4, 12, 2}, .k = 2, .r = 9, .s = 8, .stride_h = 1, .stride_w = 5, .pad_h = 4, .pad_w = 4},
      {.x = {3, 7, 4, 3}, .k = 2, .stride_h = 3, .stride_w = 2},  // 1 x 1
  };
}

/// Enough rows that a block makes four of them, and in the last one of an image fewer.
std::vector<ConvSpec> many_rows() {
  return {
      {.x = {2, 3, 4101, 8}, .k = 1, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2, .pad_h = 3, .pad_w = 3},
      {.x = {2, 3, 2051, 3}, .k = 1, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1},
  };
}

std::vector<Order> orders() {
  if (host_model::checks_races()) return {Order::random};
  return {Order::forward, Order::reverse, Order::random};
}

TEST(HostModelUnfold, GivesTheFormulasChannels) {
  const std::unique_ptr<Backend> device = host_model::make_backend();
  for (const Order order : orders()) {
    host_model::set_order(order, 7);
    for (const std::int64_t guard : {0, 2, 8, 256})  // x at any address that a number may have
      for (const DType type : kHalves)
        for (const ConvSpec& conv : specs()) expect_unfolded(*device, type, conv, guard);
    for (const ConvSpec& conv : many_rows()) expect_unfolded(*device, DType::f16, conv, 0);
    unfold_long_rows(*device);
  }
}

TEST(HostModelUnfold, TakesWeightsThereAndTheirGradientBack) {
  const std::unique_ptr<Backend> device = host_model::make_backend();
  for (const DType type : kHalves)
    for (const Write write : {Write::overwrite, Write::add})
      for (const ConvSpec& conv : specs()) {
        const Unfolding u = unfolding(GraphKind::weight_grad, conv, type).value();
        const Shape plain{conv.k, conv.x.c, conv.r, conv.s}, wide{u.conv.k, u.conv.x.c, u.conv.r, 1};
        OpCase op;
        op.operands = {input("w", plain).of(type), fresh("unfolded", wide).of(type), input("gradient", wide).of(type),
                       output("dw", plain)};
        for (Operand& o : op.operands)
          if (o.dtype) o.stored = type;
        CaseOperands o(*device, op, write, {kNhwc, kNhwc, kNhwc, kNhwc});
        const std::vector<double> before = o.values("dw");
        gpu::unfold_weight(o["unfolded"].data, o["w"], conv, u, nullptr);
        gpu::fold_weight_grad(o["dw"], write, o["gradient"].data, type, conv, u, nullptr);
        EXPECT_EQ(o.values("unfolded"), unfolded_weight(conv, u, o.values("w")));
        std::vector<double> expected = folded_weight(conv, u, o.values("gradient"));
        if (write == Write::add)
          for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = double(float(expected[i]) + float(before[i]));
        EXPECT_EQ(o.values("dw"), expected);
        EXPECT_EQ(o.damage(), "");
      }
}

TEST(HostModelUnfold, RefusesGradientsOfOtherTypes) {
  const std::unique_ptr<Backend> device = host_model::make_backend();
  const ConvSpec conv = specs()[0];
  const Unfolding u = unfolding(GraphKind::weight_grad, conv, DType::bf16).value();
  const View dw{.data = nullptr, .dtype = DType::bf16, .format = kNhwc, .shape = {5, 3, 7, 7}, .pitch = 3};
  EXPECT_THROW(gpu::fold_weight_grad(dw, Write::overwrite, nullptr, DType::bf16, conv, u, nullptr), Error);
}

/// A copy of the weights that is kept must follow their version, and the kinds of graph must not share one.
TEST(HostModelUnfold, KeptWeightsFollowTheirVersion) {
  const std::unique_ptr<Backend> device = host_model::make_backend(Precision::bf16),
                                 reference = make_backend({DeviceKind::reference, 0});
  const ConvSpec conv = specs()[0];
  const Shape weight{conv.k, conv.x.c, conv.r, conv.s};
  OpCase op;
  op.operands = {input("x", conv.x), input("w", weight), fresh("y", conv.y()), input("dy", conv.y()),
                 output("dx", conv.x)};
  const std::vector<Format> formats(op.operands.size(), kNhwc);
  CaseOperands expected(*reference, op, Write::overwrite, formats);
  for (Operand& o : op.operands) o = o.of(DType::bf16);
  CaseOperands actual(*device, op, Write::overwrite, formats);
  std::shared_ptr<void> packed;
  for (std::uint64_t version = 1; version <= 3; ++version) {
    // Whole numbers, so that neither storage nor the order of sums rounds.
    for (const char* name : {"x", "w", "dy"}) {
      std::vector<double> values = actual.values(name);
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = double((i * i + 5 * i + version * (version + i % 3)) % 3) - 1;
      actual.set(name, values), expected.set(name, values);
    }
    const WeightView w{actual["w"], version, &packed};
    for (int repetition = 0; repetition < 2; ++repetition) {
      device->conv(conv, actual["y"], actual["x"], w, {});
      device->conv_data_grad(conv, actual["dx"], Write::overwrite, actual["dy"], w);
    }
    reference->conv(conv, expected["y"], expected["x"], expected.weight("w"), {});
    reference->conv_data_grad(conv, expected["dx"], Write::overwrite, expected["dy"], expected.weight("w"));
    EXPECT_EQ(actual.values("y"), expected.values("y")) << version;
    EXPECT_EQ(actual.values("dx"), expected.values("dx")) << version;
  }
}

/// Memory beside the operands of a convolution's calls, the most at one time.
template <class Call>
std::int64_t bytes_beside(Backend& device, const Call& call) {
  device.reset_peak_memory();
  const std::int64_t before = device.memory().live_bytes;
  call();
  return device.memory().peak_bytes - before;
}
std::vector<std::int64_t> bytes_beside(Backend& device, const ConvSpec& conv, const std::vector<View>& operands) {
  const View &x = operands[0], &y = operands[1], &w = operands[2], &dw = operands[3];
  return {bytes_beside(device, [&] { device.conv(conv, y, x, {w}, {}); }),
          bytes_beside(device, [&] { device.conv_data_grad(conv, x, Write::overwrite, y, {w}); }),
          bytes_beside(device, [&] { device.conv_data_grad(conv, x, Write::add, y, {w}); }),
          bytes_beside(device, [&] { device.conv_weight_grad(conv, dw, Write::add, y, x); })};
}

/// What `graft plan-memory` counts on is what the calls take.
TEST(HostModelUnfold, TakesTheMemoryThatIsForetold) {
  const std::unique_ptr<Backend> device = host_model::make_backend(Precision::bf16);
  DryBackend foretelling({DeviceKind::cuda, 0}, {.precision = Precision::bf16});
  const ConvSpec pointwise{.x = {2, 16, 3, 5}, .k = 8};
  ConvSpec dilated = specs()[0], many = specs()[0];
  dilated.dilation_h = 2, many.x.c = 8;
  for (const ConvSpec& conv : {specs()[0], specs()[2], dilated, many, pointwise}) {
    const Shape weight{conv.k, conv.x.c, conv.r, conv.s};
    OpCase op;
    op.operands = {input("x", conv.x).of(DType::bf16), input("y", conv.y()).of(DType::bf16),
                   input("w", weight).of(DType::bf16), input("dw", weight)};
    const CaseOperands o(*device, op, Write::overwrite, std::vector<Format>(op.operands.size(), kNhwc));
    const std::vector<View> operands{o["x"], o["y"], o["w"], o["dw"]};
    bytes_beside(*device, conv, operands);  // the first product takes cuBLAS's workspace, which stays
    const std::vector<std::int64_t> taken = bytes_beside(*device, conv, operands);
    EXPECT_EQ(taken, bytes_beside(foretelling, conv, operands)) << to_string(conv.x);
    EXPECT_EQ(taken.back() > 0, !conv.is_pointwise());
  }
}

}  // namespace
}  // namespace graft
