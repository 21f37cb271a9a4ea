// Gradients of convolutions as products of two matrices whose rows are pixels: for bf16 in NHWC, where oneDNN's own
// gradients are at their slowest. Between pixels that a stride visits and the neighbours that a window reads lies a
// copy of the input in the product's order, made for some images at a time.
#include <algorithm>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/product_onednn.h"
#include "kernels/cpu/runs.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

bool reads_one_pixel(const ConvSpec& s) { return s.r * s.s == 1 && s.pad_h + s.pad_w == 0; }

std::int64_t row_size(const ConvSpec& s) { return s.r * s.s * s.x.c; }

/// So many that a copy of them stays in the last cache.
std::int64_t images_at_once(const ConvSpec& s) {
  constexpr std::int64_t kBytes = std::int64_t{16} << 20;
  return std::clamp<std::int64_t>(kBytes / (s.out_h() * s.out_w() * row_size(s) * size_of(DType::bf16)), 1, s.x.n);
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
#pragma omp parallel for collapse(2) schedule(static)
  for (std::int64_t n = 0; n < s.x.n; ++n)
    for (std::int64_t h = 0; h < s.x.h; ++h)
      for (std::int64_t w = 0; w < s.x.w; ++w) {
        BFloat16* to = dx.as<BFloat16>() + ((n * s.x.h + h) * s.x.w + w) * channels;
        const std::int64_t i = h / s.stride_h, j = w / s.stride_w;
        const bool is_read = h % s.stride_h == 0 && w % s.stride_w == 0 && i < out_h && j < out_w;
        if (is_read)
          add_run(to, write, from + ((n * out_h + i) * out_w + j) * channels, channels);
        else if (write == Write::overwrite)
          std::fill_n(to, channels, BFloat16{});
      }
}

using Pass = ConvCall::Pass;

ProductSpec data_product(const ConvSpec& s, Write write) {
  const bool in_place = s.is_pointwise();
  return {.m = s.y().n * s.y().pixels(),
          .n = s.x.c,
          .k = s.k,
          .write = in_place ? write : Write::overwrite,
          .result = in_place ? DType::bf16 : DType::f32};
}

ProductSpec weight_product(const ConvSpec& s, std::int64_t images, Write write) {
  return {.m = s.k,
          .n = row_size(s),
          .k = images * s.y().pixels(),
          .transpose_a = true,
          .write = write,
          .result = DType::f32};
}

/// Of x in the products' order, or of their results before they are placed.
std::int64_t copied_bytes(const ConvSpec& s, Pass pass) {
  if (s.is_pointwise()) return 0;
  if (pass == Pass::data_grad) return s.x.n * s.y().pixels() * s.x.c * size_of(DType::f32);
  return images_at_once(s) * s.y().pixels() * row_size(s) * size_of(DType::bf16);
}

/// Calls body(first image, images, write) for the pieces in which a weight gradient is taken.
template <class Body>
void for_each_piece(const ConvSpec& s, Write write, const Body& body) {
  const std::int64_t most = s.is_pointwise() ? s.x.n : images_at_once(s);
  for (std::int64_t begin = 0; begin < s.x.n; begin += most)
    body(begin, std::min(most, s.x.n - begin), begin == 0 ? write : Write::add);
}

}  // namespace

bool CpuBackend::is_product(const ConvCall& call, DType type) {
  // Beyond so many pixels, or for fewer channels, copies of 3 x 3 windows cost more than they save.
  constexpr std::int64_t kFewPixels = 14 * 14, kManyChannels = 128;
  const ConvSpec& s = call.spec;
  if (type != DType::bf16 || call.formats.x != kNhwc || call.formats.y != kNhwc) return false;
  switch (call.pass) {
    case Pass::forward:
      return false;
    case Pass::data_grad:  // the product adds in place
      return reads_one_pixel(s) && (!s.is_pointwise() || call.write == Write::add);
    case Pass::weight_grad:
      return reads_one_pixel(s) || (s.out_h() * s.out_w() <= kFewPixels && s.k >= kManyChannels);
  }
  return false;
}

std::int64_t CpuBackend::product_scratch(const ConvCall& call) {
  const ConvSpec& s = call.spec;
  std::int64_t most = 0;
  if (call.pass == Pass::data_grad)
    most = products_->scratch_bytes(data_product(s, call.write));
  else
    for_each_piece(s, call.write, [&](std::int64_t, std::int64_t images, Write write) {
      most = std::max(most, products_->scratch_bytes(weight_product(s, images, write)));
    });
  return copied_bytes(s, call.pass) + most;
}

void CpuBackend::product_data_grad(const ConvSpec& s, View dx, Write write, ConstView dy, WeightView w) {
  const Scratch placed(*this, copied_bytes(s, Pass::data_grad));
  void* result = s.is_pointwise() ? dx.data : placed.as<void>();
  products_->run(*this, data_product(s, write), result, dy.data, w.value.data);
  if (!s.is_pointwise()) place(dx, write, s, placed.as<float>());
}

void CpuBackend::product_weight_grad(const ConvSpec& s, View dw, Write write, ConstView dy, ConstView x) {
  const Scratch unfolded(*this, copied_bytes(s, Pass::weight_grad));
  for_each_piece(s, write, [&](std::int64_t begin, std::int64_t images, Write piece_write) {
    if (!s.is_pointwise()) unfold(unfolded.as<BFloat16>(), x, s, begin, images);
    products_->run(*this, weight_product(s, images, piece_write), dw.data,
                   dy.as<BFloat16>() + begin * dy.shape.pixels() * s.k,
                   s.is_pointwise() ? x.data : unfolded.as<void>());
  });
}

}  // namespace graft
