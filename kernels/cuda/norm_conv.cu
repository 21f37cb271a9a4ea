// A norm, its ReLU and the pointwise convolution behind it as one product of matrices on tensor cores, pixels in rows:
// what lies between the two is made again from x wherever it is needed, and is never in memory. Three kernels: forward
// with the sums of what it gives, the gradient of the weight, and that of the norm's input with the norm's own sums.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/tensor_core.h"

namespace graft::gpu {
namespace {

constexpr int kOut = int(kNormConvOut);
constexpr int kPack = 8;  // channels that a thread moves at once
/// Blocks of a grid at most: two or three for each of an H100's 132 multiprocessors.
constexpr int at_most_enough(int blocks) { return blocks < kEnoughBlocks ? blocks : int(kEnoughBlocks); }
constexpr int kBlocks = at_most_enough(264), kDataBlocks = at_most_enough(396);
constexpr int kPadding = 8;  // of rows in shared memory, so that those of a tile lie in different banks
constexpr unsigned kAllLanes = 0xffffffffu;

/// x as a matrix of pixels and channels, and the norm over it.
template <class T>
struct NormInput {
  ConstRows<T> x;
  std::int64_t rows, channels;
  ConstRows<float> stats;
  const float *gamma, *beta;
  float epsilon;
};

/// A norm's constants of W channels; what `normalize` computes with.
template <int W>
struct NormConstants {
  Pack<W> mean = {}, scale = {}, beta = {};
  __device__ __forceinline__ Pack<W> before_relu(const Pack<W>& x) const {
    Pack<W> v;
    for (int l = 0; l < W; ++l) v.v[l] = (x.v[l] - mean.v[l]) * scale.v[l] + beta.v[l];
    return v;
  }
};

template <int W, class T>
__device__ __forceinline__ NormConstants<W> norm_constants(const NormInput<T>& in, std::int64_t channel) {
  Pack<W> c[4];
  load_constants<W>({in.stats.at(0, channel), in.stats.at(1, channel), in.gamma + channel, in.beta + channel}, c);
  NormConstants<W> n{.mean = c[0], .scale = {}, .beta = c[3]};
  for (int l = 0; l < W; ++l) n.scale.v[l] = inverse_deviation(c[1].v[l], in.epsilon) * c[2].v[l];
  return n;
}

/// The constants of a tile's channels in shared memory; a thread writes those of one channel. The first four of eight
/// channels lie apart from the others, so that neighbouring threads read neighbouring words.
template <int Channels>
struct SharedConstants {
  alignas(16) float values[3][Channels];

