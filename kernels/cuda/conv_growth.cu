// DenseNet's 3x3 convolutions, which make 32 channels, and the gradients of their input, as products of matrices on
// tensor cores, pixels in rows. A tile's pixels and their neighbours come to shared memory, some channels at a time,
// and all nine taps of the window read them there.
#include "kernels/cuda/conv_growth.h"

namespace graft::gpu {
namespace growth {
namespace {

constexpr int kWarps = kThreads / kWarp;
constexpr int kOut = 32;           // channels that a block makes
constexpr int kDepth = kTileSize;  // channels of x at a time, a step
static_assert(kConvGrowthOut % kOut == 0 && kConvGrowthOut % kDepth == 0);
constexpr int kPitch = kDepth + kTilePadding;   // of x, and of weights [tap][out][depth], in shared memory
constexpr int kOutPitch = kOut + kTilePadding;  // of y, and of weights [tap][depth][out]
constexpr int kLanes = kDepth / kTilePack;      // threads over kDepth channels
constexpr int kOutLanes = kOut / kTilePack;     // and over kOut

/// Counted pixels of a block's tile; 16 * RowTiles of them for each warp.
template <int RowTiles>
constexpr int kTileRows = kWarps* kTileSize* RowTiles;
constexpr int kEntries = kTileRows<4> + 2 * (kWidest + 2);  // pixels and their neighbours that a block holds of x
constexpr int kLoadRows = kThreads / kLanes;

template <class T>
struct GrowthParams {
  Counting counting;
  ConstRows<T> x;  // depth channels
  const T* w;      // [out][9][depth]; of gradients [depth][9][out]
  Rows<T> y;
  int depth, slices;  // of kOut channels of y
};

template <class T, int RowTiles, bool IsGradient>
__global__ void __launch_bounds__(kThreads, RowTiles == 4 ? 2 : 3) conv_growth_kernel(const GrowthParams<T> p) {
  constexpr int kRows = kTileRows<RowTiles>, kLoads = (kEntries + kLoadRows - 1) / kLoadRows;
  constexpr int kWeights = kTaps * kOut * kPitch;                   // more than kTaps * kDepth * kOutPitch
  __shared__ __align__(16) T memory[kEntries * kPitch + kWeights];  // the operands of a step; or y
  static_assert(sizeof memory <= 48 * 1024 && sizeof memory / sizeof(T) >= kRows * kOutPitch);
  T *const x = memory, *const w = memory + kEntries * kPitch;

  const int thread = int(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const int slice = int(blockIdx.x) % p.slices, first = int(blockIdx.x) / p.slices * kRows;
  const int line = p.counting.line(), entries = kRows + 2 * p.counting.reach();

  const int entry = row_of_thread<kLanes>(thread), column = thread % kLanes * kTilePack;
  int rows[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; ++i) rows[i] = p.counting.row_of(first - p.counting.reach() + entry + i * kLoadRows);
  const auto begin_x = [&](int depth) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
      if (const int at = entry + i * kLoadRows; at < entries)
        begin_row_copy(x + at * kPitch + column, p.x, rows[i], depth + column);
  };
  const auto begin_w = [&](int depth) {
    if (IsGradient) {  // the window turned about its middle
      const int from = thread % kOutLanes * kTilePack, out = p.slices * kOut;
      for (int at = row_of_thread<kOutLanes>(thread); at < kTaps * kDepth; at += kThreads / kOutLanes) {
        const int tap = kTaps - 1 - at / kDepth, row = depth + at % kDepth;
        begin_copy(w + at * kOutPitch + from, p.w + (std::int64_t(row) * kTaps + tap) * out + slice * kOut + from);
      }
    } else {
      for (int at = entry; at < kTaps * kOut; at += kLoadRows) {
        const int tap = at / kOut, row = slice * kOut + at % kOut;
        begin_copy(w + at * kPitch + column, p.w + (std::int64_t(row) * kTaps + tap) * p.depth + depth + column);
      }
    }
  };

  SumTile product[RowTiles][2];
  for (int depth = 0; depth < p.depth; depth += kDepth) {
    __syncthreads();  // the operands of the step before have been read
    begin_x(depth);
    begin_w(depth);
    wait_for_copies();
    __syncthreads();
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
      RightTile right[2];
      for (int j = 0; j < 2; ++j)
        right[j] = IsGradient ? load_right(w + tap * kDepth * kOutPitch + j * kTileSize, kOutPitch, lane)
                              : load_right_of_transposed(w + (tap * kOut + j * kTileSize) * kPitch, kPitch, lane);
      const T* const rows_of_tap = x + (warp * kTileSize * RowTiles + tap / 3 * line + tap % 3) * kPitch;
      for (int i = 0; i < RowTiles; ++i) {
        const LeftTile left = load_left(rows_of_tap + i * kTileSize * kPitch, kPitch, lane);
        for (int j = 0; j < 2; ++j) multiply_add<T>(product[i][j], left, right[j]);
      }
    }
  }

