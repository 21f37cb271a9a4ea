// Kernels on a step's time line, from records that are made up: which call each belongs to, how two clocks are brought
// together, and that those of one stream lie behind each other.
#include "strategies/analysis/kernel_times.h"

#include <gtest/gtest.h>

#include "strategies/analysis/step_profiler.h"

namespace graft {
namespace {

using Kind = DeviceActivity::Kind;

constexpr std::int64_t kBoot = 1'700'000'000'123'456'789;  // of the tracer's clock, as large as they are

DeviceActivity kernel(const char* name, std::int64_t begin_us, std::int64_t end_us, std::uint32_t correlation,
                      std::uint32_t stream = 7) {
  return {Kind::kernel, name, kBoot + 1000 * begin_us, kBoot + 1000 * end_us, stream, correlation};
}

TEST(KernelTimes, BelongToTheCallsThatLaunchedThem) {
  // Calls begin 10 us and 60 us after the step; the tracer's clock reads 100 us less.
  const ActivityRecords records{.activities = {kernel("second", -30, -10, 23), kernel("first", -85, -45, 21),
                                               kernel("first too", -44, -41, 22), kernel("nobody's", 0, 5, 99)},
                                .call_of = {{21, 1}, {22, 1}, {23, 2}, {24, 2}}};
  const std::vector<TimedKernel> kernels = place_kernels(records, std::vector{10e-6, 60e-6});
  ASSERT_EQ(kernels.size(), 4u);
  // "first" was nearest to its call's begin, by 5 us: it begins with it.
  const std::vector<std::tuple<std::string, std::int64_t, double, double>> expected{
      {"first", 0, 10, 40}, {"first too", 0, 51, 3}, {"second", 1, 65, 20}, {"nobody's", -1, 95, 5}};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& [name, call, begin_us, us] = expected[i];
    EXPECT_EQ(kernels[i].name, name);
    EXPECT_EQ(kernels[i].call, call) << name;
    EXPECT_NEAR(1e6 * kernels[i].begin, begin_us, 1e-3) << name;
    EXPECT_NEAR(1e6 * kernels[i].seconds, us, 1e-3) << name;
  }
}

TEST(KernelTimes, UploadsMayBeAheadOfTheirCall) {
  // The upload ran while the stream of calls was not yet at the call that sent it.
  ActivityRecords records{.activities = {kernel("a", 100, 110, 1), kernel("b", 120, 130, 2), kernel("", 20, 60, 3, 8)},
                          .call_of = {{1, 1}, {2, 2}, {3, 2}}};
  records.activities[2].kind = Kind::copy;
  const std::vector<TimedKernel> kernels = place_kernels(records, std::vector{100e-6, 115e-6});
  ASSERT_EQ(kernels.size(), 3u);
  EXPECT_NEAR(kernels[0].begin, 100e-6, 1e-9);
  EXPECT_EQ(kernels[2].stream, 8u);
  EXPECT_NEAR(kernels[2].begin, 20e-6, 1e-9);
  EXPECT_EQ(kernel_label(kernels[2]), "copy");
}

TEST(KernelTimes, OfOneStreamDoNotOverlapNorPrecedeTheStep) {
  const ActivityRecords records{.activities = {kernel("a", 0, 10, 1), kernel("b", 8, 20, 1),
                                               kernel("inside b", 12, 15, 1), kernel("early", -50, 4, 9, 3)},
                                .call_of = {{1, 1}}};
  const std::vector<TimedKernel> kernels = place_kernels(records, std::vector{0.0});
  ASSERT_EQ(kernels.size(), 4u);
  EXPECT_EQ(kernels[0].name, "early");
  double end = 0;
  for (const TimedKernel& k : kernels) {
    if (k.name == "a") end = 0;  // another stream
    EXPECT_GE(k.begin, end) << k.name;
    EXPECT_GE(k.seconds, 0) << k.name;
    end = k.begin + k.seconds;
  }
  EXPECT_NEAR(kernels[0].seconds, 4e-6, 1e-12);
  EXPECT_EQ(kernels[3].seconds, 0);
  EXPECT_TRUE(place_kernels({}, {}).empty());
}

TEST(KernelTimes, WithoutAKnownCallTheyBeginWithTheStep) {
  const ActivityRecords records{.activities = {kernel("a", 5, 6, 1), kernel("b", 7, 9, 2)}, .call_of = {{1, 40}}};
  const std::vector<TimedKernel> kernels = place_kernels(records, std::vector{3.0});
  EXPECT_EQ(kernels[0].begin, 0);
  EXPECT_EQ(kernels[0].call, -1);
  EXPECT_NEAR(kernels[1].begin, 2e-6, 1e-12);
}

TEST(KernelTimes, NamesWithoutWhatSaysNothing) {
  const auto label = [](const char* name) { return kernel_label({.name = name}); };
  EXPECT_EQ(label("void graft::gpu::(anonymous namespace)::input_kernel<float, 8>(graft::gpu::Rows<float>, long)"),
            "input_kernel<float, 8>");
  EXPECT_EQ(label("graft::gpu::(anonymous namespace)::resize_kernel(graft::ImageChange const*, int)"), "resize_kernel");
  EXPECT_EQ(label("void cutlass::Kernel2<f(int), (bool)1>(f::Params)"), "cutlass::Kernel2<f(int), (bool)1>");
  EXPECT_EQ(label("sm90_xmma_fprop_implicit_gemm_bf16"), "sm90_xmma_fprop_implicit_gemm_bf16");
  EXPECT_EQ(kernel_label({.kind = Kind::fill, .name = "memset"}), "fill");
}

/// Runs a kernel of a microsecond for each call, and two for "conv".
class FakeTracer final : public KernelTracer {
 public:
  explicit FakeTracer(int& starts) : starts_(starts) {}
  void start() override { ++starts_, records_ = {}, is_on_ = true; }
  void begin_call(std::uint64_t number) override {
    EXPECT_TRUE(is_on_);
    open_ = number;
  }
  void end_call() override {
    EXPECT_NE(open_, 0u);
    for (int i = 0; i < (open_ == 2 ? 2 : 1); ++i) {
      const auto n = std::uint32_t(records_.activities.size() + 1);
      records_.activities.push_back(kernel("k", 10 * n, 10 * n + 1, n));
      records_.call_of[n] = open_;
    }
    open_ = 0;
  }
  ActivityRecords stop() override {
    is_on_ = false;
    return std::move(records_);
  }

