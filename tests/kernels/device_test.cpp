// What devices promise besides their ops: names, memory, waiting, NaN in and NaN out, packed weights, and answers that
// can be worked out by hand.
#include <limits>

#include "kernels/cpu/cpu_device.h"
#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Tests that run once per device.
class Devices : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    const std::string reason = unusable(GetParam());
    if (!reason.empty()) GTEST_SKIP() << reason;
    device_ = make_backend({GetParam(), 0}, {.threads = kTestThreads});
  }

  /// Operands of an unnamed case, to set and read from tests.
  std::unique_ptr<CaseOperands> operands(std::vector<Operand> list) {
    OpCase op;
    op.operands = std::move(list);
    return std::make_unique<CaseOperands>(*device_, op, Write::overwrite,
                                          std::vector<Format>(op.operands.size(), kNhwc));
  }

  std::unique_ptr<Backend> device_;
};

INSTANTIATE_TEST_SUITE_P(Reference, Devices, ::testing::Values(DeviceKind::reference));
INSTANTIATE_TEST_SUITE_P(Cpu, Devices, ::testing::Values(DeviceKind::cpu));
INSTANTIATE_TEST_SUITE_P(Cuda, Devices, ::testing::Values(DeviceKind::cuda));

TEST_P(Devices, SayWhatTheyAre) {
  EXPECT_EQ(device_->device(), (Device{GetParam(), 0}));
  EXPECT_EQ(device_->compute_type(), GetParam() == DeviceKind::reference ? DType::f64 : DType::f32);
  EXPECT_FALSE(device_->description().empty());
}

TEST_P(Devices, CountTheirMemory) {
  const MemoryUse before = device_->memory();
  void* a = device_->allocate(1000);
  void* b = device_->allocate(5 << 20);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b) % 64, 0u);
  const MemoryUse during = device_->memory();
  EXPECT_GE(during.live_bytes, before.live_bytes + 1000 + (5 << 20));
  EXPECT_GE(during.peak_bytes, during.live_bytes);
  EXPECT_GE(during.reserved_bytes, during.live_bytes);
  device_->release(a), device_->release(b), device_->release(nullptr);
  const MemoryUse after = device_->memory();
  EXPECT_EQ(after.live_bytes, before.live_bytes);
  EXPECT_EQ(after.peak_bytes, during.peak_bytes);
  device_->reset_peak_memory();
  EXPECT_EQ(device_->memory().peak_bytes, after.live_bytes);
  EXPECT_NO_THROW(device_->release(device_->allocate(0)));
}

TEST_P(Devices, MoveAndClearBytes) {
  std::vector<unsigned char> in(777), out(777, 1);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<unsigned char>(i * 7);
  void* block = device_->allocate(777);
  device_->copy_in(block, in.data(), 777);
  device_->zero(static_cast<unsigned char*>(block) + 100, 11);
  device_->copy_out(out.data(), block, 777);
  device_->synchronize();
  std::fill_n(in.begin() + 100, 11, 0);
  EXPECT_EQ(in, out);
  device_->release(block);
}

TEST_P(Devices, CopyOutWhatWasThereWhenTheCopyBegan) {
  const std::vector<double> before{1, 2, 3}, later{4, 5, 6};
  void* block = device_->allocate(24);
  device_->copy_in(block, before.data(), 24);
  const std::unique_ptr<HostCopy> copy = device_->begin_copy_out(block, 24),
                                  unread = device_->begin_copy_out(block, 24);
  device_->copy_in(block, later.data(), 24);
  device_->release(block);
  const auto* numbers = static_cast<const double*>(copy->wait());
  EXPECT_EQ(std::vector<double>(numbers, numbers + 3), before);
}

TEST_P(Devices, ReplayWhatTheyCapturedOrRefuseToCapture) {
  if (!device_->supports_capture()) {
    EXPECT_THROW(device_->begin_capture(), Error);
    return;
  }
  const auto o = operands({input("x", {1, 5, 1, 1}), updated("y", {1, 5, 1, 1})});
  o->set("x", {1, 2, 3, 4, 5}), o->set("y", {0, 0, 0, 0, 1});
  device_->map(Scale{2}, (*o)["y"], Write::add, {(*o)["x"]});  // run once, as before every capture
  device_->begin_capture();
  device_->map(Scale{2}, (*o)["y"], Write::add, {(*o)["x"]});
  const std::unique_ptr<CapturedStep> step = device_->end_capture();
  EXPECT_EQ(o->values("y"), (std::vector<double>{2, 4, 6, 8, 11})) << "a captured call ran";
  step->replay();
  EXPECT_EQ(o->values("y"), (std::vector<double>{4, 8, 12, 16, 21}));
  o->set("x", {1, 1, 1, 1, 1});
  step->replay();
  EXPECT_EQ(o->values("y"), (std::vector<double>{6, 10, 14, 18, 23}));
  device_->begin_capture();
  EXPECT_THROW(o->values("y"), Error);  // waits
  EXPECT_THROW(device_->synchronize(), Error);
  device_->end_capture();
}