  __syncthreads();  // the operands have been read
  for (int i = 0; i < RowTiles; ++i)
    for (int j = 0; j < 2; ++j)
      store_tile(memory + (warp * RowTiles + i) * kTileSize * kOutPitch + j * kTileSize, kOutPitch,
                 rounded<T>(product[i][j]), lane);
  __syncthreads();
  const int out_column = thread % kOutLanes * kTilePack;
#pragma unroll 4
  for (int row = row_of_thread<kOutLanes>(thread); row < kRows; row += kThreads / kOutLanes)
    if (const int to = p.counting.row_of(first + row); to >= 0)
      *reinterpret_cast<uint4*>(p.y.at(to, slice * kOut + out_column)) =
          *reinterpret_cast<const uint4*>(memory + row * kOutPitch + out_column);
}

template <int RowTiles>
bool fits(const Shape& x) {
  return kTileRows<RowTiles> + 2 * (x.w + 2) <= kEntries;
}

template <class T, bool IsGradient>
void launch(const char* op, View y, ConstView x, ConstView w, cudaStream_t stream) {
  const std::int64_t slices = y.shape.c / kOut;
  const GrowthParams<T> params{.counting = Counting(x.shape),
                               .x = rows_of<T>(x, op),
                               .w = w.as<T>(),
                               .y = rows_of<T>(y, op),
                               .depth = int(x.shape.c),
                               .slices = int(slices)};
  const auto run = [&]<int RowTiles>(std::integral_constant<int, RowTiles>) {
    const std::int64_t tiles = (params.counting.pixels + kTileRows<RowTiles> - 1) / kTileRows<RowTiles>;
    gpu::launch(op, conv_growth_kernel<T, RowTiles, IsGradient>,
                {.grid = dim3(unsigned(tiles * slices)), .block = dim3(kThreads), .stream = stream}, params);
  };
  // Larger tiles read less of x twice, and the weights less often, but must leave two for every multiprocessor.
  const std::int64_t rows = params.counting.pixels * slices / at_most_enough(2 * kMultiprocessors);
  if (rows >= kTileRows<4> && fits<4>(x.shape)) return run(std::integral_constant<int, 4>{});
  if (rows >= kTileRows<2>) return run(std::integral_constant<int, 2>{});
  run(std::integral_constant<int, 1>{});
}

}  // namespace
}  // namespace growth

bool can_conv_growth(const ConvSpec& spec, std::initializer_list<ConstView> views) {
  return has_conv_growth(spec, views.begin()->dtype) && can_move(kTilePack, views) && growth::fits<2>(spec.x) &&
         growth::Counting::is_exact(spec.x);
}

void conv_growth(View y, ConstView x, ConstView w, cudaStream_t stream) {
  constexpr const char* kOp = "conv_growth";
  with_half_type(kOp, x.dtype, [&]<class T>() { growth::launch<T, false>(kOp, y, x, w, stream); });
}

void conv_growth_data_grad(View dx, ConstView dy, ConstView w, cudaStream_t stream) {
  constexpr const char* kOp = "conv_growth_data_grad";
  with_half_type(kOp, dx.dtype, [&]<class T>() { growth::launch<T, true>(kOp, dx, dy, w, stream); });
}

}  // namespace graft::gpu
