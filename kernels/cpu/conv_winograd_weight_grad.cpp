// The gradient of Winograd's weights: inputs and gradients of results become 36 matrices each (tiles x channels), a
// transposed matrix of the one times a matrix of the other is the gradient at a point, and 36 of these become the
// gradient of a kernel. Threads take 64 x 64 channels of a part of the tiles: 1 MiB, which some cores' own cache holds.
#include <omp.h>

#include <algorithm>

#include "kernels/cpu/conv_winograd.h"
#include "kernels/cpu/winograd.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

using namespace winograd;

constexpr std::int64_t kChannels = 64;                    // of a task, in and out
constexpr std::int64_t kProductIn = 16, kProductOut = 4;  // of one product: eight vectors of sums
constexpr std::int64_t kTaps = kKernel * kKernel;

/// A gradient in pieces that threads take: parts of the tiles, of the channels in and of those out. Their number does
/// not depend on that of the threads, since sums of parts are added.
struct Tasks {
  std::int64_t in, out;  // parts of the channels
  std::int64_t tiles, blocks, parts;
  Tasks(const ConvSpec& s, std::int64_t all_tiles) : in(ceil_div(s.x.c, kChannels)), out(ceil_div(s.k, kChannels)) {
    constexpr std::int64_t kWanted = 32, kMany = 24;
    const std::int64_t all_blocks = ceil_div(all_tiles, kMany);
    blocks = ceil_div(all_blocks, std::min(ceil_div(kWanted, in * out), all_blocks));
    parts = ceil_div(all_blocks, blocks);
    tiles = ceil_div(all_tiles, parts * blocks);
  }
  std::int64_t count() const { return parts * in * out; }
  Matrices layout(std::int64_t channels) const { return {std::min(channels, kChannels) / kLanes, tiles}; }
};

/// Floats of one thread: inputs, gradients of results, and sums [36][channel out][channel in].
struct ThreadScratch {
  std::int64_t x, dy, sums;
  ThreadScratch(const Tasks& tasks, const ConvSpec& s)
      : x(tasks.layout(s.x.c).size()), dy(tasks.layout(s.k).size()), sums(kProducts * kChannels * kChannels) {}
  std::int64_t size() const { return x + dy + sums; }
};

/// sums [kProductOut][kProductIn] += the product of dy (tiles x kProductOut), transposed, and x (tiles x kProductIn),
/// whose halves lie apart.
[[gnu::always_inline]] inline void add_product(float* sums, const float* dy, const float* x0, const float* x1,
                                               std::int64_t tiles) {
  Eight s[kProductOut][2];
#pragma GCC unroll 4
  for (int o = 0; o < kProductOut; ++o)
    s[o][0] = load<kLanes>(sums + o * kChannels), s[o][1] = load<kLanes>(sums + o * kChannels + kLanes);
  for (std::int64_t t = 0; t < tiles; ++t) {
    const Eight a = load<kLanes>(x0 + t * kLanes), b = load<kLanes>(x1 + t * kLanes);
#pragma GCC unroll 4
    for (int o = 0; o < kProductOut; ++o) {
      s[o][0] += a * dy[t * kLanes + o];
      s[o][1] += b * dy[t * kLanes + o];
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < kProductOut; ++o)
    store<kLanes>(sums + o * kChannels, s[o][0]), store<kLanes>(sums + o * kChannels + kLanes, s[o][1]);
}

/// to [channel out][3][3][all_in] (=|+=) the gradients whose transforms the sums are.
void write_gradient(float* to, Write write, std::int64_t all_in, const float* sums, std::int64_t in, std::int64_t out) {
  constexpr std::int64_t kMatrix = kChannels * kChannels;
  for (std::int64_t o = 0; o < out; ++o)
    for (std::int64_t i = 0; i < in; i += kLanes) {
      Eight points[kInput][kInput], kernel[kKernel][kKernel];
      load_square(points, sums + o * kChannels + i, kInput * kMatrix, kMatrix);
      transform_tile<WeightTransformGrad>(points, kernel);
      float* const place = to + o * kTaps * all_in + i;
      if (write == Write::add) {
        Eight old[kKernel][kKernel];
        load_square(old, place, kKernel * all_in, all_in);
        for (int r = 0; r < kKernel; ++r)
          for (int c = 0; c < kKernel; ++c) kernel[r][c] += old[r][c];
      }
      store_square(place, kKernel * all_in, all_in, kernel);
    }
}

/// to (=|+=) the sum of `parts` arrays of `size` floats.
void add_parts(float* to, Write write, const float* parts, std::int64_t count, std::int64_t size) {
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < size; i += kLanes) {
    Eight sum = write == Write::add ? load<kLanes>(to + i) : Eight{};
    for (std::int64_t part = 0; part < count; ++part) sum += load<kLanes>(parts + part * size + i);
    store<kLanes>(to + i, sum);
  }
}

