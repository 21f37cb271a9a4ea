// The optimizer's passes over the arenas: one launch measures all gradients, one updates all parameters. A block takes
// a chunk of one segment; the rules are those of kernels/functors.h. Sums are left per chunk, and the last block to
// finish adds them up in a fixed order. Elements of masked rows are neither read nor written.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"
#include "kernels/half.h"

namespace graft::gpu {
namespace {

constexpr int kWarps = kThreads / kWarp;

/// The segment that holds a chunk: the last one whose first chunk is not after it.
__device__ __forceinline__ std::int64_t find_segment(const DeviceArena& a, std::int64_t chunk) {
  std::int64_t low = 0, high = a.segment_count;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    if (a.segments[middle].first_chunk <= chunk)
      low = middle;
    else
      high = middle;
  }
  return low;
}

__device__ __forceinline__ bool trains(const DeviceArena& a, const DeviceSegment& s, std::int64_t i) {
  if (s.mask_word < 0) return true;
  const std::int64_t row = i / s.row_size;
  return (a.masks[s.mask_word + row / 32] >> (row % 32) & 1u) != 0;
}

/// Calls body(i) for the first of W neighbouring trainable elements, over the block's chunk.
template <int W, class Body>
__device__ __forceinline__ void for_each_pack(const DeviceArena& a, const DeviceSegment& s, const Body& body) {
  const std::int64_t begin = (std::int64_t(blockIdx.x) - s.first_chunk) * kUpdateChunk;
  const std::int64_t end = begin + kUpdateChunk < s.size ? begin + kUpdateChunk : s.size;
  for (std::int64_t i = begin + threadIdx.x * W; i < end; i += kThreads * W)
    if (trains(a, s, i)) body(i);
}

/// Adds N sums over the block; thread 0 has the result.
template <int N>
__device__ void block_sum(double (&sums)[N]) {
  __shared__ double by_warp[N][kWarps];
  for (int k = 0; k < N; ++k)
    for (int step = kWarp / 2; step > 0; step /= 2) sums[k] += __shfl_down_sync(0xffffffffu, sums[k], step);
  __syncthreads();  // an earlier call's sums have been read
  if (threadIdx.x % kWarp == 0)
    for (int k = 0; k < N; ++k) by_warp[k][threadIdx.x / kWarp] = sums[k];
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int k = 0; k < N; ++k) {
    sums[k] = 0;
    for (int w = 0; w < kWarps; ++w) sums[k] += by_warp[k][w];
  }
}

/// Leaves the chunk's sums in memory. True in every thread of the block that is the last to do so: it sees them all.
template <int N>
__device__ bool leave_sums(const DeviceArena& a, double (&sums)[N]) {
  __shared__ bool is_last;
  block_sum(sums);
  if (threadIdx.x == 0) {
    for (int k = 0; k < N; ++k) a.partials[std::int64_t(blockIdx.x) * N + k] = sums[k];
    __threadfence();
    is_last = atomicAdd(a.ticket, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last) return false;
  __threadfence();
  if (threadIdx.x == 0) *a.ticket = 0;
  return true;
}

constexpr int kLanes = 8;                   // threads that share a segment's chunks
constexpr std::int64_t kManyChunks = 1024;  // from here on the whole block shares them

/// totals[segment][N] = sums over its chunks. To be called by a whole block, which then sees the totals.
template <int N>
__device__ void sum_segments(const DeviceArena& a, double* totals) {
  const auto chunks_end = [&](std::int64_t s) {
    return s + 1 < a.segment_count ? a.segments[s + 1].first_chunk : a.chunk_count;
  };
  const auto add_chunks = [&](double(&sums)[N], std::int64_t first, std::int64_t end, std::int64_t step) {
    for (std::int64_t c = first; c < end; c += step)
      for (int k = 0; k < N; ++k) sums[k] += __ldcg(a.partials + c * N + k);
  };
  const int lane = int(threadIdx.x) % kLanes;
  for (std::int64_t first = 0; first < a.segment_count; first += kThreads / kLanes) {
    const std::int64_t s = first + threadIdx.x / kLanes;
    double sums[N] = {};
    const bool is_mine = s < a.segment_count && chunks_end(s) - a.segments[s].first_chunk < kManyChunks;
    if (is_mine) add_chunks(sums, a.segments[s].first_chunk + lane, chunks_end(s), kLanes);
    for (int k = 0; k < N; ++k)
      for (int step = kLanes / 2; step > 0; step /= 2) sums[k] += __shfl_down_sync(0xffffffffu, sums[k], step, kLanes);
    if (is_mine && lane == 0)
      for (int k = 0; k < N; ++k) totals[s * N + k] = sums[k];
  }
  for (std::int64_t s = 0; s < a.segment_count; ++s) {
    if (chunks_end(s) - a.segments[s].first_chunk < kManyChunks) continue;
    double sums[N] = {};
    add_chunks(sums, a.segments[s].first_chunk + threadIdx.x, chunks_end(s), kThreads);
    block_sum(sums);
    if (threadIdx.x == 0)
      for (int k = 0; k < N; ++k) totals[s * N + k] = sums[k];
  }
  __syncthreads();
}

/// The largest value in the block, in every thread; values of 0 and more.
__device__ double block_max(double value) {
  __shared__ double values[kThreads];
  values[threadIdx.x] = value;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half && values[threadIdx.x + half] > values[threadIdx.x])
      values[threadIdx.x] = values[threadIdx.x + half];
    __syncthreads();
  }
  return values[0];
}