TEST_P(Devices, FindWhatIsNotFinite) {
  for (const double bad : {kNaN, kInfinity, -kInfinity}) {
    const auto o = operands({input("x", {2, 3, 4, 5}).slice(1, 2)});  // the channels around are NaN
    EXPECT_TRUE(device_->all_finite((*o)["x"]));
    std::vector<double> values = o->values("x");
    values[77] = bad;
    o->set("x", values);
    EXPECT_FALSE(device_->all_finite((*o)["x"])) << bad;
  }
}

TEST_P(Devices, FindWhatIsNotFiniteAtTheEndOfMany) {
  constexpr std::int64_t kSize = 3 * 65536 + 5;
  const auto o = operands({input("x", {1, kSize, 1, 1})});
  EXPECT_TRUE(device_->all_finite((*o)["x"]));
  for (const double bad : {kNaN, -kInfinity})
    for (const std::int64_t at : {std::int64_t{65536}, kSize - 1}) {
      std::vector<double> values(kSize, -1e30);
      values[std::size_t(at)] = bad;
      o->set("x", values);
      EXPECT_FALSE(device_->all_finite((*o)["x"])) << bad << " at " << at;
    }
}

TEST_P(Devices, CarryNaNThroughRelu) {
  const Shape s{1, 1, 1, 4}, vector{1, 1, 1, 1};
  const auto o = operands(
      {input("x", s), fresh("y", s), input("stats", {2, 1, 1, 1}), input("gamma", vector), input("beta", vector)});
  o->set("x", {kNaN, -2, 3, -0.5});
  device_->map(Relu{}, (*o)["y"], Write::overwrite, {(*o)["x"]});
  std::vector<double> y = o->values("y");
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ((std::vector<double>{y.begin() + 1, y.end()}), (std::vector<double>{0, 3, 0}));

  o->set("stats", {0, 1}), o->set("gamma", {1}), o->set("beta", {0});
  device_->normalize((*o)["y"], (*o)["x"],
                     {.stats = (*o)["stats"], .gamma = (*o)["gamma"], .beta = (*o)["beta"], .epsilon = 0, .relu = true},
                     {});
  y = o->values("y");
  EXPECT_TRUE(std::isnan(y[0])) << "batch norm's ReLU hides a NaN";
  EXPECT_EQ((std::vector<double>{y.begin() + 1, y.end()}), (std::vector<double>{0, 3, 0}));
}

TEST_P(Devices, CarryNaNThroughAConvolutionsRelu) {
  const ConvSpec spec{.x = {1, 16, 1, 2}, .k = 16};
  OpCase op;
  op.conv = spec;
  op.operands = {input("x", spec.x).from(FormatFrom::conv_x), fresh("y", spec.y()).from(FormatFrom::conv_y),
                 input("w", {16, 16, 1, 1}, uniform(0.5, 1)), input("b", {1, 16, 1, 1})};
  CaseOperands o(*device_, op, Write::overwrite, formats_of(op, *device_));
  std::vector<double> x = o.values("x");
  x[4] = kNaN;  // channel 2 at pixel 0
  o.set("x", x);
  device_->conv(spec, o["y"], o["x"], o.weight("w"), {.bias = o["b"], .relu = true});
  const std::vector<double> y = o.values("y");
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i % 2 == 0) << i;
}

TEST_P(Devices, CarryNaNThroughMaxPooling) {
  for (const std::int64_t channels : {1, 9}) {  // one at a time, and eight
    const PoolSpec spec{.x = {1, channels, 2, 4}};
    const auto o = operands({input("x", spec.x), fresh("y", spec.y()), fresh("index", spec.y()).of(DType::u8)});
    std::vector<double> x;
    for (std::int64_t c = 0; c < channels; ++c)
      x.insert(x.end(), {kNaN, 1, 2, 3,  //
                         4, 0, 5, kNaN});
    o->set("x", x);
    device_->max_pool(spec, (*o)["y"], (*o)["index"], (*o)["x"]);
    for (const double y : o->values("y")) EXPECT_TRUE(std::isnan(y));
  }
}

