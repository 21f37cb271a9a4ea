// The CUDA backend's class on the host model: cuda_backend.cpp, update_table.cpp, linear_cublas.cpp and the kernels are
// the very files of kernels/cuda/. This one takes the place of memory_cuda.cpp, whose cache of rounded blocks would
// hide what kernels do beyond their operands, and of conv_cudnn.cpp.
#include "tests/host_model/backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/cuda/cuda_backend.h"

namespace graft {

struct ConvPlans::State {};
ConvPlans::~ConvPlans() = default;

CudaBackend::CudaBackend(int index, Precision precision)
    : index_(index), precision_(precision), description_("a model of a CUDA device on the host") {}

CudaBackend::~CudaBackend() {
  for (const auto& [block, bytes] : live_) std::free(block);
}

cudaStream_t CudaBackend::stream() { return nullptr; }
std::vector<std::string> CudaBackend::plans() const { return {}; }

/// Exactly as large as asked for, so that the address sanitizer sees the first byte beyond; NaN until written.
void* CudaBackend::allocate(std::int64_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, 256, std::size_t(bytes)) != 0) throw std::bad_alloc();
  std::memset(block, 0xFF, std::size_t(bytes));
  live_.emplace(block, bytes);
  use_.live_bytes += bytes;
  use_.peak_bytes = std::max(use_.peak_bytes, use_.live_bytes);
  return block;
}

void CudaBackend::release(void* block) noexcept {
  const auto it = live_.find(block);
  if (it == live_.end()) return;
  use_.live_bytes -= it->second;
  live_.erase(it);
  std::free(block);
}

MemoryUse CudaBackend::memory() const { return use_; }
void CudaBackend::copy_in(void* device, const void* host, std::int64_t bytes) {
  std::memcpy(device, host, std::size_t(bytes));
}
void CudaBackend::copy_out(void* host, const void* device, std::int64_t bytes) {
  std::memcpy(host, device, std::size_t(bytes));
}
void CudaBackend::zero(void* device, std::int64_t bytes) { std::memset(device, 0, std::size_t(bytes)); }
void CudaBackend::synchronize() {}
std::unique_ptr<HostCopy> CudaBackend::begin_copy_out(const void* device, std::int64_t bytes) {
  return Backend::begin_copy_out(device, bytes);
}
void CudaBackend::begin_capture() { throw host_model::NotModelled("begin_capture: the driver's"); }
std::unique_ptr<CapturedStep> CudaBackend::end_capture() { return nullptr; }
void CudaBackend::refuse_in_capture(const char*) const {}

void CudaBackend::conv(const ConvSpec&, View, ConstView, WeightView, const ConvEpilogue&) {
  throw host_model::NotModelled("conv: cuDNN's");
}
void CudaBackend::conv_data_grad(const ConvSpec&, View, Write, ConstView, WeightView) {
  throw host_model::NotModelled("conv_data_grad: cuDNN's");
}
void CudaBackend::conv_weight_grad(const ConvSpec&, View, Write, ConstView, ConstView) {
  throw host_model::NotModelled("conv_weight_grad: cuDNN's");
}

namespace host_model {

std::unique_ptr<Backend> make_backend(Precision precision) { return std::make_unique<CudaBackend>(0, precision); }

}  // namespace host_model
}  // namespace graft
