#include <gtest/gtest.h>

#include "data/model_file.h"
#include "tests/apps/program_testing.h"
#include "tests/shared_model.h"

namespace graft::testing {
namespace {

TEST(SharedModel, IsMade) {
  if (const auto path = shared_model()) std::filesystem::remove(*path);  // an earlier program's
  EXPECT_EQ(read_model_file(Workshop::get().model()).info.architecture, "densenet121");
}

}  // namespace
}  // namespace graft::testing
