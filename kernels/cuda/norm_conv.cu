// A norm, its ReLU and the pointwise convolution behind it as one product of matrices on tensor cores, pixels in rows:
// what lies between the two is made again from x wherever it is needed, and is never in memory. Forward, with the
// statistics of what it gives; the gradients are in norm_conv_grad.cu.
#include "kernels/cuda/norm_conv.h"

namespace graft::gpu {
namespace {

using namespace norm_conv_detail;

constexpr unsigned kAllLanes = 0xffffffffu;
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

unsigned forward_blocks(const Shape& x) {
  return at_most((rows_of_shape(x) + kForwardRows - 1) / kForwardRows, kBlocks);
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

}  // namespace graft::gpu
