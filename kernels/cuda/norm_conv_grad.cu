// The gradients of norm_conv.cu: that of the weight, and that of the norm's input with the norm's own sums.
#include "kernels/cuda/norm_conv.h"

namespace graft::gpu {
namespace {

using namespace norm_conv_detail;

// ---- gradient of the weight

constexpr int kWeightChannels = 128;                  // of x, in a block's tile
constexpr int kWeightDepth = 32;                      // pixels at a time
constexpr int kWeightPitch = kOut + kTilePadding;     // of both operands
constexpr int kWeightLanes = kOut / kTilePack;        // threads over a row of an operand
constexpr int kWeightStep = kThreads / kWeightLanes;  // rows between those of a thread
constexpr int kWeightLoads = kWeightDepth / kWeightStep;
static_assert(kWeightChannels == kOut);

template <class T>
struct WeightGradParams {
  NormInput<T> in;
  ConstRows<T> dy;
  float* partials;  // [splits][kOut][channels]
  std::int64_t rows_per_split;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 2) norm_conv_weight_grad_kernel(const WeightGradParams<T> p) {
  __shared__ __align__(16) T a[2][kWeightDepth * kWeightPitch], b[2][kWeightDepth * kWeightPitch];
  __shared__ SharedConstants<kWeightChannels> constants;
  const int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int column = thread % kWeightLanes * kTilePack, first = thread / kWeightLanes;
  const int warp_row = warp / 4 * 64, warp_column = warp % 4 * 32;
  // The tiles of the same pixels run side by side, so that dy is read from memory once.
  const std::int64_t tiles = (p.in.channels + kWeightChannels - 1) / kWeightChannels;
  const std::int64_t channel0 = std::int64_t(blockIdx.x) % tiles * kWeightChannels;
  const std::int64_t split = std::int64_t(blockIdx.x) / tiles;
  const std::int64_t begin = split * p.rows_per_split, end = min(p.in.rows, begin + p.rows_per_split);
  const bool has_channel = channel0 + column < p.in.channels, has_columns = channel0 + warp_column < p.in.channels;

  using Loads = Waiting<T, kTilePack>[kWeightLoads];
  const T* x_at = p.in.x.at(begin + first, channel0 + column);
  int x_left = has_channel ? int(end - begin) - first : 0;  // rows of the split from what is loaded next
  const auto load_x = [&](Loads& x) {
#pragma unroll
    for (int i = 0; i < kWeightLoads; ++i) {
      x[i] = {};
      if (i * kWeightStep < x_left) x[i] = load_once(x_at + i * kWeightStep * p.in.x.pitch);
    }
    x_at += kWeightDepth * p.in.x.pitch, x_left -= kWeightDepth;
  };
  const T* dy_at = p.dy.at(begin + first, column);
  int dy_left = int(end - begin) - first;
  const auto begin_dy = [&](int buffer) {  // zeros beyond the end
#pragma unroll
    for (int i = 0; i < kWeightLoads; ++i) {
      const bool is_there = i * kWeightStep < dy_left;
      begin_copy(a[buffer] + (first + i * kWeightStep) * kWeightPitch + column,
                 is_there ? dy_at + i * kWeightStep * p.dy.pitch : p.dy.data, is_there);
    }
    dy_at += kWeightDepth * p.dy.pitch, dy_left -= kWeightDepth;
  };
  SumTile product[4][2];

  Loads even, odd;  // x of this step and of the next
  begin_dy(0);
  load_x(even);
  load_x(odd);
  if (thread < kWeightChannels) constants.set(thread, constants_of(p.in, channel0 + thread));
  __syncthreads();
  const NormConstants<kTilePack> n = constants.at(column);
  int buffer = 0;
  const auto step = [&](Loads& x, bool is_last) {
    const T *const left_at = a[buffer], *const right_at = b[buffer];
#pragma unroll
    for (int i = 0; i < kWeightLoads; ++i) {
      // Zeros beyond the end too: a shift that is infinite in 16 bits would make a NaN of dy's.
      Pack<kTilePack> v = {};
      if (i * kWeightStep < dy_left + kWeightDepth) v = n.before_relu(unpacked(x[i]));
      store_shared_relu(b[buffer] + (first + i * kWeightStep) * kWeightPitch + column, v);
    }
    wait_for_copies();
    __syncthreads();  // whoever reads these operands passes the next barrier before they are overwritten
    buffer ^= 1;
    if (!is_last) begin_dy(buffer);
    load_x(x);
    if (!has_columns) return;
#pragma unroll
    for (int k = 0; k < kWeightDepth; k += kTileSize) {
      RightTile right[2];
      for (int j = 0; j < 2; ++j)
        right[j] = load_right(right_at + k * kWeightPitch + warp_column + j * kTileSize, kWeightPitch, lane);
      for (int i = 0; i < 4; ++i) {
        const LeftTile left =
            load_left_of_transposed(left_at + k * kWeightPitch + warp_row + i * kTileSize, kWeightPitch, lane);
        for (int j = 0; j < 2; ++j) multiply_add<T>(product[i][j], left, right[j]);
      }
    }
  };
  for (std::int64_t next = begin + kWeightDepth; next < end + kWeightDepth; next += kWeightDepth) {
    step(even, next >= end);
    if ((next += kWeightDepth) < end + kWeightDepth) step(odd, next >= end);
  }
  wait_for_copies();  // also where there was no step
  if (!has_columns) return;
  float* const to = p.partials + split * kOut * p.in.channels + channel0 + warp_column;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 2; ++j)
      store_sums(to + (warp_row + i * kTileSize) * p.in.channels + j * kTileSize, p.in.channels, product[i][j], lane);
}

// ---- gradient of the norm's input

constexpr int kDataThreads = 128;
constexpr int kDataRows = 64;                                // pixels of a block's tile
constexpr int kDataChannels = 64;                            // and channels of x, 16 for each warp
constexpr int kDataPitch = kOut + kTilePadding;              // of dy in shared memory
constexpr int kDataOutPitch = kDataChannels + kTilePadding;  // of the product there, and of the weight
constexpr int kDataInLanes = kOut / kTilePack;               // threads over a row of dy
constexpr int kDataInStep = kDataThreads / kDataInLanes;
constexpr int kDataInLoads = kDataRows / kDataInStep;
constexpr int kDataLanes = kDataChannels / kTilePack;  // threads over a row of x
constexpr int kDataStep = kDataThreads / kDataLanes;
constexpr int kDataLoads = kDataRows / kDataStep;

template <class T>
struct DataGradParams {
  NormInput<T> in;
  ConstRows<T> dy, w;
  Rows<T> dx;  // null: not wanted
  bool adds;
  double* partials;  // [row_blocks][2][channels] sums of g and of g * (x - mean)
  unsigned row_blocks;
};

template <class T>
__global__ void __launch_bounds__(kDataThreads, 3) norm_conv_data_grad_kernel(const DataGradParams<T> p) {
  __shared__ __align__(16) T in[kDataRows * kDataPitch];
  __shared__ __align__(16) float out[kDataRows * kDataOutPitch];  // the product; first the weight, last the sums
  __shared__ SharedConstants<kDataChannels> constants;
  const int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int in_column = thread % kDataInLanes * kTilePack, in_first = thread / kDataInLanes;
  const int column = thread % kDataLanes * kTilePack, first = thread / kDataLanes;
  const std::int64_t tiles = (p.in.channels + kDataChannels - 1) / kDataChannels;
  const std::int64_t channel0 = std::int64_t(blockIdx.x) % tiles * kDataChannels;
  const std::int64_t row_block = std::int64_t(blockIdx.x) / tiles;
  const std::int64_t channel = channel0 + column;
  const bool has_channel = channel < p.in.channels, has_tile = channel0 + warp * kTileSize < p.in.channels;

  const std::int64_t step = std::int64_t(p.row_blocks) * kDataRows;
  Waiting<T, kTilePack> dy[kDataInLoads];
  const auto load_dy = [&](std::int64_t tile) {
#pragma unroll
    for (int i = 0; i < kDataInLoads; ++i) {
      const std::int64_t row = tile + in_first + i * kDataInStep;
      dy[i] = {};
      if (row < p.in.rows) dy[i] = load_waiting<kTilePack>(p.dy.at(row, in_column));
    }
  };
  load_dy(row_block * kDataRows);

  // The weight's tiles stay with the warp.
  static_assert(sizeof out >= kOut * kDataOutPitch * sizeof(T));
  T* const weight = reinterpret_cast<T*>(out);
  if (has_channel)
    for (int k = first; k < kOut; k += kDataStep)
      store_shared(weight + k * kDataOutPitch + column, load_waiting<kTilePack>(p.w.at(k, channel)));
  if (thread < kDataChannels) constants.set(thread, constants_of(p.in, channel0 + thread));
  __syncthreads();
  RightTile w[kOut / kTileSize] = {};
  if (has_tile)
    for (int k = 0; k < kOut / kTileSize; ++k)
      w[k] = load_right(weight + k * kTileSize * kDataOutPitch + warp * kTileSize, kDataOutPitch, lane);

  float sum[kTilePack] = {}, dot[kTilePack] = {};
  for (std::int64_t tile = row_block * kDataRows; tile < p.in.rows; tile += step) {
#pragma unroll
    for (int i = 0; i < kDataInLoads; ++i)  // its readers have passed the barrier behind the product
      store_shared(in + (in_first + i * kDataInStep) * kDataPitch + in_column, dy[i]);
    __syncthreads();  // and `out` has been read
    Waiting<T, kTilePack> x[kDataLoads], dx[kDataLoads];
#pragma unroll
    for (int i = 0; i < kDataLoads; ++i) {
      const std::int64_t row = tile + first + i * kDataStep;
      x[i] = dx[i] = {};
      if (row >= p.in.rows || !has_channel) continue;
      x[i] = load_waiting<kTilePack>(p.in.x.at(row, channel));
      if (p.dx.data && p.adds) dx[i] = load_waiting<kTilePack>(p.dx.at(row, channel));
    }
    if (tile + step < p.in.rows) load_dy(tile + step);
    if (has_tile)
      for (int i = 0; i < kDataRows / kTileSize; ++i) {
        SumTile product;
#pragma unroll
        for (int k = 0; k < kOut / kTileSize; ++k)
          multiply_add<T>(product, load_left(in + i * kTileSize * kDataPitch + k * kTileSize, kDataPitch, lane), w[k]);
        store_sums(out + i * kTileSize * kDataOutPitch + warp * kTileSize, kDataOutPitch, product, lane);
      }
    __syncthreads();
    const NormConstants<kTilePack> n = constants.at(column);
#pragma unroll
    for (int i = 0; i < kDataLoads; ++i) {
      const std::int64_t row = tile + first + i * kDataStep;
      if (row >= p.in.rows || !has_channel) break;
      Pack<kTilePack> g = load<kTilePack>(out + (first + i * kDataStep) * kDataOutPitch + column);
      const Pack<kTilePack> from = unpacked(x[i]);
      pass_gate(g, positive_bits(n.before_relu(from), kRoundsToZero<T>));
      Pack<kTilePack> to = unpacked(dx[i]);
      for (int l = 0; l < kTilePack; ++l) {
        sum[l] += g.v[l];
        dot[l] += g.v[l] * (from.v[l] - n.mean.v[l]);
        to.v[l] += g.v[l] * n.scale.v[l];
      }
      if (p.dx.data) store<kTilePack>(p.dx.at(row, channel), to);
    }
  }

  // The threads' sums over the block's rows.
  __syncthreads();
  constexpr int kRow = kDataChannels + 1;  // so that threads of one column lie in different banks
  static_assert(sizeof out >= 2 * kDataStep * kRow * sizeof(float));
  for (int l = 0; l < kTilePack; ++l) {
    out[first * kRow + column + l] = sum[l];
    out[(kDataStep + first) * kRow + column + l] = dot[l];
  }
  __syncthreads();
  const int sum_column = thread % kDataChannels, which = thread / kDataChannels;
  if (channel0 + sum_column >= p.in.channels) return;
  double s = 0;
  for (int row = 0; row < kDataStep; ++row) s += double(out[(which * kDataStep + row) * kRow + sum_column]);
  p.partials[(row_block * 2 + which) * p.in.channels + channel0 + sum_column] = s;
}

unsigned weight_tiles(const Shape& x) { return unsigned((x.c + kWeightChannels - 1) / kWeightChannels); }
/// So that all blocks run at once, each over some hundred pixels at least.
unsigned weight_splits(const Shape& x) {
  constexpr std::int64_t kFewestRows = 8 * kWeightDepth;
  const std::int64_t most = kBlocks / weight_tiles(x);
  return at_most((rows_of_shape(x) + kFewestRows - 1) / kFewestRows, most < 1 ? 1 : most);
}
unsigned data_tiles(const Shape& x) { return unsigned((x.c + kDataChannels - 1) / kDataChannels); }
unsigned data_row_blocks(const Shape& x) {
  const std::int64_t most = kDataBlocks / data_tiles(x);
  return at_most((rows_of_shape(x) + kDataRows - 1) / kDataRows, most < 1 ? 1 : most);
}

}  // namespace

