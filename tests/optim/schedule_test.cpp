// Learning rates against torch.optim.lr_scheduler (torch_numbers.h), and warm-up by hand.
#include "optim/schedule.h"

#include <gtest/gtest.h>

#include "kernels/core.h"
#include "tests/optim/torch_numbers.h"

namespace graft {
namespace {

// PyTorch computes cosine and step by recursion, which rounds once per epoch.
constexpr double kRounding = 1e-15;

TEST(Schedule, CosineEqualsTorchAndChangesOncePerEpoch) {
  const Schedule s{.kind = ScheduleKind::cosine, .lr = 0.02, .epochs = 8, .steps_per_epoch = 3, .min_lr = 0.001};
  for (int epoch = 0; epoch < 8; ++epoch)
    for (int step = 0; step < 3; ++step)
      EXPECT_NEAR(s.at(epoch, step), torch_numbers::kCosine[epoch], kRounding) << epoch;
}

TEST(Schedule, CosineWithLongerHalfWave) {
  Schedule s{.kind = ScheduleKind::cosine, .lr = 0.02, .epochs = 4, .min_lr = 0.001, .t_max = 8};
  for (int epoch = 0; epoch < 4; ++epoch) EXPECT_NEAR(s.at(epoch, 0), torch_numbers::kCosine[epoch], kRounding);
}

TEST(Schedule, StepEqualsTorch) {
  const Schedule s{.kind = ScheduleKind::step, .lr = 0.02, .epochs = 8, .step_epochs = 3, .gamma = 0.3};
  for (int epoch = 0; epoch < 8; ++epoch) EXPECT_NEAR(s.at(epoch, 0), torch_numbers::kStep[epoch], kRounding) << epoch;
}

TEST(Schedule, OneCycleEqualsTorchAtEveryStep) {
  const Schedule s{.kind = ScheduleKind::one_cycle,
                   .lr = 0.02,
                   .epochs = 4,
                   .steps_per_epoch = 5,
                   .pct_start = 0.25,
                   .div = 10,
                   .final_div = 100};
  for (int step = 0; step < 20; ++step)
    EXPECT_NEAR(s.at(step / 5, step % 5), torch_numbers::kOneCycle[step], kRounding) << step;
}

TEST(Schedule, ConstantStaysAndWarmupClimbsEvenlyThenHandsOver) {
  Schedule s{.kind = ScheduleKind::constant, .lr = 0.5, .epochs = 6, .steps_per_epoch = 4};
  EXPECT_EQ(s.at(0, 0), 0.5);
  EXPECT_EQ(s.at(5, 3), 0.5);
  s.warmup_epochs = 2;
  EXPECT_DOUBLE_EQ(s.at(0, 0), 0.5 / 8);
  EXPECT_DOUBLE_EQ(s.at(1, 1), 0.5 * 6 / 8);
  EXPECT_DOUBLE_EQ(s.at(1, 3), 0.5);
  s.kind = ScheduleKind::cosine;
  EXPECT_DOUBLE_EQ(s.at(2, 0), 0.5);   // the half wave begins after the warm-up
  EXPECT_DOUBLE_EQ(s.at(4, 0), 0.25);  // and spans the four epochs left
  for (const ScheduleKind kind : {ScheduleKind::constant, ScheduleKind::cosine, ScheduleKind::step}) {
    s.kind = kind;
    for (std::int64_t step = 0; step < 8; ++step)
      EXPECT_DOUBLE_EQ(s.at(step / 4, step % 4), 0.5 * double(step + 1) / 8) << int(kind) << " " << step;
    EXPECT_DOUBLE_EQ(s.at(2, 0), 0.5) << int(kind);
  }
}

TEST(Schedule, SlantedTriangleClimbsAndFallsAsInUlmfit) {
  const Schedule s{.kind = ScheduleKind::slanted_triangular, .lr = 0.64, .epochs = 4, .steps_per_epoch = 10};
  // By hand from the paper's formula: T = 40, cut = 4, ratio = 32.
  EXPECT_DOUBLE_EQ(s.at(0, 0), 0.64 / 32);
  EXPECT_DOUBLE_EQ(s.at(0, 1), 0.64 * (1 + 0.25 * 31) / 32);
  EXPECT_DOUBLE_EQ(s.at(0, 4), 0.64);
  EXPECT_DOUBLE_EQ(s.at(2, 2), 0.64 * (1 + 0.5 * 31) / 32);  // t = 22, half way down
  EXPECT_DOUBLE_EQ(s.at(3, 9), 0.64 * (1 + 31.0 / 36) / 32);
  for (std::int64_t steps : {1, 2, 3, 19, 29})  // where T cut is not whole
    for (std::int64_t t = 0; t < steps; ++t) {
      const double lr = Schedule{.kind = s.kind, .lr = 1, .epochs = 1, .steps_per_epoch = steps}.at(0, t);
      EXPECT_GE(lr, 1.0 / 32) << t << " of " << steps;
      EXPECT_LE(lr, 1.0) << t << " of " << steps;
    }
}

TEST(Schedule, NamesAreChecked) {
  EXPECT_EQ(parse_schedule("one-cycle"), ScheduleKind::one_cycle);
  EXPECT_EQ(parse_schedule("slanted-triangular"), ScheduleKind::slanted_triangular);
  EXPECT_THROW(parse_schedule("linear"), UsageError);
}

}  // namespace
}  // namespace graft
