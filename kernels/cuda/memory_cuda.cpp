// The GPU's stream, where its memory comes from, and copies. What is kept for reuse and what is planned:
// kernels/device_memory.h.
#include <cudnn.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include <fmt/format.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/out_of_memory.h"

namespace graft {
namespace {

using gpu::check;

constexpr std::int64_t kStagingBytes = std::int64_t{8} << 20;
constexpr int kOldestCapability = 80;  // the smallest architecture that the kernels are compiled for

const char* precision_text(Precision precision) {
  switch (precision) {
    case Precision::f32:
      return "float32 without TF32";
    case Precision::tf32:
      return "float32 with TF32";
    case Precision::bf16:
      return "activations in bf16";
    case Precision::f16:
      return "activations in f16";
  }
  return "";
}

}  // namespace

std::string gpu_unavailable_reason(int index) {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    cudaGetLastError();
    if (driver == 0) return "no NVIDIA driver is installed";
    return fmt::format("the NVIDIA driver is too old: it knows CUDA {}.{}, this program needs {}.0 or newer",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    cudaGetLastError();
    return "the NVIDIA driver finds no GPU";
  }
  if (status == cudaSuccess && (index < 0 || index >= count))
    return fmt::format("there is no GPU {}; this machine has {} ({})", index, count,
                       count == 1 ? "cuda:0" : fmt::format("cuda:0 to cuda:{}", count - 1));
  int major = 0, minor = 0;
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
  if (status != cudaSuccess) {
    cudaGetLastError();
    return fmt::format("the GPU does not answer: {}; try nvidia-smi", cudaGetErrorString(status));
  }
  if (major * 10 + minor < kOldestCapability)
    return fmt::format("GPU {} has compute capability {}.{}; {}.{} or newer is needed", index, major, minor,
                       kOldestCapability / 10, kOldestCapability % 10);
  return {};
}

namespace {

class CudaMemory final : public MemorySource {
 public:
  CudaMemory(CudaBackend& backend, int index) : backend_(backend), index_(index) {}

  void* get(std::int64_t bytes) override {
    void* block = nullptr;
    check(cudaSetDevice(index_), "choosing the GPU");
    const cudaError_t status = cudaMalloc(&block, std::size_t(bytes));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check(status, "allocating memory");
    return block;
  }
  void give_back(void* block) noexcept override { cudaFree(block); }
  void wait() override { backend_.synchronize(); }
  bool can_wait() const override { return !backend_.is_stream_captured(); }
  std::int64_t rounded(std::int64_t bytes) const override { return size_class(bytes, kCudaSmallestBlock); }
  std::string name() const override { return to_string(Device{DeviceKind::cuda, index_}); }
  std::string left() const override {
    std::size_t free = 0, total = 0;
    if (cudaMemGetInfo(&free, &total) != cudaSuccess) return {};
    return memory_text(std::int64_t(free)) + " of " + memory_text(std::int64_t(total)) + " are free";
  }

 private:
  CudaBackend& backend_;
  int index_;
};

}  // namespace

CudaBackend::CudaBackend(int index, Precision precision)
    : index_(index), precision_(precision), source_(std::make_unique<CudaMemory>(*this, index)), memory_(*source_) {
  check(cudaSetDevice(index_), "opening the GPU");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index_), "asking for the GPU's name");
  check(cudaStreamCreateWithFlags(stream_.out(), cudaStreamNonBlocking), "creating a stream");
  for (Staging& s : staging_)
    check(cudaEventCreateWithFlags(s.is_free.out(), cudaEventDisableTiming), "creating an event");
  const std::size_t cudnn = cudnnGetVersion();
  description_ =
      fmt::format("cuda:{}, {}, {} GiB, compute capability {}.{}, cuDNN {}.{}.{}, {}", index_, properties.name,
                  (properties.totalGlobalMem + (1u << 29)) >> 30, properties.major, properties.minor, cudnn / 10000,
                  cudnn % 10000 / 100, cudnn % 100, precision_text(precision_));
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(index_);
  cudaStreamSynchronize(stream_.get());
}

cudaStream_t CudaBackend::stream() {
  check(cudaSetDevice(index_), "choosing the GPU");  // per thread; cheap when it is current
  return stream_.get();
}

CudaBackend::Staging& CudaBackend::next_staging() {
  last_staging_ = (last_staging_ + 1) % std::size(staging_);
  Staging& s = staging_[last_staging_];
  if (!s.memory) check(cudaMallocHost(s.memory.out(), std::size_t(kStagingBytes)), "allocating pinned memory");
  check(cudaEventSynchronize(s.is_free.get()), "waiting for a copy");
  return s;
}

void CudaBackend::copy_in(void* device, const void* host, std::int64_t bytes) {
  refuse_in_capture("copy_in");
  const cudaStream_t work = stream();
  for (std::int64_t done = 0; done < bytes; done += kStagingBytes) {
    const std::size_t part = std::size_t(std::min(kStagingBytes, bytes - done));
    const Staging& s = next_staging();
    std::memcpy(s.memory.get(), static_cast<const char*>(host) + done, part);
    check(cudaMemcpyAsync(static_cast<char*>(device) + done, s.memory.get(), part, cudaMemcpyHostToDevice, work),
          "copying to the GPU");
    check(cudaEventRecord(s.is_free.get(), work), "copying to the GPU");
  }
}

void CudaBackend::copy_out(void* host, const void* device, std::int64_t bytes) {
  refuse_in_capture("copy_out");
  const cudaStream_t work = stream();
  check(cudaMemcpyAsync(host, device, std::size_t(bytes), cudaMemcpyDeviceToHost, work), "copying from the GPU");
  check(cudaStreamSynchronize(work), "waiting for the GPU");
}

std::int64_t CudaBackend::free_bytes() const {
  std::size_t free = 0, total = 0;
  check(cudaSetDevice(index_), "choosing the GPU");
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return std::int64_t(free);
}

void CudaBackend::zero(void* device, std::int64_t bytes) {
  check(cudaMemsetAsync(device, 0, std::size_t(bytes), stream()), "clearing memory");
}

bool CudaBackend::is_stream_captured() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream(), &status), "asking whether a step is captured");
  return status != cudaStreamCaptureStatusNone;
}

void CudaBackend::synchronize() {
  refuse_in_capture("synchronize");
  check(cudaStreamSynchronize(stream()), "waiting for the GPU");
}

}  // namespace graft
