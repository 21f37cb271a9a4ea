// A norm, its ReLU and the pointwise convolution behind it as one product of matrices on tensor cores, pixels in rows:
// what lies between the two is made again from x wherever it is needed, and is never in memory. Forward, with the
// statistics of what it gives; the gradients are in norm_conv_grad.cu.
#include "kernels/cuda/norm_conv.h"

namespace graft::gpu {
namespace {

using namespace norm_conv_detail;

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kForwardDepth = 32;                            // channels of x at a time, a step
constexpr int kForwardPitch = kForwardDepth + kTilePadding;  // of the operands in shared memory
constexpr int kForwardLanes = kForwardDepth / kTilePack;     // threads over a row of an operand
constexpr int kForwardStride = kThreads / kForwardLanes;     // rows between those of a thread
constexpr int kWeightTile = kOut * kForwardPitch;            // elements of the right operand
constexpr int kOutPitch = kOut + kTilePadding;               // of y in shared memory
constexpr int kOutLanes = kOut / kTilePack;                  // threads over a row of y
constexpr int kOutStride = kThreads / kOutLanes;
static_assert(kThreads == 2 * kOut);

/// Pixels of a block's tile, by all of the output's channels: 16 * RowTiles of them by 32 channels for each of 8 warps.
template <int RowTiles>
constexpr int kForwardRows = (2 * kTileSize) * RowTiles;

template <class T>
struct ForwardParams {
  NormInput<T> in;
  ConstRows<T> w;
  Rows<T> y;
  float* constants;   // [blocks][2][channels] of the norm, scale and shift; each block's own
  double* partials;   // [blocks][2][kOut] sums of y and y^2; null: not wanted
  const float* bias;  // null: none
  bool has_relu;
};

/// Of the sums of a warp's tile of y, 32 columns wide, the column that a lane's value c stands in (c < 8).
__device__ __forceinline__ int column_of(int c, int lane) {
  return c / 4 * kTileSize + c / 2 % 2 * 8 + lane % 4 * 2 + c % 2;
}

/// Of sixteen sums, those of the lanes with the same columns are added up: a lane keeps two, columns c and c + 1.
struct LaneSums {
  float values[2];
  int c;
  bool squares;
};
/// Lanes that differ in the bit `Other` give each other half of what they have left.
template <int Other>
__device__ __forceinline__ void add_lanes(float (&sums)[16], int lane) {
  constexpr int kLeft = Other / 2;
  const bool upper = (lane & Other) != 0;
#pragma unroll
  for (int k = 0; k < kLeft; ++k) {
    const float gives = upper ? sums[k] : sums[kLeft + k], keeps = upper ? sums[kLeft + k] : sums[k];
    sums[k] = keeps + __shfl_xor_sync(kAllLanes, gives, Other);
  }
}
/// sums[0 .. 7] of d and sums[8 .. 15] of d^2.
__device__ __forceinline__ LaneSums add_lanes(float (&sums)[16], int lane) {
  add_lanes<16>(sums, lane);
  add_lanes<8>(sums, lane);
  add_lanes<4>(sums, lane);
  return {{sums[0], sums[1]}, lane / 8 % 2 * 4 + lane / 4 % 2 * 2, lane >= 16};
}

/// Where a thread reads x next: a step's channels of its rows, then the next step's, then the block's next tile's.
template <class T, int RowTiles>
struct XCursor {
  static constexpr int kRows = kForwardRows<RowTiles>, kLoads = kRows / kForwardStride;
  using Loads = Waiting<T, kTilePack>[kLoads];

  const NormInput<T>& in;
  const T* at;
  int rows_left;  // from the thread's first row to the tensor's end
  int depth = 0;

  __device__ __forceinline__ XCursor(const NormInput<T>& of, int column, int first)
      : in(of),
        at(of.x.at(std::int64_t(blockIdx.x) * kRows + first, column)),
        rows_left(int(of.rows) - int(blockIdx.x) * kRows - first) {}
  __device__ __forceinline__ void load(Loads& x) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      x[i] = {};
      if (i * kForwardStride < rows_left) x[i] = load_once(at + i * kForwardStride * in.x.pitch);
    }
    depth += kForwardDepth, at += kForwardDepth;
    if (depth == int(in.channels)) {
      const int rows = int(gridDim.x) * kRows;
      at += rows * in.x.pitch - depth, rows_left -= rows, depth = 0;
    }
  }
};