  __device__ __forceinline__ void set(int channel, const NormConstants<1>& n) {
    const int at = channel % 8 / 4 * (Channels / 2) + channel / 8 * 4 + channel % 4;
    values[0][at] = n.mean.v[0], values[1][at] = n.scale.v[0], values[2][at] = n.beta.v[0];
  }
  __device__ __forceinline__ NormConstants<kPack> at(int channel) const {
    NormConstants<kPack> n;
    Pack<kPack>* const to[3] = {&n.mean, &n.scale, &n.beta};
    for (int i = 0; i < 3; ++i)
      for (int half = 0; half < 2; ++half) {
        const Pack<4> four = load<4>(&values[i][half * (Channels / 2) + channel / 2]);
        for (int l = 0; l < 4; ++l) to[i]->v[4 * half + l] = four.v[l];
      }
    return n;
  }
};

/// Zeros beyond the last channel.
template <class T>
__device__ __forceinline__ NormConstants<1> constants_of(const NormInput<T>& in, std::int64_t channel) {
  NormConstants<1> n;
  if (channel < in.channels) n = norm_constants<1>(in, channel);
  return n;
}

/// What is read once: it leaves the nearest cache to what is read again.
template <class T>
__device__ __forceinline__ Waiting<T, kPack> load_once(const T* p) {
  return std::bit_cast<Waiting<T, kPack>>(__ldcg(reinterpret_cast<const uint4*>(p)));
}
template <class T>
__device__ __forceinline__ Waiting<T, kPack> load_often(const T* p) {
  return load_waiting<kPack>(p);
}

template <class T>
__device__ __forceinline__ void store_shared(T* to, const Waiting<T, kPack>& v) {
  *reinterpret_cast<uint4*>(to) = std::bit_cast<uint4>(v);
}
template <class T>
__device__ __forceinline__ void store_shared_relu(T* to, const Pack<kPack>& v) {
  Elements<T, kPack> e;
  for (int l = 0; l < kPack; ++l) e.v[l] = narrow<T>(v.v[l] < 0 ? 0.0f : v.v[l]);
  *reinterpret_cast<uint4*>(to) = std::bit_cast<uint4>(e);
}

// ---- forward

constexpr int kForwardRows = 128;                        // pixels of a block's tile, by all of the output's channels
constexpr int kForwardDepth = 32;                        // channels of x at a time
constexpr int kForwardPitch = kForwardDepth + kPadding;  // of the operands in shared memory
constexpr int kForwardLanes = kForwardDepth / kPack;     // threads over a row of an operand
constexpr int kForwardStep = kThreads / kForwardLanes;   // rows between those of a thread
constexpr int kForwardLoads = kForwardRows / kForwardStep;
constexpr int kOutPitch = kOut + kPadding;  // of y there
constexpr int kOutLanes = kOut / kPack;     // threads over a row of y
constexpr int kOutStep = kThreads / kOutLanes;
static_assert(kThreads == 2 * kOut);

template <class T>
struct ForwardParams {
  NormInput<T> in;
  ConstRows<T> w;
  Rows<T> y;
  double* partials;   // [blocks][2][kOut] sums of y and y^2; null: not wanted
  const float* bias;  // null: none
  bool has_relu;
};

/// Of the sums of a warp's 64 x 32 tile of y, the column that a lane's value c stands in (c < 8).
__device__ __forceinline__ int column_of(int c, int lane) {
  return c / 4 * kTileSize + c / 2 % 2 * 8 + lane % 4 * 2 + c % 2;
}

/// Adds up the lanes that have the same columns: sums[0 .. 7] of d and sums[8 .. 15] of d^2. What a lane keeps are two
/// of the sixteen sums, of columns c and c + 1, and of d^2 if `squares`.
struct LaneSums {
  float values[2];
  int c;
  bool squares;
};
__device__ __forceinline__ LaneSums add_lanes(float (&sums)[16], int lane) {
  int left = 16;
#pragma unroll
  for (int other = 16; other >= 4; other /= 2) {
    left /= 2;
    const bool upper = (lane & other) != 0;
#pragma unroll
    for (int k = 0; k < left; ++k) {
      const float gives = upper ? sums[k] : sums[left + k], keeps = upper ? sums[left + k] : sums[k];
      sums[k] = keeps + __shfl_xor_sync(kAllLanes, gives, other);
    }
  }
  return {{sums[0], sums[1]}, lane / 8 % 2 * 4 + lane / 4 % 2 * 2, lane >= 16};
}

template <class T>
__global__ void __launch_bounds__(kThreads, 2) norm_conv_kernel(const ForwardParams<T> p) {
  constexpr int kOperand = kForwardRows * kForwardPitch;
  __shared__ __align__(16) T memory[4 * kOperand];  // two operands, twice; or y
  static_assert(4 * kOperand >= kForwardRows * kOutPitch);
  __shared__ SharedConstants<kForwardDepth> constants[3];  // of this step and of the two that follow
  __shared__ float shifts[kOut], warp_sums[2][2][kOut];

  const int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32;
  // The rows of a warp's quarters are four apart, where the banks are others.
  const int column = lane % kForwardLanes * kPack, first = warp * 8 + lane / 4 % 2 * 4 + lane / 8;
  const int warp_row = warp / 4 * 64, warp_column = warp % 4 * 32;
  // What thread t sums over the block's pixels: channel t % kOut of y, squared if t >= kOut; both about the shift.
  double total = 0;
  std::int64_t pixels = 0;

  for (std::int64_t tile = std::int64_t(blockIdx.x) * kForwardRows; tile < p.in.rows;
       tile += std::int64_t(gridDim.x) * kForwardRows) {
    const int rows = int(min(std::int64_t(kForwardRows), p.in.rows - tile));
    const T *x_at = p.in.x.at(tile + first, column), *w_at = p.w.at(first, column);
    Waiting<T, kPack> x[kForwardLoads], w[kForwardLoads];
    const auto load_step = [&] {
#pragma unroll
      for (int i = 0; i < kForwardLoads; ++i) {
        x[i] = {};
        if (first + i * kForwardStep < rows) x[i] = load_once(x_at + i * kForwardStep * p.in.x.pitch);
        w[i] = load_often(w_at + i * kForwardStep * p.w.pitch);
      }
      x_at += kForwardDepth, w_at += kForwardDepth;
    };
    SumTile product[4][2];

    load_step();
    __syncthreads();  // nobody reads y or constants of the tile before
    if (thread < 2 * kForwardDepth)
      constants[thread / kForwardDepth].set(thread % kForwardDepth, constants_of(p.in, thread));
    __syncthreads();
    int step = 0;
    for (std::int64_t depth = 0; depth < p.in.channels; depth += kForwardDepth, ++step) {
      T *const a = memory + step % 2 * 2 * kOperand, *const b = a + kOperand;
      const NormConstants<kPack> n = constants[step % 3].at(column);
#pragma unroll
      for (int i = 0; i < kForwardLoads; ++i) {
        const int at = (first + i * kForwardStep) * kForwardPitch + column;
        store_shared_relu(a + at, n.before_relu(widened(x[i])));
        store_shared(b + at, w[i]);
      }
      __syncthreads();  // whoever reads these operands passes the next barrier before they are overwritten
      NormConstants<1> coming;
      if (thread < kForwardDepth) coming = constants_of(p.in, depth + 2 * kForwardDepth + thread);
      if (depth + kForwardDepth < p.in.channels) load_step();
#pragma unroll
      for (int k = 0; k < kForwardDepth; k += kTileSize) {
        RightTile right[2];
        for (int j = 0; j < 2; ++j)
          right[j] =
              load_right_of_transposed(b + (warp_column + j * kTileSize) * kForwardPitch + k, kForwardPitch, lane);
        for (int i = 0; i < 4; ++i) {
          const LeftTile left = load_left(a + (warp_row + i * kTileSize) * kForwardPitch + k, kForwardPitch, lane);
          for (int j = 0; j < 2; ++j) multiply_add<T>(product[i][j], left, right[j]);
        }
      }
      if (thread < kForwardDepth) constants[(step + 2) % 3].set(thread, coming);
    }

    // What is done to y, its rounding and its sums, in the registers that hold it.
    const bool is_first = p.partials && pixels == 0;
    for (int c = 0; c < 8; ++c) {
      const float bias = p.bias ? p.bias[warp_column + column_of(c, lane)] : 0.0f;
      for (int i = 0; i < 4; ++i)
        for (int r = 0; r < 2; ++r) {
          float& v = product[i][c / 4].halves[c / 2 % 2][2 * r + c % 2];
          v += bias;
          if (p.has_relu) v = v < 0 ? 0.0f : v;
          v = widen(narrow<T>(v));
        }
      if (is_first && warp_row == 0 && lane < 4)  // any pixel's value is near enough
        shifts[warp_column + column_of(c, lane)] = product[0][c / 4].halves[c / 2 % 2][c % 2];
    }
    __syncthreads();  // the operands have been read, and there is a shift
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 2; ++j)
        store_tile(memory + (warp_row + i * kTileSize) * kOutPitch + warp_column + j * kTileSize, kOutPitch,
                   product[i][j], lane);
    if (p.partials) {
      float sums[16] = {};
      for (int c = 0; c < 8; ++c) {
        const float shift = shifts[warp_column + column_of(c, lane)];
        for (int i = 0; i < 4; ++i)
          for (int r = 0; r < 2; ++r) {
            if (warp_row + i * kTileSize + lane / 4 + 8 * r >= rows) continue;
            const float d = product[i][c / 4].halves[c / 2 % 2][2 * r + c % 2] - shift;
            sums[c] += d;
            sums[8 + c] += d * d;
          }
      }
      const LaneSums kept = add_lanes(sums, lane);
      for (int l = 0; l < 2; ++l)
        warp_sums[warp / 4][kept.squares][warp_column + column_of(kept.c + l, lane)] = kept.values[l];
    }
    __syncthreads();
    const int out_column = thread % kOutLanes * kPack;
#pragma unroll 4
    for (int row = thread / kOutLanes; row < rows; row += kOutStep)
      *reinterpret_cast<uint4*>(p.y.at(tile + row, out_column)) =
          *reinterpret_cast<const uint4*>(memory + row * kOutPitch + out_column);
    if (p.partials)
      total += double(warp_sums[0][thread / kOut][thread % kOut]) + double(warp_sums[1][thread / kOut][thread % kOut]);
    pixels += rows;
  }

