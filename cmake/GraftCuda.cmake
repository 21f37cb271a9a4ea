# Decides on CUDA and says why. It is on when nvcc, cuDNN >= 9 and the cudnn-frontend headers are found; otherwise
# GRAFT_CUDA_ABSENT_REASON holds one sentence that the program repeats. With GRAFT_CUDA=ON a missing piece is an error.
# Targets defined here: graft_cudnn (cuDNN, cudnn-frontend, cuBLAS, cuBLASLt, NVRTC, the CUDA runtime).

set(GRAFT_CUDA AUTO CACHE STRING "CUDA backend: AUTO, ON or OFF")
set_property(CACHE GRAFT_CUDA PROPERTY STRINGS AUTO ON OFF)
set(GRAFT_CUDA_ARCHS "80;90" CACHE STRING "GPU architectures to compile for")
set(GRAFT_CUDNN_FRONTEND_DIR "$ENV{HOME}/.cache/graft/cudnn-frontend" CACHE PATH
    "Folder whose include/ holds cudnn_frontend.h; scripts/install_deps.sh --cuda fills the default")

set(GRAFT_CUDA_ENABLED OFF)
set(GRAFT_CUDA_ABSENT_REASON "")
set(GRAFT_CUDNN_VERSION "")

# graft_check_archs(): leaves out of GRAFT_CUDA_ARCHS what this nvcc cannot compile for (sm_100 and sm_120 need 12.8); with
# GRAFT_CUDA=ON that is an error.
macro(graft_check_archs)
  execute_process(COMMAND ${GRAFT_NVCC} --list-gpu-arch OUTPUT_VARIABLE graft_known_archs)
  set(graft_left_archs "")
  set(graft_unknown_archs "")
  foreach(arch IN LISTS GRAFT_CUDA_ARCHS)
    string(REGEX MATCH "^[0-9]+" number "${arch}")
    if(graft_known_archs MATCHES "compute_${number}\n")
      list(APPEND graft_left_archs ${arch})
    else()
      list(APPEND graft_unknown_archs ${arch})
    endif()
  endforeach()
  if(graft_unknown_archs)
    list(JOIN graft_unknown_archs " " graft_unknown_archs)
    set(reason "nvcc ${CUDAToolkit_VERSION} cannot compile for ${graft_unknown_archs} (GRAFT_CUDA_ARCHS)")
    if(GRAFT_CUDA STREQUAL "ON" OR NOT graft_left_archs)
      set(GRAFT_CUDA_ABSENT_REASON "${reason}; nvcc --list-gpu-arch says what it knows")
    else()
      message(STATUS "graft: ${reason}: left out")
    endif()
  endif()
  set(GRAFT_CUDA_ARCHS ${graft_left_archs})
endmacro()

