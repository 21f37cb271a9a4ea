// Which blocks from the first on a plan freezes for good.
#include "strategies/batches/frozen_prefix.h"

#include <gtest/gtest.h>

#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::small_network;

TEST(FrozenPrefix, EndsAtTheFirstBlockThatTrainsOrWhoseStatisticsMove) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 1}));
  const auto network = small_network(context, "resnet50");
  const ParameterSet& set = network->parameters();
  const FreezePlan frozen = FreezePlan::frozen(set);

  FreezePlan plan = frozen;
  plan.train_head(set);
  EXPECT_EQ(frozen_prefix(*network, plan).parts, network->head_part());
  EXPECT_EQ(frozen_prefix(*network, plan).limit, "the head trains");
  plan.train_block(set, 4);
  EXPECT_EQ(frozen_prefix(*network, plan).parts, 4);
  EXPECT_EQ(frozen_prefix(*network, plan).limit, "layer4 trains");
  plan = frozen;
  plan.set_trains(set, {.name = "layer2.1.bn2.bias"}, true);
  EXPECT_EQ(frozen_prefix(*network, plan).parts, 2);

  plan = frozen;
  plan.train_head(set);
  plan.set_all_norms({.uses_batch_statistics = false, .updates_running = true});
  FrozenPrefix prefix = frozen_prefix(*network, plan);
  EXPECT_EQ(prefix.parts, 0);
  EXPECT_EQ(prefix.frozen_parameters, network->head_part());
  EXPECT_EQ(prefix.limit, "batch norm of stem updates its running statistics");
  plan = frozen;
  plan.train_block(set, 3);  // its statistics move, and then its parameters are frozen again
  for (std::int64_t i = 0; i < std::int64_t(set.parameters().size()); ++i) plan.set_trains(i, false);
  plan.train_head(set);
  prefix = frozen_prefix(*network, plan);
  EXPECT_EQ(prefix.parts, 3);
  EXPECT_EQ(prefix.frozen_parameters, network->head_part());
  EXPECT_EQ(prefix.limit, "batch norm of layer3 uses batch statistics");
}

TEST(FrozenPrefix, CountsWhatSharesTheHeadsBlockAsBeforeTheHead) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 1}));
  for (const char* architecture : {"densenet121", "vgg19"}) {
    const auto network = small_network(context, architecture);
    const ParameterSet& set = network->parameters();
    FreezePlan plan = FreezePlan::frozen(set);
    plan.train_head(set);
    EXPECT_EQ(frozen_prefix(*network, plan).parts, network->head_part());
    plan.train_block(set, network->head_part() - 1);
    EXPECT_EQ(frozen_prefix(*network, plan).parts, network->head_part() - 1);
    EXPECT_EQ(frozen_prefix(*network, plan).limit, "classifier trains");
    EXPECT_EQ(frozen_prefix(*network, FreezePlan::trainable(set)).parts, 0);
  }
}

}  // namespace
}  // namespace graft
