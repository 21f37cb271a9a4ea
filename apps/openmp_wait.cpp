#include "apps/openmp_wait.h"

#include <unistd.h>

#include <cstdlib>

namespace graft {

void limit_openmp_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  // About 50 microseconds: longer than neighbouring parallel loops need, shorter than a time slice.
  if (setenv("GOMP_SPINCOUNT", "2000", 0) == 0) execv("/proc/self/exe", argv);
}

}  // namespace graft
