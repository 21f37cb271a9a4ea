#include "kernels/usable_cores.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>

namespace graft {

int usable_cores() {
  cpu_set_t set;
  long cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  for (const char* name : {"OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"}) {
    const char* text = std::getenv(name);
    const long wanted = text ? std::strtol(text, nullptr, 10) : 0;  // of "4,2" the outer level
    if (wanted > 0) cores = std::min(cores, wanted);
  }
  return int(std::max(1L, cores));
}

}  // namespace graft
