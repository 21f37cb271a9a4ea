// Steps captured as CUDA graphs, and copies to the host that are waited for later. What a captured step may not do is
// in the CUDA programming guide, "Creating a Graph Using Stream Capture": no waiting and no work on other streams that
// is not joined again. Copies from and to ordinary host memory are refused as well, since a replay would repeat the
// address.
#include <fmt/format.h>

#include "kernels/cuda/cuda_backend.h"

namespace graft {
namespace {

using gpu::check;

class CudaGraph final : public CapturedStep {
 public:
  /// `stream` must outlive the object.
  CudaGraph(const gpu::Handle<cudaGraph_t, cudaGraphDestroy>& graph, cudaStream_t stream) : stream_(stream) {
    check(cudaGraphInstantiate(executable_.out(), graph.get(), 0), "making a captured step executable");
    check(cudaGraphUpload(executable_.get(), stream), "uploading a captured step");
  }
  ~CudaGraph() override { cudaStreamSynchronize(stream_); }  // the last replay may be under way
  void replay() override { check(cudaGraphLaunch(executable_.get(), stream_), "replaying a captured step"); }

 private:
  gpu::Handle<cudaGraphExec_t, cudaGraphExecDestroy> executable_;
  cudaStream_t stream_;
};

}  // namespace

/// Pinned memory for copies to the host, used again once a copy was read.
struct PinnedBlocks {
  struct Block {
    std::int64_t bytes = 0;
    gpu::Handle<void*, cudaFreeHost> memory;
    gpu::Handle<cudaEvent_t, cudaEventDestroy> has_arrived;
  };
  std::vector<Block> spare;

  Block take(std::int64_t bytes) {
    for (Block& b : spare)
      if (b.bytes == bytes) {
        Block taken = std::move(b);
        b = std::move(spare.back());
        spare.pop_back();
        return taken;
      }
    Block b{.bytes = bytes, .memory = {}, .has_arrived = {}};
    check(cudaMallocHost(b.memory.out(), std::size_t(bytes)), "allocating pinned memory");
    check(cudaEventCreateWithFlags(b.has_arrived.out(), cudaEventDisableTiming), "creating an event");
    return b;
  }
};

namespace {

class PinnedCopy final : public HostCopy {
 public:
  PinnedCopy(std::shared_ptr<PinnedBlocks> blocks, const void* device, std::int64_t bytes, cudaStream_t stream)
      : blocks_(std::move(blocks)), block_(blocks_->take(bytes)) {
    check(cudaMemcpyAsync(block_.memory.get(), device, std::size_t(bytes), cudaMemcpyDeviceToHost, stream),
          "copying from the GPU");
    check(cudaEventRecord(block_.has_arrived.get(), stream), "copying from the GPU");
  }
  ~PinnedCopy() override { blocks_->spare.push_back(std::move(block_)); }

  const void* wait() override {
    check(cudaEventSynchronize(block_.has_arrived.get()), "waiting for the GPU");
    return block_.memory.get();
  }

 private:
  std::shared_ptr<PinnedBlocks> blocks_;
  PinnedBlocks::Block block_;
};

}  // namespace

std::unique_ptr<HostCopy> CudaBackend::begin_copy_out(const void* device, std::int64_t bytes) {
  refuse_in_capture("begin_copy_out");
  if (!pinned_) pinned_ = std::make_shared<PinnedBlocks>();
  return std::make_unique<PinnedCopy>(pinned_, device, bytes, stream());
}

// Relaxed: memory that a first capture needs beyond what the step before it took may still come from cudaMalloc.
void CudaBackend::begin_capture() {
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "beginning to capture a step");
  is_capturing_ = true;
}

std::unique_ptr<CapturedStep> CudaBackend::end_capture() {
  is_capturing_ = false;
  gpu::Handle<cudaGraph_t, cudaGraphDestroy> graph;
  check(cudaStreamEndCapture(stream(), graph.out()), "capturing a step");
  return std::make_unique<CudaGraph>(graph, stream());
}

void CudaBackend::refuse_in_capture(const char* call) const {
  if (is_capturing_)
    throw Error(
        fmt::format("{}: not possible while a step is captured, since it waits for the GPU or touches the "
                    "host's memory; set train.graph to off",
                    call));
}

}  // namespace graft