/// By the last block: all of control but the rates. Whether the step goes on.
__device__ bool finish_norm(double* control, const double* totals, const DeviceArena& a, const MeasureSpec& spec) {
  __shared__ double factor;
  double squares[1] = {0};
  for (std::int64_t s = threadIdx.x; s < a.segment_count; s += kThreads) squares[0] += totals[2 * s];
  block_sum(squares);
  if (threadIdx.x == 0) {
    const double scale = spec.scales_loss ? control[kControlLossScale] : spec.loss_scale;
    factor = gradient_factor(squares[0], scale, spec.max_gradient_norm);
    control[kControlFactor] = factor;
    control[kControlNorm] = sqrt(squares[0]) / scale;
    control[kControlGradientScale] = scale;
    if (spec.scales_loss)
      adapt_loss_scale(spec.scaling, factor != 0, control[kControlLossScale], control[kControlGoodSteps]);
    if (factor == 0) control[kControlSkipped] += 1;
  }
  __syncthreads();
  return factor != 0;
}

/// By the last block, after finish_norm: history and rates.
__device__ void finish_rates(double* control, double* history, const double* totals, const DeviceArena& a,
                             const MeasureSpec& spec) {
  double largest = 0;
  for (std::int64_t k = threadIdx.x; k < spec.groups; k += kThreads) {
    double squares[2] = {0, 0}, ratio = -1;
    const bool is_present = k < a.table_groups && a.group_begin[k] < a.group_begin[k + 1];
    if (is_present) {
      for (std::int32_t m = a.group_begin[k]; m < a.group_begin[k + 1]; ++m)
        for (int j = 0; j < 2; ++j) squares[j] += totals[2 * std::int64_t(a.group_segments[m]) + j];
      ratio =
          enter_ratio(history + k * (1 + spec.window), spec.window, sqrt(squares[0]) / control[kControlGradientScale],
                      sqrt(squares[1]), spec.epsilon, spec.min_weight_norm);
    }
    control[kControlRates + k] = ratio;
    if (ratio > largest) largest = ratio;
  }
  largest = block_max(largest);
  for (std::int64_t k = threadIdx.x; k < spec.groups; k += kThreads)
    control[kControlRates + k] = relative_rate(control[kControlRates + k], largest);
}

template <int W>
__device__ __forceinline__ void add_squares(const DeviceArena& a, const DeviceSegment& s, std::int64_t i,
                                            bool has_weights, double (&sums)[2]) {
  const Pack<W> g = load<W>(a.gradients + s.state_offset + i);
  for (int l = 0; l < W; ++l) sums[0] += double(g.v[l]) * double(g.v[l]);
  if (!has_weights) return;
  const Pack<W> w = load<W>(a.values + s.value_offset + i);
  for (int l = 0; l < W; ++l) sums[1] += double(w.v[l]) * double(w.v[l]);
}

template <int W>
__global__ void __launch_bounds__(kThreads)
    measure_kernel(double* control, double* history, const DeviceArena a, const MeasureSpec spec) {
  const DeviceSegment s = a.segments[find_segment(a, blockIdx.x)];
  double sums[2] = {0, 0};
  const bool has_weights = spec.relative_rates;
  if (W == 4 && s.takes_four)
    for_each_pack<W>(a, s, [&](std::int64_t i) { add_squares<W>(a, s, i, has_weights, sums); });
  else
    for_each_pack<1>(a, s, [&](std::int64_t i) { add_squares<1>(a, s, i, has_weights, sums); });
  if (!leave_sums(a, sums)) return;
  double* totals = a.partials + a.chunk_count * 2;
  sum_segments<2>(a, totals);
  if (finish_norm(control, totals, a, spec) && spec.relative_rates) finish_rates(control, history, totals, a, spec);
}

/// A segment's terms, by one thread: powers in double are slow.
template <class Step>
__device__ UpdateTerms<float> segment_terms(const DeviceArena& a, const DeviceSegment& s, const Step& step) {
  __shared__ UpdateTerms<float> terms;
  if (threadIdx.x == 0) {
    const double rate = a.control && s.rate_group >= 0 ? a.control[kControlRates + s.rate_group] : 1.0;
    const std::int64_t skipped = a.control ? std::int64_t(a.control[kControlSkipped]) : 0;
    const PenaltySpec penalty{s.penalty, s.mode, s.to_anchor != 0, s.strength};
    Step clocked = step;
    if (a.clock) {
      clocked.lr = a.clock[0];
      clocked.step = std::int64_t(a.clock[1]);
    }
    terms = update_terms<float>(clocked, s.lr_scale * rate, s.decay, penalty, clocked.step - s.first_step - skipped,
                                a.control ? a.control[kControlFactor] : 1.0);
  }
  __syncthreads();
  return terms;
}

