// Inputs become 36 matrices (tiles x channels in), each of which is multiplied by one of 36 matrices of weights
// (channels in x channels out), and the 36 products become results. Threads share the weights alone: each takes blocks
// of tiles through the three steps. With 64 channels what lies between the steps stays in 1 MiB of a core's cache.
#include "kernels/cpu/conv_winograd.h"

#include <omp.h>

#include <algorithm>

#include "kernels/cpu/winograd.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

using namespace winograd;

constexpr std::int64_t kPanel = 16;  // channels out that are multiplied at a time: two vectors
constexpr int kRows = 6;             // tiles at a time: twelve sums, which leaves registers for their factors

/// Where weights [36][channels out / kPanel][channels in][kPanel] lie, with a cache line between matrices as above.
std::int64_t weight_matrix(std::int64_t in, std::int64_t out) { return in * out + kPanel; }
std::int64_t weights_size(std::int64_t in, std::int64_t out) { return kProducts * weight_matrix(in, out); }

/// A convolution in pieces that threads take: blocks of tiles, times parts of the channels out where there are too few
/// blocks for all threads. Each part transforms its block's inputs again.
struct Tasks {
  std::int64_t tiles, blocks;  // in a block; blocks
  std::int64_t panels, parts;  // in a part; parts
  Tasks(std::int64_t all_tiles, std::int64_t out) {
    constexpr std::int64_t kFew = 24, kMany = 48;  // tiles: fewer would read weights too often
    const std::int64_t wanted = 2 * omp_get_max_threads(), all_panels = out / kPanel;
    tiles = ceil_div(std::clamp(ceil_div(all_tiles, wanted), kFew, kMany), kRows) * kRows;
    blocks = ceil_div(all_tiles, tiles);
    panels = ceil_div(all_panels, std::min(ceil_div(wanted, blocks), all_panels));
    parts = ceil_div(all_panels, panels);
  }
  std::int64_t count() const { return blocks * parts; }
  Matrices input(std::int64_t in) const { return {in / kLanes, tiles}; }
  Matrices products() const { return {panels * kPanel / kLanes, tiles}; }
  std::int64_t scratch(std::int64_t in) const { return input(in).size() + products().size(); }  // floats of a thread
};

/// `to` (Rows tiles x kPanel channels out) = `from` (tiles x channels in) * weights [channel in][kPanel].
template <int Rows>
[[gnu::always_inline]] inline void multiply_rows(float* to, std::int64_t to_block, const float* from,
                                                 std::int64_t from_block, std::int64_t blocks, const float* weights) {
  Eight sums[Rows][2] = {};
  for (std::int64_t block = 0; block < blocks; ++block, from += from_block)
#pragma GCC unroll 8
    for (int c = 0; c < kLanes; ++c, weights += kPanel) {
      const Eight w0 = load<kLanes>(weights), w1 = load<kLanes>(weights + kLanes);
#pragma GCC unroll 6
      for (int r = 0; r < Rows; ++r) {
        sums[r][0] += w0 * from[r * kLanes + c];
        sums[r][1] += w1 * from[r * kLanes + c];
      }
    }
#pragma GCC unroll 6
  for (int r = 0; r < Rows; ++r) {
    store<kLanes>(to + r * kLanes, sums[r][0]);
    store<kLanes>(to + to_block + r * kLanes, sums[r][1]);
  }
}

/// The same for any number of tiles.
void multiply(float* to, std::int64_t to_block, const float* from, std::int64_t from_block, std::int64_t blocks,
              const float* weights, std::int64_t tiles) {
  std::int64_t t = 0;
  for (; t + kRows <= tiles; t += kRows)
    multiply_rows<kRows>(to + t * kLanes, to_block, from + t * kLanes, from_block, blocks, weights);
  for (; t + 2 <= tiles; t += 2)
    multiply_rows<2>(to + t * kLanes, to_block, from + t * kLanes, from_block, blocks, weights);
  if (t < tiles) multiply_rows<1>(to + t * kLanes, to_block, from + t * kLanes, from_block, blocks, weights);
}

