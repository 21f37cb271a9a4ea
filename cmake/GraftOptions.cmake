# Language standard, build type, warnings, sanitizers and target CPU for the whole tree. Vendor libraries are in
# GraftDependencies, CUDA in GraftCuda.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)  # the CUDA module links the same static libraries

# Every program lies in one directory, and the modules beside them, where the loader looks first.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)

option(GRAFT_BUILD_TESTS "Build the tests" ON)
option(GRAFT_BUILD_BENCH "Build the benchmarks" ON)
option(GRAFT_DICOM "Read DICOM files, where DCMTK is installed" ON)
option(GRAFT_MPI "Train in several processes, where MPI is installed" ON)
option(GRAFT_WERROR "Treat warnings as errors" OFF)
option(GRAFT_GROUP_SOURCES "Compile source files in groups, for builds from nothing; a missing #include then goes unnoticed" OFF)
option(GRAFT_TESTS_ONLY "Compile quickly what tests do not wait for: less optimised strategies/, apps/ and bench/, device code of any speed" OFF)
set(GRAFT_SANITIZE "" CACHE STRING "Sanitizers to build with, such as \"address;undefined\"")

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(graft_default_march x86-64-v3)  # AVX2 and FMA
else()
  set(graft_default_march native)
endif()
set(GRAFT_MARCH ${graft_default_march} CACHE STRING "Value of -march= for the whole tree; older CPUs cannot run it")

if(GRAFT_MARCH MATCHES "^x86-64-v[234]$")
  include(CheckLinkerFlag)
  check_linker_flag(CXX LINKER:-z,${GRAFT_MARCH} GRAFT_LINKER_MARKS_CPU)
endif()

# For scripts/make_bundle.sh: programs look for libraries in ../lib beside them. RPATH rather than RUNPATH, since it serves
# the libraries' own libraries too.
option(GRAFT_BUNDLE "Link programs so that they run from a folder with bin/ and lib/" OFF)
if(GRAFT_BUNDLE)
  set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
  set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib")
  add_link_options(LINKER:--disable-new-dtags)
endif()

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release or Debug" FORCE)
endif()

# Asserts guard internal invariants and stay on in every build; line tables make profiles and backtraces readable.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_CUDA_FLAGS_RELEASE "-O2")

if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(GRAFT_CCACHE ccache)
  mark_as_advanced(GRAFT_CCACHE)
  if(GRAFT_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${GRAFT_CCACHE})
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${GRAFT_CCACHE})
  endif()
endif()

set(graft_warnings
    -Wall
    -Wextra
    -Wpedantic
    -Wshadow=local
    -Wnon-virtual-dtor
    -Wno-missing-field-initializers)  # designated initialisers name what they set and default the rest
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarms of GCC 12 in inlined library code: std::string's operator+ (GCC bug 105651), and fmt's buffers with -O3.
  list(APPEND graft_warnings -Wno-restrict -Wno-stringop-overflow)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND GRAFT_SANITIZE)
  list(APPEND graft_warnings -Wno-maybe-uninitialized)  # false alarms on instrumented code
endif()
if(GRAFT_WERROR)
  list(APPEND graft_warnings -Werror)
endif()

add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${graft_warnings}>" "$<$<COMPILE_LANGUAGE:CXX>:-march=${GRAFT_MARCH}>"
                    "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-march=${GRAFT_MARCH},-Wall>")
# The host's code has no fused multiply-adds, but for Winograd's loops over vectors (kernels/CMakeLists.txt): GCC makes several versions of a loop, of which the addresses of a run choose one,
# and may fuse in some of them only, so equal runs would differ in their last bits. Nor would bytes of images and statistics
# equal other programs' bits.
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>" "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-ffp-contract=off>")
if(GRAFT_WERROR)
  add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>" "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Werror>")
endif()

if(GRAFT_SANITIZE)
  list(JOIN GRAFT_SANITIZE "," graft_sanitizers)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${graft_sanitizers};-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
  add_link_options(-fsanitize=${graft_sanitizers})
endif()