std::int64_t norm_conv_weight_grad_scratch_bytes(const Shape& x) {
  return std::int64_t(weight_splits(x)) * kOut * x.c * 4;
}

void norm_conv_weight_grad(View dw, Write write, ConstView dy, ConstView x, const NormalizeArgs& args, float* scratch,
                           cudaStream_t stream) {
  constexpr const char* kOp = "norm_conv_weight_grad";
  with_half_type(kOp, x.dtype, [&]<class T>() {
    const unsigned splits = weight_splits(x.shape);
    const std::int64_t steps = (rows_of_shape(x.shape) + kWeightDepth - 1) / kWeightDepth;
    launch(kOp, norm_conv_weight_grad_kernel<T>,
           {.grid = dim3(splits * weight_tiles(x.shape)), .block = dim3(kThreads), .stream = stream},
           WeightGradParams<T>{.in = input_of<T>(x, args, kOp),
                               .dy = rows_of<T>(dy, kOp),
                               .partials = scratch,
                               .rows_per_split = (steps + splits - 1) / splits * kWeightDepth});
    add_splits(kOp, dw, write, scratch, splits, stream);
  });
}

std::int64_t norm_conv_data_grad_scratch_bytes(const Shape& x) {
  return std::int64_t(data_row_blocks(x)) * 2 * x.c * 8;
}

void norm_conv_data_grad(View dx, Write write, View sums, const NormalizeParameterGrads& to, ConstView dy, ConstView x,
                         const NormalizeArgs& args, ConstView w, double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "norm_conv_data_grad";
  with_half_type(kOp, x.dtype, [&]<class T>() {
    const unsigned blocks = data_row_blocks(x.shape);
    launch(kOp, norm_conv_data_grad_kernel<T>,
           {.grid = dim3(blocks * data_tiles(x.shape)), .block = dim3(kDataThreads), .stream = stream},
           DataGradParams<T>{.in = input_of<T>(x, args, kOp),
                             .dy = rows_of<T>(dy, kOp),
                             .w = weight_rows<T>(w),
                             .dx = rows_of<T>(dx, kOp),
                             .adds = write == Write::add,
                             .partials = scratch,
                             .row_blocks = blocks});
    finish_norm_sums(kOp, sums, to, args, {scratch, blocks, x.shape.c}, stream);
  });
}

}  // namespace graft::gpu
