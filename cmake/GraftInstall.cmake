# `cmake --install`: headers, libraries, the program, its modules, and the package behind find_package(graft).
# graft::graft is everything except the program's own subcommands.
include(CMakePackageConfigHelpers)

add_library(graft_all INTERFACE)
add_library(graft::graft ALIAS graft_all)
target_link_libraries(graft_all INTERFACE graft_strategies graft_models graft_optim graft_data)
set_target_properties(graft_all PROPERTIES EXPORT_NAME graft)
install(TARGETS graft_all EXPORT graftTargets)

foreach(folder kernels tensor nn optim data models strategies)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} DESTINATION ${GRAFT_HEADER_DIR} FILES_MATCHING PATTERN "*.h"
          PATTERN "kernels/cpu" EXCLUDE PATTERN "kernels/cuda" EXCLUDE)  # their headers name vendors' types
endforeach()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/graft)
install(EXPORT graftTargets NAMESPACE graft:: DESTINATION ${package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/graftConfig.cmake.in graftConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(graftConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/graftConfig.cmake ${PROJECT_BINARY_DIR}/graftConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/FindOneDNN.cmake
        DESTINATION ${package_dir})
