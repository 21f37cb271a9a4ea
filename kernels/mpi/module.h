// What the MPI module gives to the program that opens it: one exported function that returns this table. It is a module
// since MPI's libraries differ from machine to machine, and are there for runs of several processes alone.
#pragma once

#include <memory>
#include <string>

#include "kernels/ranks.h"

namespace graft {

struct MpiModule {
  const char* version;  // build_info().version of the module
  /// Starts MPI. Once per process. Unless Ranks::finish was called, the end of the process ends all the others.
  std::unique_ptr<Ranks> (*join)();
  std::string (*library)();  // "MPICH 4.0.2"; after join()
};

/// The type and the name of the exported function.
using MpiModuleFunction = const MpiModule* (*)();
inline constexpr const char* kMpiModuleFunction = "graft_mpi_module";

}  // namespace graft
