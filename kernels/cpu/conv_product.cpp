// Gradients of convolutions as products of two matrices whose rows are pixels: for bf16 in NHWC, where oneDNN's own
// gradients are at their slowest. Between pixels that a stride visits and the neighbours that a window reads lies a
// copy of the input in the product's order, made for some images at a time.
#include <algorithm>
#include <array>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/product_onednn.h"
#include "kernels/cpu/runs.h"

namespace graft {
namespace {

bool reads_one_pixel(const ConvSpec& s) { return s.r * s.s == 1 && s.pad_h + s.pad_w == 0; }

std::int64_t row_size(const ConvSpec& s) { return s.r * s.s * s.x.c; }

/// So many that a copy of them stays in the last cache.
std::int64_t images_at_once(const ConvSpec& s) {
  constexpr std::int64_t kBytes = std::int64_t{16} << 20;
  return std::clamp<std::int64_t>(kBytes / (s.out_h() * s.out_w() * row_size(s) * size_of(DType::bf16)), 1, s.x.n);
}

/// Rows of a dense NHWC tensor in bf16, images [begin, begin + count), as a matrix.
template <class V>
V rows_of(const V& v, std::int64_t begin, std::int64_t count) {
  const std::int64_t pixels = v.shape.pixels();
  return {v.template as<BFloat16>() + begin * pixels * v.shape.c,
          v.dtype,
          kNhwc,
          {count * pixels, v.shape.c, 1, 1},
          v.shape.c};
}

template <class V>
V weight_matrix(const V& w, const ConvSpec& s) {
  return {w.data, w.dtype, kNhwc, {s.k, row_size(s), 1, 1}, row_size(s)};
}

/// Rows in the order of y's pixels, each with the numbers that its windows read, in the order of weights.
void unfold(BFloat16* to, const ConstView& x, const ConvSpec& s, std::int64_t begin, std::int64_t images) {
  const std::int64_t out_h = s.out_h(), out_w = s.out_w(), row = row_size(s);
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t n = 0; n < images; ++n)
    for (std::int64_t i = 0; i < out_h; ++i)
      for (std::int64_t j = 0; j < out_w; ++j) {
        BFloat16* element = to + ((n * out_h + i) * out_w + j) * row;
        for (std::int64_t r = 0; r < s.r; ++r)
          for (std::int64_t c = 0; c < s.s; ++c, element += s.x.c) {
            const std::int64_t h = i * s.stride_h - s.pad_h + r * s.dilation_h,
                               w = j * s.stride_w - s.pad_w + c * s.dilation_w;
            const bool is_inside = h >= 0 && h < s.x.h && w >= 0 && w < s.x.w;
            if (is_inside)
              std::copy_n(x.as<BFloat16>() + (((begin + n) * s.x.h + h) * s.x.w + w) * s.x.c, s.x.c, element);
            else
              std::fill_n(element, s.x.c, BFloat16{});
          }
      }
}

/// dx at the pixels that y's windows of one pixel read (=|+=) the rows of `from`; where it overwrites, others become 0.
void place(const View& dx, Write write, const ConvSpec& s, const float* from) {
  const std::int64_t channels = s.x.c, out_h = s.out_h(), out_w = s.out_w();
  const auto place_row = [&](BFloat16* to, const float* row) {
    std::array<float, kFloatsOnTheWay> sums;
    for (std::int64_t begin = 0; begin < channels; begin += kFloatsOnTheWay) {
      const std::int64_t part = std::min(kFloatsOnTheWay, channels - begin);
      for (std::int64_t c = 0; c < part; ++c)
        sums[std::size_t(c)] = row[begin + c] + (write == Write::add ? float(to[begin + c]) : 0.0f);
      write_run(to + begin, sums.data(), part);
    }
  };
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t n = 0; n < s.x.n; ++n)
    for (std::int64_t h = 0; h < s.x.h; ++h)
      for (std::int64_t w = 0; w < s.x.w; ++w) {
        BFloat16* to = dx.as<BFloat16>() + ((n * s.x.h + h) * s.x.w + w) * channels;
        const std::int64_t i = h / s.stride_h, j = w / s.stride_w;
        const bool is_read = h % s.stride_h == 0 && w % s.stride_w == 0 && i < out_h && j < out_w;
        if (is_read)
          place_row(to, from + ((n * out_h + i) * out_w + j) * channels);
        else if (write == Write::overwrite)
          std::fill_n(to, channels, BFloat16{});
      }
}

}  // namespace

