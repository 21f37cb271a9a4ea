#include "kernels/usable_cores.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

namespace graft {

int usable_cores() {
  cpu_set_t set;  // of at most 1024 cores
  long cores =
      sched_getaffinity(0, sizeof set, &set) == 0 ? long(CPU_COUNT(&set)) : long(std::thread::hardware_concurrency());
  for (const char* name : {"OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"}) {
    const char* text = std::getenv(name);
    const long wanted = text ? std::strtol(text, nullptr, 10) : 0;  // of "4,2" the outer level
    if (wanted > 0) cores = std::min(cores, wanted);
  }
  return int(std::max(1L, cores));
}

}  // namespace graft
