// The CUDA module without a GPU: it opens, and it says plainly what is missing. What cuDNN offers is asked in
// tests/cudnn_support/; what runs on a GPU is in op_cases_test.cpp.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "kernels/build_info.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/module.h"

namespace graft {
namespace {

std::string module_path() {
  return (std::filesystem::path(build_info().module_dir) / build_info().cuda_module_file).string();
}

class CudaModuleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!build_info().cuda_absent_reason.empty())
      GTEST_SKIP() << "the CUDA module was not built: " << build_info().cuda_absent_reason;
    void* handle = dlopen(module_path().c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(handle, nullptr) << dlerror();
    const auto function = reinterpret_cast<CudaModuleFunction>(dlsym(handle, kCudaModuleFunction));
    ASSERT_NE(function, nullptr) << dlerror();
    module_ = function();
  }

  const CudaModule* module_ = nullptr;
};

TEST_F(CudaModuleTest, BelongsToThisProgram) { EXPECT_EQ(module_->version, build_info().version); }

TEST_F(CudaModuleTest, SaysWhyAGpuCannotBeUsed) {
  const std::string reason = module_->unavailable_reason(4321);  // no machine has so many
  EXPECT_TRUE(reason.find("driver") != std::string::npos || reason.find("no GPU 4321") != std::string::npos) << reason;
  EXPECT_EQ(reason.find('\n'), std::string::npos) << reason;
}

TEST(CudaLoader, RefusesWithTheReasonItGives) {
  const std::string reason = cuda_unavailable_reason();
  if (reason.empty()) GTEST_SKIP() << "there is a GPU here";
  try {
    make_cuda_backend(0, {});
    FAIL() << "opened a GPU that cannot be used: " << reason;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--device cpu"), std::string::npos) << error.what();
  }
}

// The loader looks once per process, so each question is asked in a process of its own.
void answer_with_module_at(const std::string& path) {
  setenv("GRAFT_CUDA_MODULE", path.c_str(), 1);
  std::fputs(cuda_unavailable_reason().c_str(), stderr);
  std::exit(0);
}

TEST(CudaLoaderDeathTest, NamesAMissingModule) {
  if (!build_info().cuda_absent_reason.empty()) GTEST_SKIP() << build_info().cuda_absent_reason;
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(answer_with_module_at("/nowhere/graft_cuda.so"), ::testing::ExitedWithCode(0),
              "not found at /nowhere/graft_cuda.so; set GRAFT_CUDA_MODULE");
}

TEST(CudaLoaderDeathTest, RefusesAFileThatIsNoModule) {
  if (!build_info().cuda_absent_reason.empty()) GTEST_SKIP() << build_info().cuda_absent_reason;
  const std::string reason = cuda_unavailable_reason();
  if (reason.find("driver") != std::string::npos) GTEST_SKIP() << "the driver is asked first: " << reason;
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(answer_with_module_at("/proc/self/exe"), ::testing::ExitedWithCode(0), "cannot be loaded");
}

}  // namespace
}  // namespace graft