/// The block's sums of d = y - shift and of d^2 over a tile; of the tile's first `rows` rows where not Full.
template <bool Full, int RowTiles, class T>
__device__ __forceinline__ LaneSums tile_sums(const RoundedTile (&y)[RowTiles][2], const float* shifts, int first_row,
                                              int rows, int lane) {
  float sums[16] = {};
#pragma unroll
  for (int c = 0; c < 8; c += 2) {
    const float2 shift = *reinterpret_cast<const float2*>(shifts + column_of(c, lane));
#pragma unroll
    for (int i = 0; i < RowTiles; ++i)
      for (int r = 0; r < 2; ++r) {
        if (!Full && first_row + i * kTileSize + lane / 4 + 8 * r >= rows) continue;
        const std::uint32_t pair = y[i][c / 4].pairs[c / 2 % 2][r];
        const float low = low_of<T>(pair) - shift.x, high = high_of<T>(pair) - shift.y;
        sums[c] += low, sums[8 + c] += low * low;
        sums[c + 1] += high, sums[9 + c] += high * high;
      }
  }
  return add_lanes(sums, lane);
}

template <class T, int RowTiles>
__global__ void __launch_bounds__(kThreads, 2) norm_conv_kernel(const ForwardParams<T> p) {
  using Cursor = XCursor<T, RowTiles>;
  constexpr int kRows = Cursor::kRows, kLeft = kRows * kForwardPitch, kOperands = kLeft + kWeightTile;
  __shared__ __align__(16) T memory[2 * kOperands];  // the operands of two steps; or y
  static_assert(2 * kOperands >= kRows * kOutPitch);
  __shared__ __align__(16) float constants[2][2][kForwardDepth];  // scale and shift, of this step and of the next
  __shared__ __align__(8) float shifts[kOut];
  __shared__ __align__(8) float warp_sums[2][2][kOut];

  const int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32;
  // The rows of a warp's quarters are four apart, where the banks are others.
  const int column = lane % kForwardLanes * kTilePack, first = warp * 8 + lane / 4 % 2 * 4 + lane / 8;
  const int warp_row = warp / 4 * kTileSize * RowTiles, warp_column = warp % 4 * 32;
  const int operand_at = first * kForwardPitch + column;
  const T* const w_at = p.w.at(first, column);
  const auto begin_weight = [&](int buffer, int depth) {
#pragma unroll
    for (int i = 0; i < kOut / kForwardStride; ++i)
      begin_copy(memory + buffer * kOperands + kLeft + operand_at + i * kForwardStride * kForwardPitch,
                 w_at + i * kForwardStride * p.w.pitch + depth);
  };
  // What thread t sums over the block's pixels: channel t % kOut of y, squared if t >= kOut; both about the shift.
  double total = 0;
  int pixels = 0;

  // The norm's constants are computed once and copied step by step, since a root of what comes from memory takes long.
  const int channels = int(p.in.channels);
  float* const own_constants = p.constants + std::int64_t(blockIdx.x) * 2 * channels;
  const auto begin_constants = [&](float(*to)[kForwardDepth], int depth) {
    if (thread >= 2 * kForwardDepth / 4) return;
    const int which = thread / (kForwardDepth / 4), four = thread % (kForwardDepth / 4);
    begin_copy(to[which] + four % 2 * (kForwardDepth / 2) + four / 2 * 4,
               own_constants + which * channels + depth + four * 4);
  };
  const int all_rows = int(p.in.rows), tile_step = int(gridDim.x) * kRows;
  Cursor cursor(p.in, column, first);
  typename Cursor::Loads even, odd;  // x of this step and of the next
  float(*even_constants)[kForwardDepth] = constants[0], (*odd_constants)[kForwardDepth] = constants[1];
  cursor.load(even);
  const int second_depth = cursor.depth;
  cursor.load(odd);
  begin_weight(0, 0);
  for (int c = thread; c < channels; c += kThreads) {
    const NormConstants<1> n = constants_of(p.in, c);
    own_constants[c] = n.scale.v[0];
    own_constants[channels + c] = n.shift.v[0];
  }
  __syncthreads();
  begin_constants(even_constants, 0);
  begin_constants(odd_constants, second_depth);
  wait_for_copies();
  __syncthreads();

  for (int tile = int(blockIdx.x) * kRows; tile < all_rows; tile += tile_step) {
    const int rows = min(kRows, all_rows - tile);
    SumTile product[RowTiles][2];
    const auto step = [&]<int Buffer>(std::integral_constant<int, Buffer>, typename Cursor::Loads& x,
                                      float(*const of_step)[kForwardDepth], int next_depth) {
      T *const a = memory + Buffer * kOperands, *const b = a + kLeft;
      NormConstants<kTilePack> n;
      for (int half = 0; half < 2; ++half) {
        const int at = half * (kForwardDepth / 2) + column / 2;
        const Pack<4> scale = load<4>(of_step[0] + at), shift = load<4>(of_step[1] + at);
        for (int l = 0; l < 4; ++l) n.scale.v[4 * half + l] = scale.v[l], n.shift.v[4 * half + l] = shift.v[l];
      }
#pragma unroll
      for (int i = 0; i < Cursor::kLoads; ++i)
        store_shared_relu(a + operand_at + i * kForwardStride * kForwardPitch, n.before_relu(unpacked(x[i])));
      wait_for_copies();
      __syncthreads();  // whoever reads these operands passes the next barrier before they are overwritten
      if (next_depth < channels) begin_weight(1 - Buffer, next_depth);
      begin_constants(of_step, cursor.depth);  // of the step after the next
      cursor.load(x);
#pragma unroll
      for (int k = 0; k < kForwardDepth; k += kTileSize) {
        RightTile right[2];
        for (int j = 0; j < 2; ++j)
          right[j] =
              load_right_of_transposed(b + (warp_column + j * kTileSize) * kForwardPitch + k, kForwardPitch, lane);
        for (int i = 0; i < RowTiles; ++i) {
          const LeftTile left = load_left(a + (warp_row + i * kTileSize) * kForwardPitch + k, kForwardPitch, lane);
          for (int j = 0; j < 2; ++j) multiply_add<T>(product[i][j], left, right[j]);
        }
      }
    };
    bool is_odd = false;  // the number of steps
    for (int depth = kForwardDepth; depth <= channels; depth += kForwardDepth) {
      step(std::integral_constant<int, 0>{}, even, even_constants, depth);
      is_odd = (depth += kForwardDepth) > channels;
      if (!is_odd) step(std::integral_constant<int, 1>{}, odd, odd_constants, depth);
    }

    // What is done to y, its rounding and its sums, in the registers that hold it.
    if (p.bias || p.has_relu)
      for (int c = 0; c < 8; ++c) {
        const float bias = p.bias ? p.bias[warp_column + column_of(c, lane)] : 0.0f;
        for (int i = 0; i < RowTiles; ++i)
          for (int r = 0; r < 2; ++r) {
            float& v = product[i][c / 4].halves[c / 2 % 2][2 * r + c % 2];
            v += bias;
            if (p.has_relu) v = v < 0 ? 0.0f : v;
          }
      }
    RoundedTile y[RowTiles][2];
    for (int i = 0; i < RowTiles; ++i)
      for (int j = 0; j < 2; ++j) y[i][j] = rounded<T>(product[i][j]);
    if (p.partials && pixels == 0 && warp_row == 0 && lane < 4)  // any pixel's value is near enough
      for (int c = 0; c < 8; c += 2) {
        const std::uint32_t pair = y[0][c / 4].pairs[c / 2 % 2][0];
        *reinterpret_cast<float2*>(shifts + warp_column + column_of(c, lane)) =
            make_float2(low_of<T>(pair), high_of<T>(pair));
      }
    __syncthreads();  // the operands have been read, and there is a shift
    for (int i = 0; i < RowTiles; ++i)
      for (int j = 0; j < 2; ++j)
        store_tile(memory + (warp_row + i * kTileSize) * kOutPitch + warp_column + j * kTileSize, kOutPitch, y[i][j],
                   lane);
    if (p.partials) {
      const LaneSums kept = rows == kRows
                                ? tile_sums<true, RowTiles, T>(y, shifts + warp_column, warp_row, rows, lane)
                                : tile_sums<false, RowTiles, T>(y, shifts + warp_column, warp_row, rows, lane);
      *reinterpret_cast<float2*>(&warp_sums[warp / 4][kept.squares][warp_column + column_of(kept.c, lane)]) =
          make_float2(kept.values[0], kept.values[1]);
    }
    __syncthreads();
    const int out_row = thread / kOutLanes, out_column = thread % kOutLanes * kTilePack;
    T* to = p.y.at(tile + out_row, out_column);
    const T* from = memory + out_row * kOutPitch + out_column;
#pragma unroll 4
    for (int row = out_row; row < rows; row += kOutStride, to += kOutStride * p.y.pitch, from += kOutStride * kOutPitch)
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    if (p.partials)
      total += double(warp_sums[0][thread / kOut][thread % kOut]) + double(warp_sums[1][thread / kOut][thread % kOut]);
    pixels += rows;
    if (is_odd) {  // the next tile begins with the later of the two
      auto* const c = even_constants;
      even_constants = odd_constants;
      odd_constants = c;
      for (int i = 0; i < Cursor::kLoads; ++i) {
        const Waiting<T, kTilePack> x = even[i];
        even[i] = odd[i];
        odd[i] = x;
      }
    }
    __syncthreads();  // y has been read
    begin_weight(0, 0);
  }
  wait_for_copies();

  if (!p.partials) return;
  // About zero: sum y = sum d + n s, sum y^2 = sum d^2 + 2 s sum d + n s^2.
  __shared__ double sums_of_d[kOut];
  if (thread < kOut) sums_of_d[thread] = total;
  __syncthreads();
  const double s = double(shifts[thread % kOut]), n = double(pixels);
  p.partials[std::int64_t(blockIdx.x) * 2 * kOut + thread] =
      thread < kOut ? total + n * s : total + s * (2 * sums_of_d[thread % kOut] + n * s);
}