TEST(CpuInBf16, MaxPoolingCopiesEvenWhatRoundingWouldMakeZero) {
  if (const std::string reason = cpu_bf16_unavailable_reason(); !reason.empty())
    GTEST_SKIP() << "not run in bf16 on the CPU: " << reason;
  const std::unique_ptr<Backend> cpu = make_cpu_backend({.precision = Precision::bf16});
  const PoolSpec spec{.x = {1, 9, 1, 1}, .window_h = 1, .window_w = 1, .stride_h = 1, .stride_w = 1};
  OpCase op;
  op.operands = {input("x", spec.x).of(DType::bf16), fresh("y", spec.y()).of(DType::bf16),
                 fresh("index", spec.y()).of(DType::u8)};
  CaseOperands o(*cpu, op, Write::overwrite, {kNhwc, kNhwc, kNhwc});
  const std::vector<double> x = {0x1p-130, -0x1p-133, 0x1p-127, -0.0, 1, -2, kInfinity, 0x1p-126, -0x1p-128};
  o.set("x", x);
  cpu->max_pool(spec, o["y"], o["index"], o["x"]);
  EXPECT_EQ(o.values("y"), x);
}

TEST_P(Devices, GiveATieInMaxPoolingToTheFirst) {
  for (const std::int64_t channels : {1, 9}) {
    const PoolSpec spec{.x = {1, channels, 2, 6}, .window_h = 2, .window_w = 3, .stride_h = 2, .stride_w = 3};
    const auto o = operands({input("x", spec.x), fresh("y", spec.y()), fresh("index", spec.y()).of(DType::u8)});
    std::vector<double> x, y;
    for (std::int64_t c = 0; c < channels; ++c) {
      x.insert(x.end(), {7, 7, 1, -kInfinity, -kInfinity, -kInfinity,  //
                         7, 7, 7, -kInfinity, -kInfinity, -kInfinity});
      y.insert(y.end(), {7, -kInfinity});
    }
    o->set("x", x);
    device_->max_pool(spec, (*o)["y"], (*o)["index"], (*o)["x"]);
    EXPECT_EQ(o->values("y"), y);
    EXPECT_EQ(o->values("index"), std::vector<double>(y.size(), 0));
  }
}

/// PyTorch 1.13: F.cross_entropy(x, t, weight=w, label_smoothing=0.1), float64.
TEST_P(Devices, WeighAndSmoothTheLossAsPyTorchDoes) {
  const Shape logits{2, 3, 1, 1}, one{1, 1, 1, 1};
  const auto o = operands({input("x", logits), input("t", {2, 1, 1, 1}).of(DType::i32), input("w", {1, 3, 1, 1}),
                           fresh("p", logits), fresh("loss", one), input("dloss", one), fresh("dx", logits)});
  o->set("x", {0.5, -1.25, 2, 1, 0.25, -0.75}), o->set("t", {0, 2}), o->set("w", {0.5, 2, 1.25}), o->set("dloss", {1});
  const SoftmaxSpec spec{.label_smoothing = 0.1, .class_weights = (*o)["w"]};
  device_->softmax_cross_entropy((*o)["loss"], (*o)["p"], (*o)["x"], (*o)["t"], spec);
  device_->softmax_cross_entropy_grad((*o)["dx"], Write::overwrite, (*o)["dloss"], (*o)["p"], (*o)["t"], spec);
  EXPECT_NEAR(o->values("loss")[0], 2.15150445259768, 3e-7);
  const std::vector<double> expected{-0.20856860683136358, -0.02799930913083755, 0.23656791596220114,
                                     0.4243915919490895,   0.16687188427974858,  -0.591263476228838},
      dx = o->values("dx");
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(dx[i], expected[i], 1e-7) << i;
}

TEST_P(Devices, DropWhatTheGeneratorSays) {
  const Shape s{3, 5, 2, 7};
  const auto o = operands({input("x", s, uniform(1, 2)), fresh("y", s)});
  const Dropout dropout{.p = 0.4, .seed = 99, .call = {3}};
  device_->map(dropout, (*o)["y"], Write::overwrite, {(*o)["x"]});
  const std::vector<double> x = o->values("x"), y = o->values("y");
  for (std::int64_t i = 0; i < s.size(); ++i) {
    const std::int64_t p = i % s.pixels(), c = i / s.pixels() % s.c, n = i / s.pixels() / s.c;
    const std::int64_t in_memory = (n * s.pixels() + p) * s.c + c;
    Random random({99, RandomStream::dropout, 3, std::uint64_t(in_memory)});
    const double expected = random.uniform() < 0.4 ? 0 : x[std::size_t(i)] / 0.6;
    EXPECT_NEAR(y[std::size_t(i)], expected, 1e-6) << i;
  }
}

