// What the kernels of norm_conv.cu and norm_conv_grad.cu share: x as they read it, and what the norm makes of it on the
// way into shared memory.
#pragma once

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/tensor_core.h"

namespace graft::gpu::norm_conv_detail {

inline constexpr int kOut = int(kNormConvOut);
// Blocks of a grid at most.
inline constexpr int kBlocks = at_most_enough(2 * kMultiprocessors), kDataBlocks = at_most_enough(3 * kMultiprocessors);

/// x as a matrix of pixels and channels, and the norm over it.
template <class T>
struct NormInput {
  ConstRows<T> x;
  std::int64_t rows, channels;
  ConstRows<float> stats;
  const float *gamma, *beta;
  float epsilon;
};

/// A norm's constants of W channels. Its output is x * scale + shift: what is lost where the mean is large is far below
/// the digits that 16 bits have of x.
template <int W>
struct NormConstants {
  Pack<W> mean = {}, scale = {}, shift = {};
  __device__ __forceinline__ Pack<W> before_relu(const Pack<W>& x) const {
    Pack<W> v;
    for (int l = 0; l < W; ++l) v.v[l] = x.v[l] * scale.v[l] + shift.v[l];
    return v;
  }
};

template <int W, class T>
__device__ __forceinline__ NormConstants<W> norm_constants(const NormInput<T>& in, std::int64_t channel) {
  Pack<W> c[4];
  load_constants<W>({in.stats.at(0, channel), in.stats.at(1, channel), in.gamma + channel, in.beta + channel}, c);
  NormConstants<W> n{.mean = c[0]};
  for (int l = 0; l < W; ++l) {
    n.scale.v[l] = inverse_deviation(c[1].v[l], in.epsilon) * c[2].v[l];
    n.shift.v[l] = c[3].v[l] - c[0].v[l] * n.scale.v[l];
  }
  return n;
}

/// The constants of a tile's channels in shared memory; a thread writes those of one channel. The first four of eight
/// channels lie apart from the others, so that neighbouring threads read neighbouring words.
template <int Channels>
struct SharedConstants {
  alignas(16) float values[3][Channels];

  __device__ __forceinline__ void set(int channel, const NormConstants<1>& n) {
    const int at = channel % 8 / 4 * (Channels / 2) + channel / 8 * 4 + channel % 4;
    values[0][at] = n.mean.v[0], values[1][at] = n.scale.v[0], values[2][at] = n.shift.v[0];
  }
  __device__ __forceinline__ NormConstants<kTilePack> at(int channel) const {
    NormConstants<kTilePack> n;
    Pack<kTilePack>* const to[3] = {&n.mean, &n.scale, &n.shift};
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

/// What is read once: it leaves the nearest cache to what is copied ahead again and again.
template <class T>
__device__ __forceinline__ Waiting<T, kTilePack> load_once(const T* p) {
  return std::bit_cast<Waiting<T, kTilePack>>(__ldcg(reinterpret_cast<const uint4*>(p)));
}
template <class T>
__device__ __forceinline__ Pack<kTilePack> unpacked(const Waiting<T, kTilePack>& w) {
  Pack<kTilePack> a;
  for (int l = 0; l < kTilePack; l += 2)
    a.v[l] = low_of<T>(w.parts.v[l / 2]), a.v[l + 1] = high_of<T>(w.parts.v[l / 2]);
  return a;
}

template <class T>
__device__ __forceinline__ void store_shared(T* to, const Waiting<T, kTilePack>& v) {
  *reinterpret_cast<uint4*>(to) = std::bit_cast<uint4>(v);
}
template <class T>
__device__ __forceinline__ void store_shared_relu(T* to, const Pack<kTilePack>& v) {
  const auto pair = [&](int l) { return narrow_pair<T, true>(v.v[l], v.v[l + 1]); };
  *reinterpret_cast<uint4*>(to) = make_uint4(pair(0), pair(2), pair(4), pair(6));
}

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

inline std::int64_t rows_of_shape(const Shape& x) { return x.n * x.pixels(); }
inline unsigned at_most(std::int64_t blocks, std::int64_t most) { return unsigned(blocks < most ? blocks : most); }

}  // namespace graft::gpu::norm_conv_detail