  if (!p.partials) return;
  // About zero: sum y = sum d + n s, sum y^2 = sum d^2 + 2 s sum d + n s^2.
  __shared__ double sums_of_d[kOut];
  if (thread < kOut) sums_of_d[thread] = total;
  __syncthreads();
  const double s = double(shifts[thread % kOut]), n = double(pixels);
  p.partials[std::int64_t(blockIdx.x) * 2 * kOut + thread] =
      thread < kOut ? total + n * s : total + s * (2 * sums_of_d[thread % kOut] + n * s);
}

// ---- gradient of the weight

constexpr int kWeightChannels = 128;                  // of x, in a block's tile
constexpr int kWeightDepth = 32;                      // pixels at a time
constexpr int kWeightPitch = kOut + kPadding;         // of both operands
constexpr int kWeightLanes = kOut / kPack;            // threads over a row of an operand
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
  const int column = thread % kWeightLanes * kPack, first = thread / kWeightLanes;
  const int warp_row = warp / 4 * 64, warp_column = warp % 4 * 32;
  // The tiles of the same pixels run side by side, so that dy is read from memory once.
  const std::int64_t tiles = (p.in.channels + kWeightChannels - 1) / kWeightChannels;
  const std::int64_t channel0 = std::int64_t(blockIdx.x) % tiles * kWeightChannels;
  const std::int64_t split = std::int64_t(blockIdx.x) / tiles;
  const std::int64_t begin = split * p.rows_per_split, end = min(p.in.rows, begin + p.rows_per_split);
  const bool has_channel = channel0 + column < p.in.channels, has_columns = channel0 + warp_column < p.in.channels;

