// Unfoldings by their formulas, in N C H W order: what tests hold kernels and graphs against. See Unfolding in
// kernels/cuda/graph_spec.h.
#pragma once

#include <vector>

#include "kernels/cuda/graph_spec.h"

namespace graft {

namespace detail {
/// Calls body(index in w, index in w') for every number of a window.
template <class Body>
void for_each_unfolded_weight(const ConvSpec& conv, const Unfolding& u, const Body& body) {
  for (std::int64_t k = 0; k < conv.k; ++k)
    for (std::int64_t c = 0; c < conv.x.c; ++c)
      for (std::int64_t r = 0; r < conv.r; ++r)
        for (std::int64_t s = 0; s < conv.s; ++s) {
          const std::int64_t channel = (r % u.rows * conv.s + s) * conv.x.c + c;
          body(std::size_t(((k * conv.x.c + c) * conv.r + r) * conv.s + s),
               std::size_t((k * u.conv.x.c + channel) * u.conv.r + r / u.rows));
        }
}
}  // namespace detail

/// x' [u.conv.x] of x [conv.x].
inline std::vector<double> unfolded_input(const ConvSpec& conv, const Unfolding& u, const std::vector<double>& x) {
  const Shape &in = conv.x, &out = u.conv.x;
  std::vector<double> values(std::size_t(out.size()), 0.0);
  for (std::int64_t n = 0; n < out.n; ++n)
    for (std::int64_t a = 0; a < u.rows; ++a)
      for (std::int64_t s = 0; s < conv.s; ++s)
        for (std::int64_t c = 0; c < in.c; ++c)
          for (std::int64_t i = 0; i < out.h; ++i)
            for (std::int64_t j = 0; j < out.w; ++j) {
              const std::int64_t h = conv.stride_h * i + a - conv.pad_h, w = conv.stride_w * j + s - conv.pad_w;
              if (h < 0 || h >= in.h || w < 0 || w >= in.w) continue;
              const std::int64_t channel = (a * conv.s + s) * in.c + c;
              values[std::size_t(((n * out.c + channel) * out.h + i) * out.w + j)] =
                  x[std::size_t(((n * in.c + c) * in.h + h) * in.w + w)];
            }
  return values;
}

/// w' of w.
inline std::vector<double> unfolded_weight(const ConvSpec& conv, const Unfolding& u, const std::vector<double>& w) {
  std::vector<double> values(std::size_t(u.conv.weight_size()), 0.0);
  detail::for_each_unfolded_weight(conv, u, [&](std::size_t from, std::size_t to) { values[to] = w[from]; });
  return values;
}

/// The gradient of w from that of w'.
inline std::vector<double> folded_weight(const ConvSpec& conv, const Unfolding& u, const std::vector<double>& w) {
  std::vector<double> values(std::size_t(conv.weight_size()), 0.0);
  detail::for_each_unfolded_weight(conv, u, [&](std::size_t to, std::size_t from) { values[to] = w[from]; });
  return values;
}

}  // namespace graft