bool CpuBackend::is_product(const ConvCall& call, DType type) {
  // Beyond so many pixels, or for fewer channels, copies of 3 x 3 windows cost more than they save.
  constexpr std::int64_t kFewPixels = 14 * 14, kManyChannels = 128;
  const ConvSpec& s = call.spec;
  if (type != DType::bf16 || call.formats.x != kNhwc || call.formats.y != kNhwc) return false;
  switch (call.pass) {
    case ConvCall::Pass::forward:
      return false;
    case ConvCall::Pass::data_grad:  // the product adds in place
      return reads_one_pixel(s) && (!s.is_pointwise() || call.write == Write::add);
    case ConvCall::Pass::weight_grad:
      return reads_one_pixel(s) || (s.out_h() * s.out_w() <= kFewPixels && s.k >= kManyChannels);
  }
  return false;
}

namespace {

/// Rows of y that one product takes, and what the call copies for it.
struct Pieces {
  std::int64_t rows, copied_bytes;
};
Pieces pieces(const ConvCall& call) {
  const ConvSpec& s = call.spec;
  const std::int64_t pixels = s.out_h() * s.out_w();
  if (s.is_pointwise()) return {s.x.n * pixels, 0};
  if (call.pass == ConvCall::Pass::data_grad) return {s.x.n * pixels, s.x.n * pixels * s.x.c * size_of(DType::f32)};
  const std::int64_t rows = images_at_once(s) * pixels;
  return {rows, rows * row_size(s) * size_of(DType::bf16)};
}

}  // namespace

std::int64_t CpuBackend::product_scratch(const ConvCall& call) {
  const ConvSpec& s = call.spec;
  const auto [rows, copied_bytes] = pieces(call);
  const ProductSpec product =
      call.pass == ConvCall::Pass::data_grad
          ? ProductSpec{.m = rows,
                        .n = s.x.c,
                        .k = s.k,
                        .write = call.write,
                        .result = s.is_pointwise() ? DType::bf16 : DType::f32}
          : ProductSpec{.m = s.k, .n = row_size(s), .k = rows, .transpose_a = true, .result = DType::f32};
  return copied_bytes + products_->scratch_bytes(product);
}

void CpuBackend::product_data_grad(const ConvSpec& s, View dx, Write write, ConstView dy, WeightView w) {
  w.value = weight_matrix(w.value, s);
  if (s.is_pointwise()) return linear_data_grad(rows_of(dx, 0, s.x.n), write, rows_of(dy, 0, s.x.n), w);
  const Scratch scratch(*this, pieces({.pass = ConvCall::Pass::data_grad, .spec = s, .formats = {}}).copied_bytes);
  const Shape rows{s.y().n * s.y().pixels(), s.x.c, 1, 1};
  linear_data_grad({scratch.as<void>(), DType::f32, kNhwc, rows, rows.c}, Write::overwrite, rows_of(dy, 0, s.x.n), w);
  place(dx, write, s, scratch.as<float>());
}

void CpuBackend::product_weight_grad(const ConvSpec& s, View dw, Write write, ConstView dy, ConstView x) {
  const View matrix = weight_matrix(dw, s);
  if (s.is_pointwise()) return linear_weight_grad(matrix, write, rows_of(dy, 0, s.x.n), rows_of(x, 0, s.x.n));
  const Scratch scratch(*this, pieces({.pass = ConvCall::Pass::weight_grad, .spec = s, .formats = {}}).copied_bytes);
  const std::int64_t step = images_at_once(s);
  for (std::int64_t begin = 0; begin < s.x.n; begin += step) {
    const std::int64_t images = std::min(step, s.x.n - begin);
    unfold(scratch.as<BFloat16>(), x, s, begin, images);
    const Shape rows{images * s.y().pixels(), row_size(s), 1, 1};
    const ConstView unfolded{scratch.as<void>(), DType::bf16, kNhwc, rows, rows.c};
    linear_weight_grad(matrix, begin == 0 ? write : Write::add, rows_of(dy, begin, images), unfolded);
  }
}

}  // namespace graft
