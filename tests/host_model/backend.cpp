// The CUDA backend's class on the host model: cuda_backend.cpp, update_table.cpp, conv_cudnn.cpp, linear_cublas.cpp
// and the kernels are the very files of kernels/cuda/. This one takes the place of memory_cuda.cpp, whose rounded
// blocks would hide what kernels do beyond their operands; conv_plans.cpp that of the file of this name.
#include "tests/host_model/backend.h"

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/cuda_backend.h"

namespace graft {

namespace {

/// Exactly as large as asked for, so that the address sanitizer sees the first byte beyond; NaN until written.
class ExactMemory final : public MemorySource {
 public:
  void* get(std::int64_t bytes) override {
    void* block = nullptr;
    if (posix_memalign(&block, kPlanAlignment, std::size_t(bytes)) != 0) return nullptr;
    std::memset(block, 0xFF, std::size_t(bytes));
    return block;
  }
  void give_back(void* block) noexcept override { std::free(block); }
  bool keeps_released() const override { return false; }
  std::string name() const override { return "the host model"; }
};

}  // namespace

CudaBackend::CudaBackend(int index, Precision precision)
    : index_(index),
      precision_(precision),
      description_("a model of a CUDA device on the host"),
      source_(std::make_unique<ExactMemory>()),
      memory_(*source_) {}

CudaBackend::~CudaBackend() = default;

cudaStream_t CudaBackend::stream() { return nullptr; }
std::vector<std::string> CudaBackend::plans() const { return {}; }

void CudaBackend::copy_in(void* device, const void* host, std::int64_t bytes) {
  std::memcpy(device, host, std::size_t(bytes));
}
void CudaBackend::copy_out(void* host, const void* device, std::int64_t bytes) {
  std::memcpy(host, device, std::size_t(bytes));
}
std::unique_ptr<Upload> CudaBackend::make_upload(std::int64_t bytes) { return Backend::make_upload(bytes); }
std::int64_t CudaBackend::free_bytes() const { return 0; }
void CudaBackend::zero(void* device, std::int64_t bytes) { std::memset(device, 0, std::size_t(bytes)); }
void CudaBackend::synchronize() {}
void CudaBackend::push_range(std::string_view) {}
void CudaBackend::pop_range() {}
std::unique_ptr<DeviceTimer> CudaBackend::make_timer() { return Backend::make_timer(); }
std::unique_ptr<KernelTracer> CudaBackend::make_kernel_tracer() { return Backend::make_kernel_tracer(); }
std::unique_ptr<HostCopy> CudaBackend::begin_copy_out(const void* device, std::int64_t bytes) {
  return Backend::begin_copy_out(device, bytes);
}
void CudaBackend::begin_capture() { throw host_model::NotModelled("begin_capture: the driver's"); }
std::unique_ptr<CapturedStep> CudaBackend::end_capture() { return nullptr; }
void CudaBackend::refuse_in_capture(const char*) const {}

namespace host_model {

std::unique_ptr<Backend> make_backend(Precision precision) { return std::make_unique<CudaBackend>(0, precision); }

}  // namespace host_model
}  // namespace graft