/// What happens to results before they are written: a convolution's epilogue, or an addition to what is there.
struct Finish {
  ConvEpilogue epilogue;
  Write write = Write::overwrite;
};

/// Results of a part, from their products.
void write_results(const View& y, const Finish& finish, const Tiles& tiles, const Part& part, const float* products,
                   const Matrices& layout) {
  const ConstView &bias = finish.epilogue.bias, &residual = finish.epilogue.residual;
  const Strides strides = strides_of(y), residual_strides = residual.data ? strides_of(residual) : strides;
  for (std::int64_t c = part.first_channel; c < part.first_channel + part.channels;
       c += kLanes, products += layout.block()) {
    const Eight shift = bias.data ? load<kLanes>(bias.as<float>() + c) : Eight{};
    for (std::int64_t t = 0; t < part.tiles; ++t) {
      Eight in[kInput][kInput], out[kOutput][kOutput];
      load_square(in, products + t * kLanes, kInput * layout.matrix(), layout.matrix());
      transform_tile<OutputTransform>(in, out);
      const Tile tile(tiles, part.first_tile + t);
      const std::int64_t rows = std::min<std::int64_t>(kOutput, y.shape.h - tile.h),
                         columns = std::min<std::int64_t>(kOutput, y.shape.w - tile.w);
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j) {
          const std::int64_t pixel = (tile.h + i) * y.shape.w + tile.w + j;
          float* to = y.as<float>() + strides(tile.n, c, pixel);
          Eight v = out[i][j] + shift;
          if (residual.data) v += load<kLanes>(residual.as<float>() + residual_strides(tile.n, c, pixel));
          if (finish.write == Write::add) v += load<kLanes>(to);
          store<kLanes>(to, finish.epilogue.relu ? relu(v) : v);
        }
    }
  }
}

/// target = a convolution of source, by transformed weights. `scratch`: Tasks::scratch floats for every thread.
void convolve(const View& target, const Finish& finish, const ConstView& source, const Padding& padding,
              const float* weights, float* scratch) {
  const std::int64_t in = source.shape.c, out = target.shape.c;
  const Tiles tiles(target.shape);
  const Tasks tasks(tiles.count, out);
  const Matrices input = tasks.input(in), products = tasks.products();
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t task = 0; task < tasks.count(); ++task) {
    float* x = scratch + omp_get_thread_num() * tasks.scratch(in);
    float* y = x + input.size();
    const std::int64_t first = task / tasks.parts * tasks.tiles, count = std::min(tasks.tiles, tiles.count - first);
    const std::int64_t begin = task % tasks.parts * tasks.panels, end = std::min(begin + tasks.panels, out / kPanel);
    transform_tiles<InputTransform, kInput>(x, input, source, padding, tiles, {first, count, 0, in});
    for (std::int64_t i = 0; i < kProducts; ++i)
      for (std::int64_t panel = begin; panel < end; ++panel)
        multiply(y + i * products.matrix() + (panel - begin) * (kPanel / kLanes) * products.block(), products.block(),
                 x + i * input.matrix(), input.block(), input.blocks,
                 weights + i * weight_matrix(in, out) + panel * in * kPanel, count);
    write_results(target, finish, tiles, {first, count, begin * kPanel, (end - begin) * kPanel}, y, products);
  }
}

/// Kernels from one channel in to eight out, to their place in the first of the matrices and so in all.
void store_weights(float* to, std::int64_t matrix, const Eight (&w)[kKernel][kKernel]) {
  Eight transformed[kInput][kInput];
  transform_tile<WeightTransform>(w, transformed);
  store_square(to, kInput * matrix, matrix, transformed);
}

