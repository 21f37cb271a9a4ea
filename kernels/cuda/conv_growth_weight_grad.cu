// The gradient of the weights of DenseNet's 3x3 convolutions as sums of products over pixels, on tensor cores: a warp
// has one row of the window, so what it reads of dy serves three taps.
#include "kernels/cuda/conv_growth.h"

namespace graft::gpu {
namespace growth {
namespace {

constexpr int kGradChannels = 32;                              // of x, in a block's tile
constexpr int kGradPixels = 192;                               // counted
constexpr int kGradEntries = kGradPixels + 2 * (kWidest + 2);  // pixels and neighbours that a block holds of x
constexpr int kWindow = 3, kGroups = 2;                        // warps: for each row, so many share the pixels
constexpr int kGradThreads = kWindow * kGroups * kWarp;
constexpr int kGradPitch = kGradChannels + kTilePadding;
constexpr int kGradLanes = kGradChannels / kTilePack;  // threads over a row of either operand
constexpr int kGradRows = kGradThreads / kGradLanes;
constexpr int kGradLoads = (kGradEntries + kGradRows - 1) / kGradRows;
constexpr int kGradTiles = kConvGrowthOut / kTileSize;  // down dy's channels; as many across x's
constexpr int kLaneSums = kWindow * kGradTiles * kGradTiles * 8;
static_assert(kConvGrowthOut == kGradChannels && kGradPixels % (kGroups * kTileSize) == 0);

template <class T>
struct GrowthGradParams {
  Counting counting;
  ConstRows<T> dy, x;
  float* partials;     // [splits][kConvGrowthOut][9][channels]
  int slices, splits;  // of kGradChannels channels of x; of the pixels' tiles
};

template <class T>
__global__ void __launch_bounds__(kGradThreads, 2) conv_growth_weight_grad_kernel(const GrowthGradParams<T> p) {
  constexpr int kOperands = (kGradEntries + kGradPixels) * kGradPitch;
  __shared__ __align__(16) T memory[kOperands];  // x and dy; or the sums of a group
  static_assert(sizeof memory <= 48 * 1024 && sizeof memory >= kWindow * kLaneSums * kWarp * sizeof(float));
  T *const x = memory, *const dy = memory + kGradEntries * kGradPitch;

  const int thread = int(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const int group = warp / kWindow, window_row = warp % kWindow;
  const int slice = int(blockIdx.x) % p.slices, split = int(blockIdx.x) / p.slices;
  const int line = p.counting.line(), reach = p.counting.reach(), entries = kGradPixels + 2 * reach;
  const int entry = row_of_thread<kGradLanes>(thread), column = thread % kGradLanes * kTilePack;

  SumTile product[kWindow][kGradTiles][kGradTiles];  // by the window's column
  for (int first = split * kGradPixels; first < p.counting.pixels; first += p.splits * kGradPixels) {
    __syncthreads();  // the operands of the tile before have been read
#pragma unroll
    for (int i = 0; i < kGradLoads; ++i) {
      const int at = entry + i * kGradRows, pixel = at - reach;
      if (at >= entries) break;
      const int row = p.counting.row_of(first + pixel);
      begin_row_copy(x + at * kGradPitch + column, p.x, row, slice * kGradChannels + column);
      if (pixel >= 0 && pixel < kGradPixels) begin_row_copy(dy + pixel * kGradPitch + column, p.dy, row, column);
    }
    wait_for_copies();
    __syncthreads();
#pragma unroll 1
    for (int k = group * kTileSize; k < kGradPixels; k += kGroups * kTileSize) {
      LeftTile left[kGradTiles];
      for (int i = 0; i < kGradTiles; ++i)
        left[i] = load_left_of_transposed(dy + k * kGradPitch + i * kTileSize, kGradPitch, lane);
      const T* const x_at = x + (k + window_row * line) * kGradPitch;
#pragma unroll
      for (int s = 0; s < kWindow; ++s)
        for (int j = 0; j < kGradTiles; ++j) {
          const RightTile right = load_right(x_at + s * kGradPitch + j * kTileSize, kGradPitch, lane);
          for (int i = 0; i < kGradTiles; ++i) multiply_add<T>(product[s][i][j], left[i], right);
        }
    }
  }

  // The second group's sums are added to the first's.
  static_assert(kGroups == 2);
  float* const sums = reinterpret_cast<float*>(memory) + window_row * kLaneSums * kWarp + lane;
  const auto each = [&](const auto& body) {
    int n = 0;
#pragma unroll
    for (int s = 0; s < kWindow; ++s)
      for (int i = 0; i < kGradTiles; ++i)
        for (int j = 0; j < kGradTiles; ++j)
          for (int e = 0; e < 8; ++e, n += kWarp) body(product[s][i][j].halves[e / 4][e % 4], sums[n]);
  };
  __syncthreads();  // the operands have been read
  if (group == 1) each([](float& own, float& shared) { shared = own; });
  __syncthreads();
  if (group == 1) return;
  each([](float& own, float& shared) { own += shared; });
  const std::int64_t channels = std::int64_t(p.slices) * kGradChannels, pitch = kTaps * channels;
  float* const to =
      p.partials + split * kConvGrowthOut * pitch + window_row * kWindow * channels + slice * kGradChannels;
  for (int s = 0; s < kWindow; ++s)
    for (int i = 0; i < kGradTiles; ++i)
      for (int j = 0; j < kGradTiles; ++j)
        store_sums(to + i * kTileSize * pitch + s * channels + j * kTileSize, pitch, product[s][i][j], lane);
}

int slices_of(const Shape& x) { return int(x.c / kGradChannels); }
/// One wave of blocks, two on a multiprocessor, unless their partial sums are more than what they read.
int splits_of(const Shape& x) {
  constexpr std::int64_t kFewestPixels = 2 * kGradPixels, kBlocks = at_most_enough(2 * kMultiprocessors);
  const std::int64_t parts = (Counting::count(x) + kFewestPixels - 1) / kFewestPixels, most = kBlocks / slices_of(x);
  return int(parts < most ? parts : most < 1 ? 1 : most);
}

}  // namespace
}  // namespace growth

bool can_conv_growth_weight_grad(const ConvSpec& spec, std::initializer_list<ConstView> views) {
  return has_conv_growth(spec, views.begin()->dtype) && can_move(kTilePack, views) && spec.x.w <= growth::kWidest &&
         growth::Counting::is_exact(spec.x);
}

std::int64_t conv_growth_weight_grad_scratch_bytes(const Shape& x) {
  return std::int64_t(growth::splits_of(x)) * kConvGrowthOut * growth::kTaps * x.c * 4;
}

void conv_growth_weight_grad(View dw, Write write, ConstView dy, ConstView x, float* scratch, cudaStream_t stream) {
  constexpr const char* kOp = "conv_growth_weight_grad";
  with_half_type(kOp, x.dtype, [&]<class T>() {
    const int slices = growth::slices_of(x.shape), splits = growth::splits_of(x.shape);
    launch(kOp, growth::conv_growth_weight_grad_kernel<T>,
           {.grid = dim3(unsigned(slices * splits)), .block = dim3(growth::kGradThreads), .stream = stream},
           growth::GrowthGradParams<T>{.counting = growth::Counting(x.shape),
                                       .dy = rows_of<T>(dy, kOp),
                                       .x = rows_of<T>(x, kOp),
                                       .partials = scratch,
                                       .slices = slices,
                                       .splits = splits});
    add_splits(kOp, dw, write, scratch, unsigned(splits), stream);
  });
}

}  // namespace graft::gpu
