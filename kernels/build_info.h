// How this program was built: versions, flags, and the CUDA backend or the reason for its absence. The values are fixed
// by CMake (cmake/build_info.cpp.in); nothing here looks at the running machine, which `graft devices` does.
#pragma once

#include <string_view>

namespace graft {

struct BuildInfo {
  std::string_view version;        // graft's own, "0.1.0"
  std::string_view compiler;       // "GNU 12.2.0"
  std::string_view compile_flags;  // optimisation flags of the build type, "-O2 -g1"
  std::string_view march;          // value of -march=, the oldest CPU that can run this program
  std::string_view sanitizers;     // "address;undefined", empty without

  std::string_view onednn_version;  // versions compiled against, "2.6.3"
  std::string_view hdf5_version;

  std::string_view cuda_version;        // toolkit the CUDA backend was compiled with, empty without CUDA
  std::string_view cudnn_version;       // "9.13.0", empty without CUDA
  std::string_view cuda_archs;          // "80;90", empty without CUDA
  std::string_view cuda_absent_reason;  // one clause without a full stop, empty with CUDA

  std::string_view cuda_module_file;    // file name of the module to load, "graft_cuda.so"
  std::string_view dicom_module_file;   // "graft_dicom.so", empty without DCMTK
  std::string_view mpi_module_file;     // "graft_mpi.so", empty without MPI
  std::string_view module_dir;          // where the build tree puts them
  std::string_view module_install_dir;  // where `cmake --install` puts them, absolute
};

const BuildInfo& build_info();

}  // namespace graft
