// How many threads a program starts that nobody told how many.
#pragma once

namespace graft {

/// The cores that this process may run on, or fewer where OMP_NUM_THREADS or, on a cluster that does not bind its jobs
/// to cores, SLURM_CPUS_PER_TASK says so. At least 1.
int usable_cores();

}  // namespace graft