/// A device may keep a packed copy of a weight, but not longer than its values.
TEST_P(Devices, RepackWeightsWhenTheyChange) {
  const ConvSpec spec{.x = {2, 32, 5, 6}, .k = 16, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  OpCase op;
  op.conv = spec;
  op.operands = {input("x", spec.x).from(FormatFrom::conv_x), fresh("y", spec.y()).from(FormatFrom::conv_y),
                 input("dy", spec.y()).from(FormatFrom::conv_y), fresh("dx", spec.x).from(FormatFrom::conv_x),
                 input("w", {16, 32, 3, 3})};
  CaseOperands o(*device_, op, Write::overwrite, formats_of(op, *device_));
  std::shared_ptr<void> packed;
  const auto run = [&](std::uint64_t version, bool keep) {
    WeightView w = o.weight("w");
    w.version = version;
    if (keep) w.packed = &packed;
    device_->conv(spec, o["y"], o["x"], w, {});
    device_->conv_data_grad(spec, o["dx"], Write::overwrite, o["dy"], w);
    std::vector<double> both = o.values("y");
    for (const double v : o.values("dx")) both.push_back(v);
    return both;
  };
  const std::vector<double> first = run(1, true);
  EXPECT_EQ(run(1, true), first);
  std::vector<double> doubled = o.values("w");
  for (double& v : doubled) v *= 2;
  o.set("w", doubled);
  const std::vector<double> second = run(2, true);
  EXPECT_EQ(second, run(2, false)) << "an old packed copy was used";
  for (std::size_t i = 0; i < first.size(); ++i) ASSERT_EQ(second[i], 2 * first[i]);
  packed.reset();  // before the device goes
}

TEST_P(Devices, RefuseToMixFormatsInOneElementWiseCall) {
  const auto o = operands({input("x", {1, 8, 2, 2}), fresh("y", {1, 8, 2, 2})});
  View y = (*o)["y"];
  y.format = kNchw;
  EXPECT_THROW(device_->map(Relu{}, y, Write::overwrite, {(*o)["x"]}), Error);
  EXPECT_THROW(device_->map(Add{}, (*o)["y"], Write::overwrite, {(*o)["x"]}), Error);
}

TEST(DeviceNames, Parse) {
  EXPECT_EQ(parse_device("cpu"), (Device{DeviceKind::cpu}));
  EXPECT_EQ(parse_device("reference"), (Device{DeviceKind::reference}));
  EXPECT_EQ(parse_device("cuda"), (Device{DeviceKind::cuda, 0}));
  EXPECT_EQ(parse_device("cuda:3"), (Device{DeviceKind::cuda, 3}));
  for (const Device& d : {Device{DeviceKind::cpu}, Device{DeviceKind::reference}, Device{DeviceKind::cuda, 2}})
    EXPECT_EQ(parse_device(to_string(d)), d);
  for (const char* bad : {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999999"})
    EXPECT_THROW(parse_device(bad), UsageError) << bad;
}

TEST(DeviceNames, AutoSaysWhatItChoseAndWhy) {
  std::string why;
  const Device device = parse_device("auto", &why);
  const std::string reason = cuda_unavailable_reason();
  EXPECT_EQ(device, reason.empty() ? (Device{DeviceKind::cuda, 0}) : (Device{DeviceKind::cpu}));
  EXPECT_FALSE(why.empty());
  EXPECT_NE(why.find(reason), std::string::npos) << why;
  EXPECT_NO_THROW(make_backend(device));
}

TEST(DeviceNames, AnAbsentGpuIsAnErrorWithTheReason) {
  const std::string reason = cuda_unavailable_reason();
  if (reason.empty()) GTEST_SKIP() << "this machine has a GPU";
  try {
    make_backend({DeviceKind::cuda, 0});
    FAIL() << "a GPU was opened";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
  }
}

TEST(DeviceNames, NegativeThreadsAreRefused) {
  EXPECT_THROW(make_backend({DeviceKind::cpu, 0}, {.threads = -1}), UsageError);
}

}  // namespace
}  // namespace graft
