// Images of a batch picked from many: a block moves a piece of one, in the largest unit that its bytes allow.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"

namespace graft::gpu {
namespace {

constexpr std::int64_t kUnitsPerThread = 4, kMostPieces = 1 << 15;  // of one image

template <class Unit>
__global__ void __launch_bounds__(kThreads)
    index_select_kernel(Unit* y, const Unit* x, const std::int32_t* index, const std::int64_t size) {
  const Unit* const from = x + index[blockIdx.x] * size;
  Unit* const to = y + blockIdx.x * size;
  const std::int64_t step = std::int64_t(gridDim.y) * kThreads;
#pragma unroll 4
  for (std::int64_t i = std::int64_t(blockIdx.y) * kThreads + threadIdx.x; i < size; i += step) to[i] = from[i];
}

template <class Unit>
bool select_by(const View& y, const ConstView& x, const ConstView& index, cudaStream_t stream) {
  const std::int64_t bytes = y.shape.size() / y.shape.n * size_of(y.dtype), size = bytes / std::int64_t(sizeof(Unit));
  const auto is_aligned = [](const void* data) { return reinterpret_cast<std::uintptr_t>(data) % sizeof(Unit) == 0; };
  if (bytes % std::int64_t(sizeof(Unit)) != 0 || !is_aligned(y.data) || !is_aligned(x.data)) return false;
  const std::int64_t pieces =
      std::min(kMostPieces, (size + kThreads * kUnitsPerThread - 1) / (kThreads * kUnitsPerThread));
  launch("index_select", index_select_kernel<Unit>,
         {.grid = dim3(unsigned(y.shape.n), unsigned(pieces)), .block = dim3(kThreads), .stream = stream},
         static_cast<Unit*>(y.data), static_cast<const Unit*>(x.data), index.as<std::int32_t>(), size);
  return true;
}

}  // namespace

void index_select(View y, ConstView x, ConstView index, cudaStream_t stream) {
  if (y.shape.size() == 0) return;
  if (!y.is_dense() || !x.is_dense() || y.dtype != x.dtype || y.format != x.format || index.dtype != DType::i32 ||
      y.shape.size() / y.shape.n != x.shape.size() / x.shape.n)
    throw Error("index_select: " + to_string(y.shape) + " cannot be picked from " + to_string(x.shape) +
                "; both must be dense and of one format and type, the index of i32");
  const bool is_done = select_by<uint4>(y, x, index, stream) || select_by<std::uint32_t>(y, x, index, stream) ||
                       select_by<std::uint16_t>(y, x, index, stream);
  if (!is_done) throw Error("index_select: images of an odd number of bytes");
}

}  // namespace graft::gpu
