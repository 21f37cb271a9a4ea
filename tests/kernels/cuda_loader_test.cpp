// The CUDA module without a GPU: it opens, it says plainly what is missing, and cuDNN has a plan for every convolution
// that graft uses, asked for an H100 that need not be here. What runs on a GPU is in op_cases_test.cpp.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "kernels/build_info.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/module.h"
#include "tests/support/op_cases.h"

namespace graft {
namespace {

std::string module_path() {
  return (std::filesystem::path(build_info().cuda_module_dir) / build_info().cuda_module_file).string();
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

ConvSpec square(std::int64_t c, std::int64_t size, std::int64_t k, std::int64_t kernel, std::int64_t stride) {
  const std::int64_t pad = kernel / 2;
  return {.x = {32, c, size, size},
          .k = k,
          .r = kernel,
          .s = kernel,
          .stride_h = stride,
          .stride_w = stride,
          .pad_h = pad,
          .pad_w = pad};
}

/// The convolutions of ResNet-50 (strides in the 3x3 or in the first 1x1), DenseNet-121 and VGG-19 at 224 pixels.
std::vector<ConvSpec> network_convolutions() {
  std::vector<ConvSpec> specs = {square(3, 224, 64, 7, 2)};
  std::int64_t in = 64, size = 56;
  for (const std::int64_t width : {64, 128, 256, 512}) {
    const std::int64_t stride = width == 64 ? 1 : 2, out = size / stride;
    for (const ConvSpec& s :
         {square(in, size, width, 1, 1), square(in, size, width, 1, stride), square(width, size, width, 3, stride),
          square(width, out, width, 3, 1), square(width, out, 4 * width, 1, 1), square(in, size, 4 * width, 1, stride),
          square(4 * width, out, width, 1, 1)})
      specs.push_back(s);
    in = 4 * width, size = out;
  }
  size = 56, in = 64;
  for (const int layers : {6, 12, 24, 16}) {  // DenseNet
    for (int i = 0; i < layers; ++i) specs.push_back(square(in + 32 * i, size, 128, 1, 1));
    specs.push_back(square(128, size, 32, 3, 1));
    in += 32 * layers;
    if (size > 7) specs.push_back(square(in, size, in / 2, 1, 1));
    in /= 2, size /= 2;
  }
  size = 224, in = 3;
  for (const std::int64_t width : {64, 128, 256, 512, 512}) {  // VGG
    specs.push_back(square(in, size, width, 3, 1));
    specs.push_back(square(width, size, width, 3, 1));
    in = width, size /= 2;
  }
  return specs;
}

TEST_F(CudaModuleTest, CudnnHasAPlanForEveryConvolution) {
  std::ifstream file(std::string(GRAFT_SOURCE_DIR) + "/tests/kernels/fixtures/h100_device_properties.json");
  const std::string h100{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(h100.empty());
  std::vector<ConvSpec> specs = network_convolutions();
  for (const OpCase& op : op_cases())
    if (op.conv) specs.push_back(*op.conv);
  std::sort(specs.begin(), specs.end());
  specs.erase(std::unique(specs.begin(), specs.end()), specs.end());
  int plans = 0;
  for (const ConvSpec& s : specs)
    for (const char* kind : {"forward", "forward+bias", "data_grad", "weight_grad"}) {
      try {
        EXPECT_NE(module_->conv_plan(h100, s, kind), "");
        ++plans;
      } catch (const Error& error) {
        ADD_FAILURE() << kind << ": " << error.what();
      }
    }
  EXPECT_GT(plans, 300);
}

TEST_F(CudaModuleTest, RefusesAConvolutionThatCannotBe) {
  std::ifstream file(std::string(GRAFT_SOURCE_DIR) + "/tests/kernels/fixtures/h100_device_properties.json");
  const std::string h100{std::istreambuf_iterator<char>(file), {}};
  EXPECT_THROW(module_->conv_plan(h100, square(3, 32, 8, 7, 2), "sideways"), Error);
  ConvSpec too_small = square(3, 4, 8, 7, 2);
  too_small.pad_h = too_small.pad_w = 0;  // nothing is left of x
  EXPECT_THROW(module_->conv_plan(h100, too_small, "forward"), Error);
}

}  // namespace
}  // namespace graft