# graft_find_cuda(): a macro, so that enable_language takes effect for the whole tree.
macro(graft_find_cuda)
  find_program(GRAFT_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  mark_as_advanced(GRAFT_NVCC)
  if(NOT GRAFT_NVCC)
    set(GRAFT_CUDA_ABSENT_REASON "nvcc was not found; install the CUDA Toolkit 12 or newer, or set CUDACXX")
  else()
    set(CUDAToolkit_NVCC_EXECUTABLE ${GRAFT_NVCC})
    find_package(CUDAToolkit 12 QUIET)
    if(NOT CUDAToolkit_FOUND)
      set(GRAFT_CUDA_ABSENT_REASON "${GRAFT_NVCC} is not part of a CUDA Toolkit 12 or newer")
    endif()
  endif()

  if(NOT GRAFT_CUDA_ABSENT_REASON)
    find_path(GRAFT_CUDNN_INCLUDE_DIR cudnn_version.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(GRAFT_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR})
    mark_as_advanced(GRAFT_CUDNN_INCLUDE_DIR GRAFT_CUDNN_LIBRARY)
    if(NOT GRAFT_CUDNN_INCLUDE_DIR OR NOT GRAFT_CUDNN_LIBRARY)
      set(GRAFT_CUDA_ABSENT_REASON "cuDNN was not found; install its development package, version 9 or newer")
    else()
      file(STRINGS ${GRAFT_CUDNN_INCLUDE_DIR}/cudnn_version.h graft_cudnn_lines
           REGEX "^#define CUDNN_(MAJOR|MINOR|PATCHLEVEL) [0-9]+")
      list(TRANSFORM graft_cudnn_lines REPLACE "^#define CUDNN_[A-Z]+ ([0-9]+).*" "\\1")
      list(JOIN graft_cudnn_lines "." GRAFT_CUDNN_VERSION)
      if(GRAFT_CUDNN_VERSION VERSION_LESS 9)
        set(GRAFT_CUDA_ABSENT_REASON "cuDNN is ${GRAFT_CUDNN_VERSION}; version 9 or newer is needed")
      endif()
    endif()
  endif()

  if(NOT GRAFT_CUDA_ABSENT_REASON)
    find_path(GRAFT_CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
              HINTS ${GRAFT_CUDNN_FRONTEND_DIR}/include ${CUDAToolkit_INCLUDE_DIRS})
    mark_as_advanced(GRAFT_CUDNN_FRONTEND_INCLUDE_DIR)
    if(NOT GRAFT_CUDNN_FRONTEND_INCLUDE_DIR)
      set(GRAFT_CUDA_ABSENT_REASON
          "the cudnn-frontend headers were not found; run scripts/install_deps.sh --cuda or set GRAFT_CUDNN_FRONTEND_DIR")
    endif()
  endif()

  if(NOT GRAFT_CUDA_ABSENT_REASON)
    graft_check_archs()
  endif()

  if(NOT GRAFT_CUDA_ABSENT_REASON)
    # Architectures and the standard must be known before the language is enabled: CMake 3.25 tries compute_52 by itself,
    # which nvcc 13 refuses. It also knows no flag for CUDA_STANDARD 20 of that compiler: required, it stops; not required,
    # it drops the 20 without a word. So the flag itself is given here.
    set(CMAKE_CUDA_COMPILER ${GRAFT_NVCC})
    set(CMAKE_CUDA_ARCHITECTURES ${GRAFT_CUDA_ARCHS})
    set(CMAKE_CUDA_FLAGS "${CMAKE_CUDA_FLAGS} -std=c++20 --expt-relaxed-constexpr")  # Philox is constexpr
    if(GRAFT_TESTS_ONLY AND CUDAToolkit_VERSION VERSION_GREATER_EQUAL 13)
      set(CMAKE_CUDA_FLAGS_RELEASE "-Ofc max")  # a third of the time; what it compiles is slow on a GPU
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED OFF)
    enable_language(CUDA)
    set(GRAFT_CUDA_ENABLED ON)

    add_library(graft_cudnn INTERFACE)
    target_include_directories(graft_cudnn SYSTEM INTERFACE ${GRAFT_CUDNN_FRONTEND_INCLUDE_DIR}
                                                            ${GRAFT_CUDNN_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
    target_link_libraries(graft_cudnn INTERFACE ${GRAFT_CUDNN_LIBRARY} CUDA::cublasLt CUDA::cublas CUDA::nvrtc
                                                CUDA::cudart ${CMAKE_DL_LIBS})
  endif()
endmacro()

if(NOT GRAFT_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "graft: GRAFT_CUDA is '${GRAFT_CUDA}'; it must be AUTO, ON or OFF")
elseif(GRAFT_CUDA STREQUAL "OFF")
  set(GRAFT_CUDA_ABSENT_REASON "it was switched off when this program was built (GRAFT_CUDA=OFF)")
else()
  graft_find_cuda()
endif()

if(GRAFT_CUDA_ENABLED)
  message(STATUS "graft: CUDA ${CUDAToolkit_VERSION}, cuDNN ${GRAFT_CUDNN_VERSION}, architectures ${GRAFT_CUDA_ARCHS}")
elseif(GRAFT_CUDA STREQUAL "ON")
  message(FATAL_ERROR "graft: GRAFT_CUDA=ON, but ${GRAFT_CUDA_ABSENT_REASON}")
else()
  message(STATUS "graft: without CUDA: ${GRAFT_CUDA_ABSENT_REASON}")
endif()
