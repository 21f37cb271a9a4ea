# What the distribution provides. Everything missing is collected and reported in one message that names the packages.
# Targets defined here for the folders: graft_stb (headers), and those of the packages themselves.

set(graft_missing_packages "")

# graft_require(<target> <Debian package>): notes the package when the target did not appear.
function(graft_require target package)
  if(NOT TARGET ${target})
    set(graft_missing_packages ${graft_missing_packages} ${package} PARENT_SCOPE)
  endif()
endfunction()

find_package(Threads REQUIRED)
find_package(OpenMP QUIET COMPONENTS CXX)
graft_require(OpenMP::OpenMP_CXX libgomp1)

find_package(OneDNN 2.6 QUIET)
graft_require(OneDNN::OneDNN libdnnl-dev)

find_package(JPEG QUIET)
graft_require(JPEG::JPEG libjpeg-dev)
find_package(TIFF QUIET)
graft_require(TIFF::TIFF libtiff-dev)
find_package(ZLIB QUIET)
graft_require(ZLIB::ZLIB zlib1g-dev)
find_package(OpenSSL QUIET COMPONENTS Crypto)
graft_require(OpenSSL::Crypto libssl-dev)

find_package(fmt QUIET CONFIG)
graft_require(fmt::fmt libfmt-dev)
find_package(nlohmann_json QUIET CONFIG)
graft_require(nlohmann_json::nlohmann_json nlohmann-json3-dev)
find_package(CLI11 QUIET CONFIG)
graft_require(CLI11::CLI11 libcli11-dev)
find_package(tomlplusplus QUIET CONFIG)
graft_require(tomlplusplus::tomlplusplus libtomlplusplus-dev)

find_package(PkgConfig QUIET)
if(PKG_CONFIG_FOUND)
  pkg_search_module(graft_hdf5 QUIET IMPORTED_TARGET hdf5-serial hdf5)
  pkg_search_module(graft_libzip QUIET IMPORTED_TARGET libzip)
else()
  list(APPEND graft_missing_packages pkg-config)
endif()
graft_require(PkgConfig::graft_hdf5 libhdf5-dev)
graft_require(PkgConfig::graft_libzip libzip-dev)

find_path(GRAFT_STB_INCLUDE_DIR stb_image.h PATH_SUFFIXES stb)
mark_as_advanced(GRAFT_STB_INCLUDE_DIR)
if(GRAFT_STB_INCLUDE_DIR)
  add_library(graft_stb INTERFACE)
  target_include_directories(graft_stb SYSTEM INTERFACE ${GRAFT_STB_INCLUDE_DIR})
endif()
graft_require(graft_stb libstb-dev)

if(GRAFT_BUILD_TESTS)
  find_package(GTest QUIET)
  graft_require(GTest::gtest_main libgtest-dev)
endif()
if(GRAFT_BUILD_BENCH)
  find_package(benchmark QUIET CONFIG)
  graft_require(benchmark::benchmark_main libbenchmark-dev)
endif()

if(graft_missing_packages)
  list(JOIN graft_missing_packages " " graft_missing_packages)
  message(FATAL_ERROR "graft: these packages are missing (Debian names): ${graft_missing_packages}. "
                      "Run scripts/install_deps.sh, or: apt-get install ${graft_missing_packages}")
endif()