/// Of w [K][3][3][C] for the convolution itself, from C channels to K.
void transform_weights(float* to, const float* w, std::int64_t c, std::int64_t k) {
  constexpr std::int64_t kTurned = 8;  // channels in: in w these are neighbours, afterwards channels out are
  constexpr int kTaps = kKernel * kKernel;
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t out = 0; out < k; out += kLanes)
    for (std::int64_t in = 0; in < c; in += kTurned) {
      float turned[kTurned * kTaps * kLanes];
      for (std::int64_t o = 0; o < kLanes; ++o)
        for (std::int64_t tap = 0; tap < kTaps; ++tap)
          for (std::int64_t i = 0; i < kTurned; ++i)
            turned[(i * kTaps + tap) * kLanes + o] = w[((out + o) * kTaps + tap) * c + in + i];
      for (std::int64_t i = 0; i < kTurned; ++i) {
        Eight kernel[kKernel][kKernel];
        load_square(kernel, turned + i * kTaps * kLanes, kKernel * kLanes, kLanes);
        store_weights(to + (out / kPanel * c + in + i) * kPanel + out % kPanel, weight_matrix(c, k), kernel);
      }
    }
}

/// The same for the gradient of its input, from K channels to C: kernels are turned around.
void transform_turned_weights(float* to, const float* w, std::int64_t c, std::int64_t k) {
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t in = 0; in < k; ++in)
    for (std::int64_t out = 0; out < c; out += kLanes) {
      Eight kernel[kKernel][kKernel];
      load_square(kernel, w + ((in + 1) * kKernel * kKernel - 1) * c + out, -kKernel * c, -c);
      store_weights(to + (out / kPanel * k + in) * kPanel + out % kPanel, weight_matrix(k, c), kernel);
    }
}

bool has_eight_neighbours(const Format& f) { return f == kNhwc || f.block % kLanes == 0; }

std::int64_t convolve_scratch(const Shape& target, std::int64_t in) {
  const std::int64_t of_threads = omp_get_max_threads() * Tasks(Tiles(target).count, target.c).scratch(in);
  return (weights_size(in, target.c) + of_threads) * size_of(DType::f32);
}

}  // namespace

bool has_winograd(const ConvCall& call) {
  const ConvSpec& s = call.spec;
  return s.r == kKernel && s.s == kKernel && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 &&
         s.dilation_w == 1 && s.pad_h < kKernel && s.pad_w < kKernel && s.y().size() > 0 && s.x.c % kPanel == 0 &&
         s.k % kPanel == 0 && has_eight_neighbours(call.formats.x) && has_eight_neighbours(call.formats.y);
}

bool gains_by_winograd(const ConvCall& call) {
  const bool transforms_weights = call.pass != ConvCall::Pass::weight_grad;  // and not only their gradient
  const Shape target = call.pass == ConvCall::Pass::data_grad ? call.spec.x : call.spec.y();
  // Below these some layers of the three networks took longer than oneDNN's, with two threads.
  return Tiles(target).count >= (transforms_weights ? 64 : 16);
}

std::int64_t winograd_scratch(const ConvCall& call) {
  const ConvSpec& s = call.spec;
  switch (call.pass) {
    case ConvCall::Pass::forward:
      return convolve_scratch(s.y(), s.x.c);
    case ConvCall::Pass::data_grad:
      return convolve_scratch(s.x, s.k);
    case ConvCall::Pass::weight_grad:
      break;
  }
  return winograd_weight_grad_scratch(s);
}

void winograd_conv(Backend& backend, const ConvSpec& s, View y, ConstView x, ConstView w,
                   const ConvEpilogue& epilogue) {
  const Scratch scratch(backend, convolve_scratch(s.y(), s.x.c));
  float* const weights = scratch.as<float>();
  float* const rest = weights + weights_size(s.x.c, s.k);
  transform_weights(weights, w.as<float>(), s.x.c, s.k);
  convolve(y, {.epilogue = epilogue}, x, {s.pad_h, s.pad_w}, weights, rest);
}

void winograd_data_grad(Backend& backend, const ConvSpec& s, View dx, Write write, ConstView dy, ConstView w) {
  const Scratch scratch(backend, convolve_scratch(s.x, s.k));
  float* const weights = scratch.as<float>();
  float* const rest = weights + weights_size(s.k, s.x.c);
  transform_turned_weights(weights, w.as<float>(), s.x.c, s.k);
  convolve(dx, {.epilogue = {}, .write = write}, dy, {kKernel - 1 - s.pad_h, kKernel - 1 - s.pad_w}, weights, rest);
}

}  // namespace graft