  Waiting<T, kPack> x[kWeightLoads], dy[kWeightLoads];
  const auto load_step = [&](std::int64_t from) {
#pragma unroll
    for (int i = 0; i < kWeightLoads; ++i) {
      x[i] = dy[i] = {};
      const std::int64_t row = from + first + i * kWeightStep;
      if (row >= end) continue;
      dy[i] = load_often(p.dy.at(row, column));
      if (has_channel) x[i] = load_once(p.in.x.at(row, channel0 + column));
    }
  };
  SumTile product[4][2];

  load_step(begin);
  if (thread < kWeightChannels) constants.set(thread, constants_of(p.in, channel0 + thread));
  __syncthreads();
  int buffer = 0;
  for (std::int64_t from = begin; from < end; from += kWeightDepth, buffer ^= 1) {
    const NormConstants<kPack> n = constants.at(column);
#pragma unroll
    for (int i = 0; i < kWeightLoads; ++i) {
      const int at = (first + i * kWeightStep) * kWeightPitch + column;
      Pack<kPack> v = {};
      if (from + first + i * kWeightStep < end) v = n.before_relu(widened(x[i]));
      store_shared(a[buffer] + at, dy[i]);
      store_shared_relu(b[buffer] + at, v);
    }
    __syncthreads();  // whoever reads these operands passes the next barrier before they are overwritten
    if (from + kWeightDepth < end) load_step(from + kWeightDepth);
    if (!has_columns) continue;
#pragma unroll
    for (int k = 0; k < kWeightDepth; k += kTileSize) {
      RightTile right[2];
      for (int j = 0; j < 2; ++j)
        right[j] = load_right(b[buffer] + k * kWeightPitch + warp_column + j * kTileSize, kWeightPitch, lane);
      for (int i = 0; i < 4; ++i) {
        const LeftTile left =
            load_left_of_transposed(a[buffer] + k * kWeightPitch + warp_row + i * kTileSize, kWeightPitch, lane);
        for (int j = 0; j < 2; ++j) multiply_add<T>(product[i][j], left, right[j]);
      }
    }
  }
  if (!has_columns) return;
  float* const to = p.partials + split * kOut * p.in.channels + channel0 + warp_column;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 2; ++j)
      store_sums(to + (warp_row + i * kTileSize) * p.in.channels + j * kTileSize, p.in.channels, product[i][j], lane);
}

