// Who asks for no number of threads gets what the machine, or whoever shares it out, allows.
#include "kernels/usable_cores.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace graft {
namespace {

class UsableCores : public ::testing::Test {
 protected:
  UsableCores() { clear(); }
  ~UsableCores() override { clear(); }
  static void clear() {
    unsetenv("OMP_NUM_THREADS");
    unsetenv("SLURM_CPUS_PER_TASK");
  }
};

TEST_F(UsableCores, AreFewerWhereTheEnvironmentSaysSo) {
  const int all = usable_cores();
  EXPECT_GE(all, 1);
  for (const char* name : {"OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"}) {
    setenv(name, "1", 1);
    EXPECT_EQ(usable_cores(), 1) << name;
    for (const char* other : {"1000000", "0", "-3", "many", ""}) {
      setenv(name, other, 1);
      EXPECT_EQ(usable_cores(), all) << name << " " << other;
    }
    setenv(name, "1,4", 1);
    EXPECT_EQ(usable_cores(), 1) << name;
    unsetenv(name);
  }
}

}  // namespace
}  // namespace graft
