// One way to walk NHWC, NCHW and blocked activations: groups of W neighbouring channels ("lanes"), and for each group
// the pixels of an image at a constant stride. Kernels are written once for W lanes and instantiated for 8 and 1. A
// block of 16 channels is two groups of 8 that are walked one after the other, so the second finds its cache lines in
// L2: GCC moves vectors wider than AVX2's through the stack, which made batch norm twice as slow.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/backend.h"

// Vectors wider than the target's registers never cross a function boundary here: everything is inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace graft {

/// W floats that the compiler keeps in vector registers.
template <int W>
struct Lanes {
  typedef float type __attribute__((vector_size(W * sizeof(float)), aligned(4), may_alias));
};
template <>
struct Lanes<1> {
  using type = float;
};

template <int W>
[[gnu::always_inline]] inline typename Lanes<W>::type load(const float* p) {
  return *reinterpret_cast<const typename Lanes<W>::type*>(p);
}
template <int W>
[[gnu::always_inline]] inline void store(float* p, typename Lanes<W>::type v) {
  *reinterpret_cast<typename Lanes<W>::type*>(p) = v;
}

inline constexpr std::int64_t kPixelsPerRun = 512;  // 32 KB of blocks of 16: five views of a run stay in L2

/// A piece of work: `width` channels from `channel` on, `pixels` pixels from `pixel` on, of image n.
struct Run {
  std::int64_t n, channel, pixel, pixels;
  int width;
};

/// Cuts a shape into runs. All views of one call share shape and format, so one list serves them.
class Runs {
 public:
  explicit Runs(const ConstView& v) : shape_(v.shape), strides_(strides_of(v)) {
    const std::int64_t block = strides_.block;
    for (std::int64_t c = 0; c < shape_.c;) {
      const std::int64_t left = std::min(block - c % block, shape_.c - c);
      const int width = left >= 8 ? 8 : 1;
      groups_.push_back({c, width});
      c += width;
    }
    chunks_ = (shape_.pixels() + kPixelsPerRun - 1) / kPixelsPerRun;
  }

  std::int64_t size() const { return shape_.n * chunks_ * std::int64_t(groups_.size()); }
  /// Which of the `parts()` pieces of a channel's pixels a run is: partial sums are kept per part and added in this
  /// order, so results do not depend on the number of threads.
  std::int64_t parts() const { return shape_.n * chunks_; }
  std::int64_t part(const Run& r) const { return r.n * chunks_ + r.pixel / kPixelsPerRun; }

  Run operator[](std::int64_t i) const {
    const std::int64_t groups = std::int64_t(groups_.size());
    const std::int64_t group = i % groups, chunk = i / groups % chunks_, n = i / groups / chunks_;
    const std::int64_t pixel = chunk * kPixelsPerRun;
    return {n, groups_[group].channel, pixel, std::min(kPixelsPerRun, shape_.pixels() - pixel), groups_[group].width};
  }

 private:
  struct Group {
    std::int64_t channel;
    int width;
  };
  Shape shape_;
  Strides strides_;
  std::vector<Group> groups_;
  std::int64_t chunks_;
};

/// Where a run of a view starts, and the distance between its pixels.
template <class T>
struct Cursor {
  T* p;
  std::int64_t stride;
};
inline Cursor<const float> cursor(const ConstView& v, const Run& r) {
  const Strides s = strides_of(v);
  return {v.as<float>() + s(r.n, r.channel, r.pixel), s.pixel};
}
inline Cursor<float> cursor(const View& v, const Run& r) {
  const Strides s = strides_of(v);
  return {v.as<float>() + s(r.n, r.channel, r.pixel), s.pixel};
}

/// Calls kernel.template operator()<W>(run) for every run, in parallel.
template <class Kernel>
void for_each_run(const Runs& runs, const Kernel& kernel) {
  const std::int64_t count = runs.size();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i) {
    const Run r = runs[i];
    if (r.width == 8)
      kernel.template operator()<8>(r);
    else
      kernel.template operator()<1>(r);
  }
}

}  // namespace graft