/// W neighbouring 16-bit numbers, stored at once.
template <int W>
struct alignas(2 * W) HalfPack {
  std::uint16_t v[W];
};

template <int W>
__device__ __forceinline__ void store_half(const DeviceArena& a, std::int64_t i, const Pack<W>& w) {
  HalfPack<W> h;
  for (int l = 0; l < W; ++l) h.v[l] = a.half_type == DType::bf16 ? BFloat16(w.v[l]).bits : Float16(w.v[l]).bits;
  store_wide(a.half_values + i, h);
}

/// One pack of elements: updated unless the step is skipped; `sums` may be null.
template <int W, class Step>
__device__ __forceinline__ void update_pack(const Step& step, const UpdateTerms<float>& terms, const DeviceArena& a,
                                            const DeviceSegment& s, std::int64_t i, bool is_skipped, double* sums) {
  const std::int64_t value = s.value_offset + i, state = s.state_offset + i;
  const bool has_anchor = s.penalty != PenaltyKind::none ? s.to_anchor != 0 : sums && a.anchors;
  Pack<W> w = load<W>(a.values + value);
  const Pack<W> g = load<W>(a.gradients + state), before = w;
  Pack<W> w0 = {};
  if (has_anchor) w0 = load<W>(a.anchors + value);
  if (!is_skipped) {
    Pack<W> m = load<W>(a.moment1 + state), v = {};
    if (Step::kMoments > 1) v = load<W>(a.moment2 + state);
    for (int l = 0; l < W; ++l) update_element(step, terms, w.v[l], g.v[l], m.v[l], v.v[l], w0.v[l]);
    store<W>(a.values + value, w);
    if (a.half_values) store_half<W>(a, value, w);
    store<W>(a.moment1 + state, m);
    if (Step::kMoments > 1) store<W>(a.moment2 + state, v);
  }
  if (!sums) return;
  for (int l = 0; l < W; ++l) {
    const double change = double(w.v[l] - before.v[l]), d = double(before.v[l] - w0.v[l]);
    sums[0] += double(g.v[l]) * double(g.v[l]);
    sums[1] += double(before.v[l]) * double(before.v[l]);
    sums[2] += change * change;
    sums[3] += d * d;
    sums[4] += d < 0 ? -d : d;
  }
}

template <int W, bool HasSums, class Step>
__global__ void __launch_bounds__(kThreads) update_kernel(const DeviceArena a, const Step step) {
  const bool is_skipped = (a.control && a.control[kControlFactor] == 0) || (a.halt && a.halt[0] != 0);
  if (is_skipped && !HasSums) return;
  const DeviceSegment s = a.segments[find_segment(a, blockIdx.x)];
  const UpdateTerms<float> terms = segment_terms(a, s, step);
  double sums[kUpdateSums] = {};
  double* to = HasSums ? sums : nullptr;
  if (W == 4 && s.takes_four)
    for_each_pack<W>(a, s, [&](std::int64_t i) { update_pack<W>(step, terms, a, s, i, is_skipped, to); });
  else
    for_each_pack<1>(a, s, [&](std::int64_t i) { update_pack<1>(step, terms, a, s, i, is_skipped, to); });
  if constexpr (HasSums)
    if (leave_sums(a, sums)) sum_segments<kUpdateSums>(a, a.sums);
}

/// Whether all arenas begin where four numbers can be moved at once.
bool are_aligned(const DeviceArena& a) {
  for (const float* p : {static_cast<const float*>(a.values), a.gradients, static_cast<const float*>(a.moment1),
                         static_cast<const float*>(a.moment2), a.anchors})
    if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0) return false;
  return reinterpret_cast<std::uintptr_t>(a.half_values) % 8 == 0;
}

LaunchConfig block_per_chunk(const DeviceArena& a, cudaStream_t stream) {
  return {.grid = dim3(unsigned(a.chunk_count)), .block = dim3(kThreads), .stream = stream};
}

template <class Step>
void launch_update(const DeviceArena& arena, const Step& step, cudaStream_t stream) {
  const auto kernel = arena.sums ? (are_aligned(arena) ? update_kernel<4, true, Step> : update_kernel<1, true, Step>)
                                 : (are_aligned(arena) ? update_kernel<4, false, Step> : update_kernel<1, false, Step>);
  launch("update", kernel, block_per_chunk(arena, stream), arena, step);
}

}  // namespace

void update(const DeviceArena& arena, const SgdStep& step, cudaStream_t stream) { launch_update(arena, step, stream); }
void update(const DeviceArena& arena, const AdamStep& step, cudaStream_t stream) { launch_update(arena, step, stream); }

void measure_gradients(double* control, double* history, const DeviceArena& arena, const MeasureSpec& spec,
                       cudaStream_t stream) {
  launch("measure_gradients", are_aligned(arena) ? measure_kernel<4> : measure_kernel<1>,
         block_per_chunk(arena, stream), control, history, arena, spec);
}

}  // namespace graft::gpu
