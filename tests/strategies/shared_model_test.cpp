#include <gtest/gtest.h>

#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

TEST(SharedModel, IsMade) {
  if (const auto path = testing::shared_model()) std::filesystem::remove(*path);  // an earlier program's
  EXPECT_EQ(read_model_file(testing::Workshop::get().model()).info.num_classes, 5);
}

}  // namespace
}  // namespace graft
