// How a plan is chosen: a stand-in for the GPU answers with the times and results that each test gives it.
#include "kernels/cuda/plan_choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <span>

namespace graft {
namespace {

constexpr double kRefuses = -1;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct FakePlan {
  const char* name;
  std::int64_t workspace_bytes;
  double seconds;     // kRefuses: does not run
  double result = 1;  // one number; two plans' difference is that of these
  bool compiles = false;
};

class FakeGpu final : public PlanTrial {
 public:
  explicit FakeGpu(std::vector<FakePlan> plans) : plans_(std::move(plans)) {}

  void prepare(std::span<const std::size_t> several) override {
    for (const std::size_t i : several) {
      prepared.push_back(plans_[i].name);
      if (plans_[i].seconds != kRefuses) loaded.insert(plans_[i].name);
    }
  }
  void load(std::size_t i) override {
    loaded.insert(plans_[i].name);
    if (plans_[i].seconds == kRefuses) throw Error("no kernel image");
  }
  void unload(std::size_t i) noexcept override { loaded.erase(plans_[i].name); }
  double time(std::size_t i) override {
    timed.push_back(plans_[i].name);
    loaded.insert(plans_[i].name);
    if (plans_[i].seconds == kRefuses) throw Error("no kernel image");
    return plans_[i].seconds;
  }
  bool compared_nothing() const override { return told_nothing; }
  double difference(std::size_t a, std::size_t b) override {
    ++comparisons;
    EXPECT_TRUE(loaded.contains(plans_[a].name) && loaded.contains(plans_[b].name));
    return std::abs(plans_[a].result - plans_[b].result);
  }

  PlanRecord choose(PlanLimits limits = {.workspace_bytes = 100, .tolerance = 0.01}) {
    return choose_plan("conv", candidates(), limits, *this);
  }
  /// The plan that is taken from what is known; empty: none.
  std::string known(const char* recorded, const char* cached) {
    const PlanRecord of_run{.graph = "conv", .plan = recorded ? recorded : "", .source = "recorded"},
        of_disk{.graph = "conv", .plan = cached ? cached : "", .source = "cached"};
    notes.clear();
    const auto plan = known_plan("conv", candidates(), {recorded ? &of_run : nullptr, cached ? &of_disk : nullptr}, 100,
                                 *this, notes);
    return plan ? plan->plan + " " + plan->source : "";
  }

  PlanRecord choose_way(double tolerance = 0.01) {
    return graft::choose_way("layer", {plans_[0].name, plans_[1].name}, {.tolerance = tolerance}, *this);
  }

  std::vector<std::string> prepared, timed, notes;
  std::set<std::string> loaded;
  int comparisons = 0;
  bool told_nothing = false;