template <int RowTiles>
unsigned forward_blocks(const Shape& x) {
  return at_most((rows_of_shape(x) + kForwardRows<RowTiles> - 1) / kForwardRows<RowTiles>, kBlocks);
}
/// Where every block would have but one or two tiles, smaller ones leave fewer multiprocessors waiting for the last.
bool has_few_rows(const Shape& x) { return rows_of_shape(x) <= std::int64_t{2} * kBlocks * kForwardRows<4>; }

template <class T, int RowTiles>
void launch_norm_conv(View y, const NormConvEpilogue& epilogue, ConstView x, const NormalizeArgs& args, ConstView w,
                      double* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "norm_conv";
  const unsigned blocks = forward_blocks<RowTiles>(x.shape);
  launch(kOp, norm_conv_kernel<T, RowTiles>, {.grid = dim3(blocks), .block = dim3(kThreads), .stream = stream},
         ForwardParams<T>{.in = input_of<T>(x, args, kOp),
                          .w = weight_rows<T>(w),
                          .y = rows_of<T>(y, kOp),
                          .constants = reinterpret_cast<float*>(scratch + std::int64_t(blocks) * 2 * kOut),
                          .partials = epilogue.stats.data ? scratch : nullptr,
                          .bias = epilogue.bias.as<float>(),
                          .has_relu = epilogue.relu});
  if (epilogue.stats.data)
    finish_statistics(kOp, epilogue.stats, {epilogue.running, epilogue.momentum}, {scratch, blocks, kOut},
                      rows_of_shape(x.shape), stream);
}

}  // namespace

bool can_norm_conv(const ConvSpec& spec, std::initializer_list<ConstView> views) {
  static_assert(32 % kForwardDepth == 0);
  return has_norm_conv(spec, views.begin()->dtype) && can_move(kTilePack, views);
}

std::int64_t norm_conv_scratch_bytes(const Shape& x) {
  return std::int64_t(has_few_rows(x) ? forward_blocks<2>(x) : forward_blocks<4>(x)) * 2 * (kOut * 8 + x.c * 4);
}

void norm_conv(View y, const NormConvEpilogue& epilogue, ConstView x, const NormalizeArgs& args, ConstView w,
               double* scratch, cudaStream_t stream) {
  with_half_type("norm_conv", x.dtype, [&]<class T>() {
    if (has_few_rows(x.shape)) return launch_norm_conv<T, 2>(y, epilogue, x, args, w, scratch, stream);
    launch_norm_conv<T, 4>(y, epilogue, x, args, w, scratch, stream);
  });
}

}  // namespace graft::gpu