void weight_grad(const ConvSpec& s, float* dw, Write write, const ConstView& dy, const ConstView& x, float* scratch) {
  const Tiles tiles(dy.shape);
  const Tasks tasks(s, tiles.count);
  const ThreadScratch of_thread(tasks, s);
  float* const partial = scratch + omp_get_max_threads() * of_thread.size();
  const bool is_whole = tasks.parts == 1;
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t task = 0; task < tasks.count(); ++task) {
    float* const xs = scratch + omp_get_thread_num() * of_thread.size();
    float* const dys = xs + of_thread.x;
    float* const sums = dys + of_thread.dy;
    const std::int64_t part = task / (tasks.in * tasks.out);
    const std::int64_t in = task % tasks.in * kChannels, out = task / tasks.in % tasks.out * kChannels;
    const std::int64_t ins = std::min(kChannels, s.x.c - in), outs = std::min(kChannels, s.k - out);
    const Matrices x_layout = tasks.layout(ins), dy_layout = tasks.layout(outs);
    std::fill_n(sums, of_thread.sums, 0.0f);
    for (std::int64_t block = part * tasks.blocks; block < (part + 1) * tasks.blocks; ++block) {
      const std::int64_t first = block * tasks.tiles, count = std::min(tasks.tiles, tiles.count - first);
      if (count <= 0) break;
      transform_tiles<InputTransform, kInput>(xs, x_layout, x, {s.pad_h, s.pad_w}, tiles, {first, count, in, ins});
      transform_tiles<OutputTransformGrad, kOutput>(dys, dy_layout, dy, {}, tiles, {first, count, out, outs});
      for (std::int64_t point = 0; point < kProducts; ++point)
        for (std::int64_t i = 0; i < ins; i += kProductIn) {
          const float* const x0 = xs + point * x_layout.matrix() + i / kLanes * x_layout.block();
          for (std::int64_t o = 0; o < outs; o += kProductOut)
            add_product(sums + (point * kChannels + o) * kChannels + i,
                        dys + point * dy_layout.matrix() + o / kLanes * dy_layout.block() + o % kLanes, x0,
                        x0 + x_layout.block(), count);
        }
    }
    float* const to = is_whole ? dw : partial + part * s.weight_size();
    write_gradient(to + out * kTaps * s.x.c + in, is_whole ? write : Write::overwrite, s.x.c, sums, ins, outs);
  }
  if (!is_whole) add_parts(dw, write, partial, tasks.parts, s.weight_size());
}

}  // namespace

std::int64_t winograd_weight_grad_scratch(const ConvSpec& s) {
  const Tasks tasks(s, Tiles(s.y()).count);
  const std::int64_t of_threads = omp_get_max_threads() * ThreadScratch(tasks, s).size();
  return (of_threads + (tasks.parts > 1 ? tasks.parts * s.weight_size() : 0)) * size_of(DType::f32);
}

void winograd_weight_grad(Backend& backend, const ConvSpec& s, View dw, Write write, ConstView dy, ConstView x) {
  const Scratch scratch(backend, winograd_weight_grad_scratch(s));
  weight_grad(s, dw.as<float>(), write, dy, x, scratch.as<float>());
}

}  // namespace graft