/// dw from the splits' parts, in their order.
__global__ void __launch_bounds__(kThreads)
    add_splits_kernel(const float* parts, const std::int64_t size, const unsigned splits, float* dw, const bool adds) {
  const std::int64_t i = (std::int64_t(blockIdx.x) * kThreads + threadIdx.x) * 4;
  if (i >= size) return;
  Pack<4> sum = {};
  constexpr unsigned kTogether = 8;
  for (unsigned s = 0; s < splits; s += kTogether) {
    Pack<4> part[kTogether] = {};
#pragma unroll
    for (unsigned k = 0; k < kTogether; ++k)
      if (s + k < splits) part[k] = load<4>(parts + (s + k) * size + i);
#pragma unroll
    for (unsigned k = 0; k < kTogether; ++k)
      for (int l = 0; l < 4; ++l) sum.v[l] += part[k].v[l];
  }
  write<4>(dw + i, sum, adds);
}

// ---- gradient of the norm's input

constexpr int kDataThreads = 128;
constexpr int kDataRows = 64;                            // pixels of a block's tile
constexpr int kDataChannels = 64;                        // and channels of x, 16 for each warp
constexpr int kDataPitch = kOut + kPadding;              // of dy in shared memory
constexpr int kDataOutPitch = kDataChannels + kPadding;  // of the product there, and of the weight
constexpr int kDataInLanes = kOut / kPack;               // threads over a row of dy
constexpr int kDataInStep = kDataThreads / kDataInLanes;
constexpr int kDataInLoads = kDataRows / kDataInStep;
constexpr int kDataLanes = kDataChannels / kPack;  // threads over a row of x
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
  const int in_column = thread % kDataInLanes * kPack, in_first = thread / kDataInLanes;
  const int column = thread % kDataLanes * kPack, first = thread / kDataLanes;
  const std::int64_t tiles = (p.in.channels + kDataChannels - 1) / kDataChannels;
  const std::int64_t channel0 = std::int64_t(blockIdx.x) % tiles * kDataChannels;
  const std::int64_t row_block = std::int64_t(blockIdx.x) / tiles;
  const std::int64_t channel = channel0 + column;
  const bool has_channel = channel < p.in.channels, has_tile = channel0 + warp * kTileSize < p.in.channels;

  const std::int64_t step = std::int64_t(p.row_blocks) * kDataRows;
  Waiting<T, kPack> dy[kDataInLoads];
  const auto load_dy = [&](std::int64_t tile) {
#pragma unroll
    for (int i = 0; i < kDataInLoads; ++i) {
      const std::int64_t row = tile + in_first + i * kDataInStep;
      dy[i] = {};
      if (row < p.in.rows) dy[i] = load_waiting<kPack>(p.dy.at(row, in_column));
    }
  };
  load_dy(row_block * kDataRows);

  // The weight's tiles stay with the warp.
  static_assert(sizeof out >= kOut * kDataOutPitch * sizeof(T));
  T* const weight = reinterpret_cast<T*>(out);
  if (has_channel)
    for (int k = first; k < kOut; k += kDataStep)
      store_shared(weight + k * kDataOutPitch + column, load_waiting<kPack>(p.w.at(k, channel)));
  if (thread < kDataChannels) constants.set(thread, constants_of(p.in, channel0 + thread));
  __syncthreads();
  RightTile w[kOut / kTileSize] = {};
  if (has_tile)
    for (int k = 0; k < kOut / kTileSize; ++k)
      w[k] = load_right(weight + k * kTileSize * kDataOutPitch + warp * kTileSize, kDataOutPitch, lane);

  float sum[kPack] = {}, dot[kPack] = {};
  for (std::int64_t tile = row_block * kDataRows; tile < p.in.rows; tile += step) {
#pragma unroll
    for (int i = 0; i < kDataInLoads; ++i)  // its readers have passed the barrier behind the product
      store_shared(in + (in_first + i * kDataInStep) * kDataPitch + in_column, dy[i]);
    __syncthreads();  // and `out` has been read
    Waiting<T, kPack> x[kDataLoads], dx[kDataLoads];
#pragma unroll
    for (int i = 0; i < kDataLoads; ++i) {
      const std::int64_t row = tile + first + i * kDataStep;
      x[i] = dx[i] = {};
      if (row >= p.in.rows || !has_channel) continue;
      x[i] = load_waiting<kPack>(p.in.x.at(row, channel));
      if (p.dx.data && p.adds) dx[i] = load_waiting<kPack>(p.dx.at(row, channel));
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
    const NormConstants<kPack> n = constants.at(column);
#pragma unroll
    for (int i = 0; i < kDataLoads; ++i) {
      const std::int64_t row = tile + first + i * kDataStep;
      if (row >= p.in.rows || !has_channel) break;
      Pack<kPack> g = load<kPack>(out + (first + i * kDataStep) * kDataOutPitch + column);
      const Pack<kPack> from = widened(x[i]);
      pass_gate(g, positive_bits(n.before_relu(from), kRoundsToZero<T>));
      Pack<kPack> to = widened(dx[i]);
      for (int l = 0; l < kPack; ++l) {
        sum[l] += g.v[l];
        dot[l] += g.v[l] * (from.v[l] - n.mean.v[l]);
        to.v[l] += g.v[l] * n.scale.v[l];
      }
      if (p.dx.data) store<kPack>(p.dx.at(row, channel), to);
    }
  }

  // The threads' sums over the block's rows.
  __syncthreads();
  constexpr int kRow = kDataChannels + 1;  // so that threads of one column lie in different banks
  static_assert(sizeof out >= 2 * kDataStep * kRow * sizeof(float));
  for (int l = 0; l < kPack; ++l) {
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

// ---- launches

template <class T>
NormInput<T> input_of(const ConstView& x, const NormalizeArgs& args, const char* op) {
  return {.x = rows_of<T>(x, op),
          .rows = x.shape.n * x.shape.pixels(),
          .channels = x.shape.c,
          .stats = rows_of<float>(args.stats, op),
          .gamma = args.gamma.as<float>(),
          .beta = args.beta.as<float>(),
          .epsilon = float(args.epsilon)};
}

template <class T>
ConstRows<T> weight_rows(const ConstView& w) {
  return {w.as<T>(), w.shape.c};
}

template <class Body>
void with_half_type(const char* op, DType dtype, const Body& body) {
  if (dtype == DType::bf16) return body.template operator()<__nv_bfloat16>();
  if (dtype == DType::f16) return body.template operator()<__half>();
  throw Error(std::string(op) + ": takes bf16 and f16, got " + std::string(to_string(dtype)));
}

std::int64_t rows_of_shape(const Shape& x) { return x.n * x.pixels(); }
unsigned at_most(std::int64_t blocks, std::int64_t most) { return unsigned(blocks < most ? blocks : most); }

unsigned forward_blocks(const Shape& x) {
  return at_most((rows_of_shape(x) + kForwardRows - 1) / kForwardRows, kBlocks);
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

bool can_norm_conv(const ConvSpec& spec, std::initializer_list<ConstView> views) {
  static_assert(32 % kForwardDepth == 0);
  return has_norm_conv(spec, views.begin()->dtype) && can_move(kPack, views);
}

std::int64_t norm_conv_scratch_bytes(const Shape& x) { return std::int64_t(forward_blocks(x)) * 2 * kOut * 8; }

void norm_conv(View y, const NormConvEpilogue& epilogue, ConstView x, const NormalizeArgs& args, ConstView w,
               double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "norm_conv";
  with_half_type(kOp, x.dtype, [&]<class T>() {
    const unsigned blocks = forward_blocks(x.shape);
    launch(kOp, norm_conv_kernel<T>, {.grid = dim3(blocks), .block = dim3(kThreads), .stream = stream},
           ForwardParams<T>{.in = input_of<T>(x, args, kOp),
                            .w = weight_rows<T>(w),
                            .y = rows_of<T>(y, kOp),
                            .partials = epilogue.stats.data ? scratch : nullptr,
                            .bias = epilogue.bias.as<float>(),
                            .has_relu = epilogue.relu});
    if (epilogue.stats.data)
      finish_statistics(kOp, epilogue.stats, {epilogue.running, epilogue.momentum}, {scratch, blocks, kOut},
                        rows_of_shape(x.shape), stream);
  });
}

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
    const std::int64_t size = kOut * x.shape.c;
    launch(kOp, add_splits_kernel,
           {.grid = dim3(unsigned((size / 4 + kThreads - 1) / kThreads)), .block = dim3(kThreads), .stream = stream},
           scratch, size, splits, dw.as<float>(), write == Write::add);
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
