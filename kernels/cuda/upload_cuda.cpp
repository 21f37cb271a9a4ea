// Bytes that go to the GPU while it computes: from pinned memory, on a stream of their own, tied to the stream of calls
// by events.
#include "kernels/cuda/cuda_backend.h"

namespace graft {
namespace {

using gpu::check;

class CudaUpload final : public Upload {
 public:
  struct Streams {
    cudaStream_t calls, uploads;  // they must outlive the object
  };
  CudaUpload(std::int64_t bytes, const Streams& streams) : streams_(streams) {
    check(cudaMallocHost(memory_.out(), std::size_t(bytes)), "allocating pinned memory");
    for (gpu::Handle<cudaEvent_t, cudaEventDestroy>* event : {&has_left_, &may_come_})
      check(cudaEventCreateWithFlags(event->out(), cudaEventDisableTiming), "creating an event");
    follow_calls();
  }
  ~CudaUpload() override { cudaStreamSynchronize(streams_.uploads); }

  std::byte* memory() override {
    check(cudaEventSynchronize(has_left_.get()), "waiting for an upload");
    return static_cast<std::byte*>(memory_.get());
  }
  void send(void* device, std::int64_t offset, std::int64_t bytes) override {
    check(cudaStreamWaitEvent(streams_.uploads, may_come_.get(), 0), "ordering an upload");
    check(cudaMemcpyAsync(device, static_cast<std::byte*>(memory_.get()) + offset, std::size_t(bytes),
                          cudaMemcpyHostToDevice, streams_.uploads),
          "uploading");
    check(cudaEventRecord(has_left_.get(), streams_.uploads), "uploading");
  }
  void arrive() override { check(cudaStreamWaitEvent(streams_.calls, has_left_.get(), 0), "awaiting an upload"); }
  void follow_calls() override { check(cudaEventRecord(may_come_.get(), streams_.calls), "ordering an upload"); }

 private:
  Streams streams_;
  gpu::Handle<void*, cudaFreeHost> memory_;
  gpu::Handle<cudaEvent_t, cudaEventDestroy> has_left_, may_come_;
};

}  // namespace

std::unique_ptr<Upload> CudaBackend::make_upload(std::int64_t bytes) {
  refuse_in_capture("make_upload");
  const cudaStream_t calls = stream();
  if (!uploads_) check(cudaStreamCreateWithFlags(uploads_.out(), cudaStreamNonBlocking), "creating a stream");
  return std::make_unique<CudaUpload>(bytes, CudaUpload::Streams{calls, uploads_.get()});
}

}  // namespace graft