 private:
  int& starts_;
  ActivityRecords records_;
  std::uint64_t open_ = 0;
  bool is_on_ = false;
};

TEST(KernelTimes, AreCountedForTheCallsOfTimedSteps) {
  int starts = 0;
  StepProfiler profiler;
  profiler.attach(std::make_unique<HostTimer>());
  profiler.attach(std::make_unique<FakeTracer>(starts));
  const auto step = [&] {
    profiler.push_range("step");
    profiler.push_range("forward");
    for (const char* op : {"copy", "conv", "map"})
      profiler.call({.op = op, .detail = {}, .writes = {}, .reads = {}}, [] {});
    profiler.pop_range();
    profiler.pop_range();
  };
  profiler.set_mode(StepProfiler::Mode::step);
  step();
  EXPECT_EQ(starts, 0) << "whole steps are timed as they are";
  profiler.set_mode(StepProfiler::Mode::calls);
  step();
  const std::vector<TimedStep> steps = profiler.take_steps();
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_TRUE(steps[0].kernels.empty());
  EXPECT_EQ(steps[1].kernels.size(), 4u);
  EXPECT_EQ(steps[1].calls[0].kernels, 1);
  EXPECT_EQ(steps[1].calls[1].kernels, 2);
  EXPECT_EQ(steps[1].calls[2].kernels, 1);
  EXPECT_EQ(starts, 1);
}

TEST(KernelTimes, ACpuSaysThatItHasNone) {
  const std::unique_ptr<Backend> cpu = make_backend({DeviceKind::cpu});
  EXPECT_THROW((void)cpu->make_kernel_tracer(), Error);
}

}  // namespace
}  // namespace graft
