# Defines OneDNN::OneDNN and OneDNN_VERSION. oneDNN's own package file is not used, since Debian's asks for OpenCL's
# development files, which nothing here needs. This file is installed with the package for find_package(graft).
find_path(OneDNN_INCLUDE_DIR oneapi/dnnl/dnnl.hpp)
find_library(OneDNN_LIBRARY dnnl)
mark_as_advanced(OneDNN_INCLUDE_DIR OneDNN_LIBRARY)

if(OneDNN_INCLUDE_DIR)
  file(STRINGS ${OneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h OneDNN_lines
       REGEX "^#define DNNL_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
  list(TRANSFORM OneDNN_lines REPLACE "^#define DNNL_VERSION_[A-Z]+ ([0-9]+).*" "\\1")
  list(JOIN OneDNN_lines "." OneDNN_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OneDNN REQUIRED_VARS OneDNN_LIBRARY OneDNN_INCLUDE_DIR VERSION_VAR OneDNN_VERSION)

if(OneDNN_FOUND AND NOT TARGET OneDNN::OneDNN)
  add_library(OneDNN::OneDNN UNKNOWN IMPORTED)
  set_target_properties(OneDNN::OneDNN PROPERTIES IMPORTED_LOCATION ${OneDNN_LIBRARY}
                                                  INTERFACE_INCLUDE_DIRECTORIES ${OneDNN_INCLUDE_DIR})
endif()
