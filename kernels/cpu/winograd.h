// Winograd's F(4x4, 3x3): the four by four results of a 3 x 3 convolution from six by six inputs with 36 products,
// where the direct way takes 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015). The
// product of a polynomial of three coefficients and one of four is found from its values at six points. A convolution
// of a line is the transpose of that: weights are taken to the points, inputs and results go through transposed
// matrices.
//
// The points are 0, 2/3, -2/3, 3/2, -3/2 and infinity. With the usual 0, 1, -1, 2, -2 a transform takes fewer
// multiplications, but rounding errors become 2.3 times as large (root mean square; the largest four times), over sums
// of 256 channels.
#pragma once

#include "kernels/cpu/runs.h"

namespace graft::winograd {

inline constexpr int kInput = 6, kOutput = 4, kKernel = 3, kProducts = kInput * kInput;

inline constexpr float kA = 2.0f / 3, kB = 3.0f / 2;  // the points other than 0 and infinity, and their powers
inline constexpr float kA2 = 4.0f / 9, kB2 = 9.0f / 4, kA3 = 8.0f / 27, kB3 = 27.0f / 8;
// One over the product of a point's differences to the other finite ones, which weights are multiplied by. At 0 it is
// 1.
inline constexpr float kScaleA = -81.0f / 130, kScaleB = 8.0f / 65;

template <class V>
using Line3 = V[3];
template <class V>
using Line4 = V[4];
template <class V>
using Line6 = V[6];

/// The matrices, applied to one line; V holds a number for each of several channels.
struct InputTransform {
  template <class V>
  [[gnu::always_inline]] void operator()(const Line6<V>& x, Line6<V>& to) const {
    const V even_a = x[4] - x[2] * kB2, odd_a = (x[3] - x[1] * kB2) * kA;
    const V even_b = x[4] - x[2] * kA2, odd_b = (x[3] - x[1] * kA2) * kB;
    to[0] = x[4] - x[2] * (kA2 + kB2) + x[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = x[5] - x[3] * (kA2 + kB2) + x[1];
  }
};
struct WeightTransform {
  template <class V>
  [[gnu::always_inline]] void operator()(const Line3<V>& w, Line6<V>& to) const {
    const V even_a = (w[0] + w[2] * kA2) * kScaleA, odd_a = w[1] * (kA * kScaleA);
    const V even_b = (w[0] + w[2] * kB2) * kScaleB, odd_b = w[1] * (kB * kScaleB);
    to[0] = w[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = w[2];
  }
};
struct OutputTransform {
  template <class V>
  [[gnu::always_inline]] void operator()(const Line6<V>& m, Line4<V>& to) const {
    const V even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    to[0] = m[0] + even_a + even_b;
    to[1] = odd_a * kA + odd_b * kB;
    to[2] = even_a * kA2 + even_b * kB2;
    to[3] = m[5] + odd_a * kA3 + odd_b * kB3;
  }
};

/// The gradients of the last two with respect to what they take: their transposed matrices.
struct OutputTransformGrad {
  template <class V>
  [[gnu::always_inline]] void operator()(const Line4<V>& dy, Line6<V>& to) const {
    const V even_a = dy[0] + dy[2] * kA2, odd_a = (dy[1] + dy[3] * kA2) * kA;
    const V even_b = dy[0] + dy[2] * kB2, odd_b = (dy[1] + dy[3] * kB2) * kB;
    to[0] = dy[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = dy[3];
  }
};
struct WeightTransformGrad {
  template <class V>
  [[gnu::always_inline]] void operator()(const Line6<V>& g, Line3<V>& to) const {
    const V even_a = (g[1] + g[2]) * kScaleA, odd_a = (g[1] - g[2]) * (kA * kScaleA);
    const V even_b = (g[3] + g[4]) * kScaleB, odd_b = (g[3] - g[4]) * (kB * kScaleB);
    to[0] = g[0] + even_a + even_b;
    to[1] = odd_a + odd_b;
    to[2] = g[5] + even_a * kA2 + even_b * kB2;
  }
};

/// A line's transform, applied to the columns of a tile and then to the rows of what comes out.
template <class Transform, class V, int In, int Out>
[[gnu::always_inline]] inline void transform_tile(const V (&from)[In][In], V (&to)[Out][Out]) {
  V half[Out][In];
#pragma GCC unroll 6
  for (int column = 0; column < In; ++column) {
    V in[In], out[Out];
#pragma GCC unroll 6
    for (int i = 0; i < In; ++i) in[i] = from[i][column];
    Transform{}(in, out);
#pragma GCC unroll 6
    for (int i = 0; i < Out; ++i) half[i][column] = out[i];
  }
#pragma GCC unroll 6
  for (int row = 0; row < Out; ++row) Transform{}(half[row], to[row]);
}

inline constexpr int kLanes = 8;  // channels that are transformed side by side
using Eight = Lanes<kLanes>::type;

/// Size x Size numbers of a tile, each of eight channels, from or to places that lie `row` and `column` floats apart.
template <int Size>
[[gnu::always_inline]] inline void load_square(Eight (&to)[Size][Size], const float* from, std::int64_t row,
                                               std::int64_t column) {
#pragma GCC unroll 6
  for (int i = 0; i < Size; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < Size; ++j) to[i][j] = load<kLanes>(from + i * row + j * column);
}
template <int Size>
[[gnu::always_inline]] inline void store_square(float* to, std::int64_t row, std::int64_t column,
                                                const Eight (&from)[Size][Size]) {
#pragma GCC unroll 6
  for (int i = 0; i < Size; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < Size; ++j) store<kLanes>(to + i * row + j * column, from[i][j]);
}

inline constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The tiles of four by four numbers that cover a tensor, image by image and row by row.
struct Tiles {
  std::int64_t rows, columns, count;
  explicit Tiles(const Shape& s)
      : rows(ceil_div(s.h, kOutput)), columns(ceil_div(s.w, kOutput)), count(s.n * rows * columns) {}
};

/// One of them: its image, and where it begins.
struct Tile {
  std::int64_t n, h, w;
  Tile(const Tiles& tiles, std::int64_t i)
      : n(i / (tiles.rows * tiles.columns)),
        h(i / tiles.columns % tiles.rows * kOutput),
        w(i % tiles.columns * kOutput) {}
};

/// How 36 matrices lie, each [channels / 8][tiles][8], floats. Between them is a cache line more than they need: a
/// transform writes to all of them in turn, and if they lay 4 KB apart, to one set of the cache.
struct Matrices {
  std::int64_t blocks, tiles;
  std::int64_t block() const { return tiles * kLanes; }
  std::int64_t matrix() const { return blocks * block() + 16; }
  std::int64_t size() const { return kProducts * matrix(); }
};

/// Pixels that a tile of a view begins before the tile of results it belongs to.
struct Padding {
  std::int64_t h = 0, w = 0;
};

/// Some tiles, and some channels of them.
struct Part {
  std::int64_t first_tile, tiles, first_channel, channels;
};

/// A part of a view to the 36 points. Pixels outside of the image are 0.
template <class Transform, int Size>
void transform_tiles(float* to, const Matrices& layout, const ConstView& from, const Padding& padding,
                     const Tiles& tiles, const Part& part) {
  const Strides strides = strides_of(from);
  const std::int64_t height = from.shape.h, width = from.shape.w;
  for (std::int64_t block = 0; block < part.channels / kLanes; ++block)
    for (std::int64_t t = 0; t < part.tiles; ++t) {
      const Tile tile(tiles, part.first_tile + t);
      const std::int64_t h0 = tile.h - padding.h, w0 = tile.w - padding.w;
      const float* plane = from.as<float>() + strides(tile.n, part.first_channel + block * kLanes, 0);
      Eight in[Size][Size], out[kInput][kInput];
      if (h0 >= 0 && w0 >= 0 && h0 + Size <= height && w0 + Size <= width) {
        load_square(in, plane + (h0 * width + w0) * strides.pixel, width * strides.pixel, strides.pixel);
      } else {
        for (std::int64_t i = 0; i < Size; ++i)
          for (std::int64_t j = 0; j < Size; ++j) {
            const std::int64_t h = h0 + i, w = w0 + j;
            const bool is_pixel = h >= 0 && h < height && w >= 0 && w < width;
            in[i][j] = is_pixel ? load<kLanes>(plane + (h * width + w) * strides.pixel) : Eight{};
          }
      }
      transform_tile<Transform>(in, out);
      store_square(to + block * layout.block() + t * kLanes, kInput * layout.matrix(), layout.matrix(), out);
    }
}

}  // namespace graft::winograd
