# graft_library(<folder> [DEPENDS <folders>] [PRIVATE <targets>] [GLOBS <patterns>] [EXCLUDE <regexes>] [NO_INSTALL])
#
# One static library graft_<folder>, alias graft::<folder>, of the folder's *.cpp files (recursively, or those that GLOBS
# match). DEPENDS are other folders along the arrows of docs/design.md and are linked publicly; PRIVATE are vendor targets
# whose headers stay inside. Includes are written from the repository root.

include(GNUInstallDirs)

set(GRAFT_HEADER_DIR ${CMAKE_INSTALL_INCLUDEDIR}/graft)

# Libraries without object code are needed here only; the installed package must not ask for them.
function(graft_link_private target library)
  if(library MATCHES "^(nlohmann_json::nlohmann_json|CLI11::CLI11|graft_stb)$")
    set(library $<BUILD_INTERFACE:${library}>)
  endif()
  target_link_libraries(${target} PRIVATE ${library})
endfunction()

function(graft_library folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_INSTALL" "" "DEPENDS;PRIVATE;GLOBS;EXCLUDE")
  set(target graft_${folder})
  if(NOT arg_GLOBS)
    set(arg_GLOBS *.cpp */*.cpp)
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${arg_GLOBS})
  foreach(pattern IN LISTS arg_EXCLUDE)
    list(FILTER sources EXCLUDE REGEX ${pattern})
  endforeach()

  if(sources)
    add_library(${target} STATIC ${sources})
    set(scope PUBLIC)
    foreach(library IN LISTS arg_PRIVATE)
      graft_link_private(${target} ${library})
    endforeach()
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  add_library(graft::${folder} ALIAS ${target})
  target_include_directories(${target} ${scope} $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                                $<INSTALL_INTERFACE:${GRAFT_HEADER_DIR}>)
  # For users of the package; in this tree it would also ask for CUDA20, which CMake 3.25 does not know for nvcc 13.
  target_compile_features(${target} INTERFACE $<INSTALL_INTERFACE:cxx_std_20>)
  list(TRANSFORM arg_DEPENDS PREPEND graft_)
  target_link_libraries(${target} ${scope} ${arg_DEPENDS})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${folder})
  if(folder MATCHES "^(tensor|data|strategies|apps)$")  # those of many files
    graft_group_sources(${target})
  endif()
  if(GRAFT_TESTS_ONLY AND folder MATCHES "^(strategies|apps)$")  # much code; the time of a run is spent below them
    target_compile_options(${target} PRIVATE -O1)
  endif()
  if(NOT arg_NO_INSTALL)
    install(TARGETS ${target} EXPORT graftTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
endfunction()

# graft_module(<target> <sources>... EXPORTS <map> [PRIVATE <libraries>])
#
# A module that the program opens when it needs it (kernels/modules.h), beside the programs. EXPORTS names its one function;
# all else stays inside.
function(graft_module target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "EXPORTS" "PRIVATE")
  add_library(${target} MODULE ${arg_UNPARSED_ARGUMENTS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE graft_core ${arg_PRIVATE})
  set(exports ${CMAKE_CURRENT_SOURCE_DIR}/${arg_EXPORTS})
  target_link_options(${target} PRIVATE -Wl,--version-script=${exports} $<$<NOT:$<BOOL:${GRAFT_SANITIZE}>>:-Wl,--no-undefined>)
  set_target_properties(${target} PROPERTIES PREFIX "" LINK_DEPENDS ${exports} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}
                                             INSTALL_RPATH_USE_LINK_PATH ON)
  install(TARGETS ${target} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/graft)
endfunction()

# graft_group_sources(<target> [<folders>...]): with GRAFT_GROUP_SOURCES its files are compiled as one, which parses the
# headers and instantiates the templates that they share once and takes half the time: 24 at a time or, with folders, those
# of each, and no others. No two files of a group may then use the same name for helpers of their own. A file with compile
# options of its own, or with SKIP_UNITY_BUILD_INCLUSION, is left alone.
function(graft_group_sources target)
  if(NOT GRAFT_GROUP_SOURCES)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 24)
  if(ARGN)
    set_target_properties(${target} PROPERTIES UNITY_BUILD_MODE GROUP)
    foreach(folder IN LISTS ARGN)
      file(GLOB group CONFIGURE_DEPENDS ${folder}/*.cpp)
      set_source_files_properties(${group} PROPERTIES UNITY_GROUP ${folder})
    endforeach()
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # a class of one file may hold helpers of that file
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
  endif()
endfunction()

# graft_group_cuda(<list of sources> <file>): the same for device code, which CMake 3.25 does not group, and whose group the
# host model wants to be a .cu file: it replaces those of the list that have no compile options of their own.
function(graft_group_cuda list file)
  if(NOT GRAFT_GROUP_SOURCES)
    return()
  endif()
  set(sources ${${list}})
  set(includes "")
  foreach(source IN LISTS sources)
    get_source_file_property(options ${source} COMPILE_OPTIONS)
    if(source MATCHES "\\.cu$" AND NOT options)
      string(APPEND includes "#include \"${source}\"\n")
      list(REMOVE_ITEM sources ${source})
    endif()
  endforeach()
  file(CONFIGURE OUTPUT ${file} CONTENT "${includes}" @ONLY)
  list(PREPEND sources ${file})  # it takes longest, so it is begun first
  set(${list} ${sources} PARENT_SCOPE)
endfunction()

# graft_precompile(<target> <headers>...): half the time that a file takes to compile goes to headers that most files
# include; they are compiled once for the target. ccache keeps what is compiled with them only if it need not compare their
# macros and times.
function(graft_precompile target)
  target_precompile_headers(${target} PRIVATE <fmt/format.h> <algorithm> <cmath> <filesystem> <fstream> <functional> <map>
                            <memory> <optional> <span> <string> <vector> ${ARGN})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
  if(GRAFT_CCACHE)
    set_target_properties(${target} PROPERTIES CXX_COMPILER_LAUNCHER
                          "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros;${GRAFT_CCACHE}")
  endif()
endfunction()

# graft_compile_options(<folder> <options>...): for the folder's own sources only; nothing when it has none.
function(graft_compile_options folder)
  get_target_property(type graft_${folder} TYPE)
  if(NOT type STREQUAL "INTERFACE_LIBRARY")
    target_compile_options(graft_${folder} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${ARGN}>")
  endif()
endfunction()