 private:
  std::vector<PlanCandidate> candidates() const {
    std::vector<PlanCandidate> all;
    for (const FakePlan& p : plans_) all.push_back({p.name, p.workspace_bytes, p.compiles});
    return all;
  }
  std::vector<FakePlan> plans_;
};

std::string message_of(FakeGpu& gpu, const PlanLimits& limits = {.workspace_bytes = 100, .tolerance = 0.01}) {
  try {
    gpu.choose(limits);
  } catch (const Error& error) {
    return error.what();
  }
  return "chose one";
}

TEST(PlanChoice, TakesTheFastestThatASecondEngineConfirms) {
  FakeGpu gpu({{"eng1_k2=0", 0, 3e-3}, {"eng1_k2=1", 8, 1e-3}, {"eng7_k2=4", 0, 2e-3}});
  const PlanRecord r = gpu.choose();
  EXPECT_EQ(r.graph, "conv");
  EXPECT_EQ(r.plan, "eng1_k2=1");
  EXPECT_EQ(r.source, "timed");
  EXPECT_EQ(r.workspace_bytes, 8);
  EXPECT_DOUBLE_EQ(r.microseconds, 1000);
  EXPECT_EQ(r.checked_against, "eng7_k2=4");  // not its own engine's slower plan
  EXPECT_EQ(r.difference, 0);
  EXPECT_EQ(r.note, "");
}

TEST(PlanChoice, NeverExceedsTheWorkspace) {
  FakeGpu gpu({{"eng1", 101, 1e-3}, {"eng2", 100, 2e-3}, {"eng3", 0, 3e-3}});
  const PlanRecord r = gpu.choose();
  EXPECT_EQ(r.plan, "eng2");
  EXPECT_EQ(gpu.timed, (std::vector<std::string>{"eng2", "eng3"}));  // eng1 is not even run
  EXPECT_NE(r.note.find("1 of 3 plans need more"), std::string::npos) << r.note;
}

TEST(PlanChoice, TimesThatTieGoByWorkspaceThenByCudnnsOrder) {
  FakeGpu by_workspace({{"eng1", 50, 1.00e-3}, {"eng2", 10, 1.02e-3}, {"eng3", 0, 1.10e-3}});
  EXPECT_EQ(by_workspace.choose().plan, "eng2");
  FakeGpu by_order({{"eng1", 10, 1.02e-3}, {"eng2", 10, 1.00e-3}});
  EXPECT_EQ(by_order.choose().plan, "eng1");
  FakeGpu no_tie({{"eng1", 0, 1.04e-3}, {"eng2", 90, 1.00e-3}});
  EXPECT_EQ(no_tie.choose().plan, "eng2");
}

TEST(PlanChoice, PlansThatDoNotRunAreLeftOut) {
  FakeGpu gpu({{"eng1", 0, kRefuses}, {"eng2", 0, 2e-3}, {"eng3", 0, 3e-3}});
  const PlanRecord r = gpu.choose();
  EXPECT_EQ(r.plan, "eng2");
  EXPECT_EQ(r.note, "eng1 does not run (no kernel image)");
}

TEST(PlanChoice, AnEngineThatStandsAloneAgainstTwoIsDropped) {
  FakeGpu gpu({{"eng1", 0, 1e-3, 1.5}, {"eng2", 0, 2e-3, 1.001}, {"eng3", 0, 3e-3, 1.002}});
  const PlanRecord r = gpu.choose();
  EXPECT_EQ(r.plan, "eng2");
  EXPECT_EQ(r.checked_against, "eng3");
  EXPECT_NEAR(r.difference, 0.001, 1e-9);
  EXPECT_NE(r.note.find("eng1 and eng2 differ by 0.5"), std::string::npos) << r.note;
  EXPECT_EQ(gpu.comparisons, 3);
}

TEST(PlanChoice, ANanNeverAgrees) {
  FakeGpu gpu({{"eng1", 0, 1e-3, kNan}, {"eng2", 0, 2e-3}, {"eng3", 0, 3e-3}});
  EXPECT_EQ(gpu.choose().plan, "eng2");
}

TEST(PlanChoice, WhereNoTwoAgreeItStops) {
  FakeGpu gpu({{"eng1", 0, 1e-3, 1}, {"eng2", 0, 2e-3, 2}});
  const std::string message = message_of(gpu);
  EXPECT_NE(message.find("engines disagree"), std::string::npos) << message;
  EXPECT_NE(message.find("eng1 and eng2 differ by 1"), std::string::npos) << message;
}

TEST(PlanChoice, ASingleEngineIsTakenUncheckedAndSaysSo) {
  FakeGpu gpu({{"eng5_a", 0, 2e-3}, {"eng5_b", 0, 1e-3}});
  const PlanRecord r = gpu.choose();
  EXPECT_EQ(r.plan, "eng5_b");
  EXPECT_EQ(r.checked_against, "");
  EXPECT_NE(r.note.find("no second engine"), std::string::npos);
  EXPECT_EQ(gpu.comparisons, 0);
}

TEST(PlanChoice, TimesAFewAndSearchesOnForASecondEngine) {
  FakeGpu gpu(
      {{"eng1_a", 0, 1e-3}, {"eng1_b", 0, 2e-3}, {"eng1_c", 0, 3e-3}, {"eng2_a", 0, 4e-3}, {"eng3_a", 0, 5e-4}});
  const PlanRecord r = gpu.choose({.workspace_bytes = 0, .timed = 2, .tolerance = 0.01});
  EXPECT_EQ(gpu.timed, (std::vector<std::string>{"eng1_a", "eng1_b", "eng2_a"}));
  EXPECT_EQ(r.plan, "eng1_a");
  EXPECT_EQ(r.checked_against, "eng2_a");
}

TEST(PlanChoice, OnlyTheChosenPlanStaysLoaded) {
  FakeGpu gpu({{"eng1_a", 0, 2e-3}, {"eng1_b", 0, 1e-3}, {"eng2", 0, kRefuses}, {"eng3", 0, 3e-3}, {"eng4", 0, 4e-3}});
  EXPECT_EQ(gpu.choose().plan, "eng1_b");
  EXPECT_EQ(gpu.timed.size(), 5u);
  EXPECT_EQ(gpu.loaded, (std::set<std::string>{"eng1_b"}));
  FakeGpu single({{"eng5_a", 0, 2e-3}, {"eng5_b", 0, 1e-3}});
  EXPECT_EQ(single.choose().plan, "eng5_b");
  EXPECT_EQ(single.loaded, (std::set<std::string>{"eng5_b"}));
  FakeGpu third({{"eng1", 0, 1e-3, 1.5}, {"eng2", 0, 2e-3, 1.001}, {"eng3", 0, 3e-3, 1.002}});
  EXPECT_EQ(third.choose().plan, "eng2");
  EXPECT_EQ(third.loaded, (std::set<std::string>{"eng2"}));
}

TEST(PlanChoice, WhatIsTimedWasMadeReadyBefore) {
  FakeGpu all({{"eng1_a", 0, 1e-3}, {"eng1_b", 101, 1e-3}, {"eng2", 0, 2e-3}, {"eng3", 0, 3e-3}});
  all.choose({.workspace_bytes = 100, .timed = 2, .tolerance = 0.01});
  EXPECT_EQ(all.prepared, (std::vector<std::string>{"eng1_a", "eng2"}));
  EXPECT_EQ(all.timed, all.prepared);
  FakeGpu in_need({{"eng1", 0, kRefuses}, {"eng2", 0, 2e-3}, {"eng3", 0, 3e-3}});  // of one more when one does not run
  in_need.choose({.workspace_bytes = 100, .timed = 2, .tolerance = 0.01});
  EXPECT_EQ(in_need.prepared, (std::vector<std::string>{"eng1", "eng2"}));
  EXPECT_EQ(in_need.timed, (std::vector<std::string>{"eng1", "eng2", "eng3"}));
  EXPECT_EQ(in_need.loaded, std::set<std::string>{"eng2"});
}

TEST(PlanChoice, FewPlansAreCompiledAtRunTime) {
  FakeGpu gpu({{"eng1_a", 0, 3e-3, 1, true},
               {"eng1_b", 0, 2e-3, 1, true},
               {"eng1_c", 0, 1e-3, 1, true},
               {"eng2_a", 0, 4e-3},
               {"eng3_a", 0, 1e-3, 1, true},
               {"eng2_b", 0, 1.5e-3}});
  const PlanRecord r = gpu.choose({.workspace_bytes = 0, .compiled = 2, .tolerance = 0.01});
  EXPECT_EQ(gpu.timed, (std::vector<std::string>{"eng1_a", "eng1_b", "eng2_a", "eng2_b"}));
  EXPECT_EQ(r.plan, "eng2_b");
  EXPECT_EQ(r.checked_against, "eng1_b");
}

TEST(PlanChoice, OneMoreIsCompiledWhereThereIsNoOtherSecondEngine) {
  FakeGpu gpu({{"eng1_a", 0, 3e-3, 1, true},
               {"eng1_b", 0, 2e-3, 1, true},
               {"eng1_c", 0, 1e-3, 1, true},
               {"eng3_a", 0, 5e-3, 1, true},
               {"eng3_b", 0, 1e-3, 1, true}});
  const PlanRecord r = gpu.choose({.workspace_bytes = 0, .compiled = 2, .tolerance = 0.01});
  EXPECT_EQ(gpu.timed, (std::vector<std::string>{"eng1_a", "eng1_b", "eng3_a"}));
  EXPECT_EQ(r.plan, "eng1_b");
  EXPECT_EQ(r.checked_against, "eng3_a");
}

TEST(PlanChoice, ARunThatContinuesKeepsItsPlans) {
  FakeGpu gpu({{"eng1", 0, 1e-3}, {"eng2", 0, 2e-3}, {"eng3", 101, 1e-3}, {"eng4", 0, kRefuses}});
  EXPECT_EQ(gpu.known("eng2", "eng1"), "eng2 recorded");
  EXPECT_EQ(gpu.loaded, (std::set<std::string>{"eng2"}));
  EXPECT_EQ(gpu.known(nullptr, "eng1"), "eng1 cached");
  EXPECT_EQ(gpu.notes.size(), 0u);
  EXPECT_EQ(gpu.known(nullptr, nullptr), "");
  EXPECT_TRUE(gpu.timed.empty());
  EXPECT_EQ(gpu.notes.size(), 0u);
}

TEST(PlanChoice, APlanThatARunCannotKeepIsToldInOneLine) {
  FakeGpu gpu({{"eng1", 0, 1e-3}, {"eng2", 0, 2e-3}, {"eng3", 101, 1e-3}, {"eng4", 0, kRefuses}});
  const auto expect_note = [&](const std::string& part) {
    ASSERT_EQ(gpu.notes.size(), 1u) << part;
    EXPECT_NE(gpu.notes[0].find(part), std::string::npos) << gpu.notes[0];
    EXPECT_EQ(gpu.notes[0].find('\n'), std::string::npos);
  };
  EXPECT_EQ(gpu.known("eng9", "eng1"), "eng1 cached");
  expect_note("conv: the plan eng9 of this run so far is not offered any more; from here on its results may differ");
  EXPECT_EQ(gpu.known("eng3", nullptr), "");
  expect_note("eng3 of this run so far needs too much workspace");
  EXPECT_EQ(gpu.known("eng4", "eng4"), "");
  expect_note("eng4 of this run so far cannot be built: no kernel image");
  EXPECT_FALSE(gpu.loaded.contains("eng4"));
  EXPECT_EQ(gpu.known(nullptr, "eng9"), "");
  expect_note("the remembered plan eng9 is not offered any more; plans are timed again");
}

TEST(PlanChoice, ARecordIsReadFromItsLine) {
  const PlanRecord written{.graph = "conv+bias bf16 x [16,64,56,56] w [64,64,3,3] stride 1x1 pad 1x1 any-order",
                           .plan = "eng1_k2=4_k18=0",
                           .workspace_bytes = 3 << 19,
                           .microseconds = 41.2,
                           .source = "timed",
                           .checked_against = "eng7_k2=1",
                           .difference = 0.0012,
                           .note = "eng3 does not run (no, us, within 3 of x)"};
  const std::optional<PlanRecord> read = recorded_plan(to_string(written));
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->graph, written.graph);
  EXPECT_EQ(read->plan, written.plan);
  EXPECT_EQ(read->source, "recorded");
  EXPECT_DOUBLE_EQ(read->microseconds, 41.2);
  EXPECT_DOUBLE_EQ(read->difference, 0.0012);
  EXPECT_EQ(read->checked_against, written.checked_against);
  EXPECT_EQ(recorded_plan("conv x: eng1, first, 0.0 MiB")->plan, "eng1");
  for (const char* line : {"", "conv", "conv: eng1", ": eng1, first", "conv: , first"})
    EXPECT_FALSE(recorded_plan(line).has_value()) << line;
}

TEST(PlanChoice, SaysWhyNothingCanBeUsed) {
  FakeGpu too_large({{"eng1", 200, 1e-3}});
  EXPECT_NE(message_of(too_large).find("1 of 1 plans need more than 0 MiB"), std::string::npos);
  FakeGpu broken({{"eng1", 0, kRefuses}});
  EXPECT_NE(message_of(broken).find("no kernel image"), std::string::npos);
  FakeGpu none({});
  EXPECT_NE(message_of(none).find("none of cuDNN's 0 plans"), std::string::npos);
}

TEST(PlanChoice, ToleranceFollowsWhatATypeCanHold) {
  EXPECT_LT(plan_tolerance(DType::f32, false), plan_tolerance(DType::f16, false));
  EXPECT_LT(plan_tolerance(DType::f16, false), plan_tolerance(DType::f32, true));
  EXPECT_LT(plan_tolerance(DType::f32, true), plan_tolerance(DType::bf16, false));
}

TEST(PlanChoice, ARecordIsOneLine) {
  const PlanRecord r{.graph = "conv x",
                     .plan = "eng1_k2=4",
                     .workspace_bytes = 3 << 19,
                     .microseconds = 41.23,
                     .source = "timed",
                     .checked_against = "eng7",
                     .difference = 0.0012,
                     .note = "eng3 does not run"};
  EXPECT_EQ(to_string(r), "conv x: eng1_k2=4, timed, 41.2 us, 1.5 MiB, within 0.0012 of eng7; eng3 does not run");
}

TEST(WayChoice, TheLeanerWayIsTakenWhereItIsAsFastAndGivesTheSame) {
  for (const double seconds : {0.5, 1.0, 1.02}) {
    FakeGpu gpu({{"parts", 0, 1.0, 1}, {"fused", 0, seconds, 1.005}});
    const PlanRecord record = gpu.choose_way();
    EXPECT_EQ(record.plan, "fused") << seconds;
    EXPECT_EQ(record.checked_against, "parts");
    EXPECT_NEAR(record.difference, 0.005, 1e-12);
    EXPECT_EQ(record.microseconds, seconds * 1e6);
    EXPECT_EQ(record.other_microseconds, 1e6);
    EXPECT_EQ(record.source, "timed");
    EXPECT_EQ(gpu.timed, (std::vector<std::string>{"parts", "fused", "parts", "fused"}));
  }
  FakeGpu slower({{"parts", 0, 1.0}, {"fused", 0, 1.1}});
  EXPECT_EQ(slower.choose_way().plan, "parts");
  EXPECT_EQ(slower.choose_way().checked_against, "fused");
}

TEST(WayChoice, TheFirstWayIsTakenWhereTheOtherIsNotConfirmed) {
  for (const double result : {1.02, kNan}) {
    FakeGpu gpu({{"parts", 0, 1.0, 1}, {"fused", 0, 0.5, result}});
    const PlanRecord record = gpu.choose_way();
    EXPECT_EQ(record.plan, "parts");
    EXPECT_EQ(record.source, "first");
    EXPECT_NE(record.note.find("parts and fused differ by"), std::string::npos) << record.note;
  }
  FakeGpu zeros({{"parts", 0, 1.0, kNan}, {"fused", 0, 0.5, kNan}});
  zeros.told_nothing = true;
  EXPECT_EQ(zeros.choose_way().plan, "parts");
  FakeGpu equal_zeros({{"parts", 0, 1.0, 0}, {"fused", 0, 0.5, 0}});
  equal_zeros.told_nothing = true;
  EXPECT_EQ(equal_zeros.choose_way().plan, "parts");
  EXPECT_EQ(zeros.choose_way().note, "parts and fused gave nothing to compare");
  FakeGpu no_kernel({{"parts", 0, 1.0}, {"fused", 0, kRefuses}}), no_plan({{"parts", 0, kRefuses}, {"fused", 0, 1.0}});
  for (FakeGpu* gpu : {&no_kernel, &no_plan}) {
    const PlanRecord record = gpu->choose_way();
    EXPECT_EQ(record.plan, "parts");
    EXPECT_EQ(record.note, "no kernel image");
    EXPECT_EQ(gpu->comparisons, 0);
  }
}

}  // namespace
}  // namespace graft
