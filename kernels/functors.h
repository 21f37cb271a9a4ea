// Every element-wise formula of graft, once, for every device: the reference instantiates them in double, the CPU in
// float, CUDA inside kernels. To add one: write the struct, append it to `MapFunctors`; no backend changes.
// A map functor takes the element's linear index in memory and up to three inputs, and returns the output element.
#pragma once

#include <cmath>
#include <cstdint>
#include <tuple>

#include "kernels/philox.h"

#if defined(__CUDACC__) || defined(GRAFT_HOST_MODEL)
#define GRAFT_HD __host__ __device__ __forceinline__
#else
#define GRAFT_HD inline
#endif

namespace graft {

/// y = max(x, 0); a NaN stays a NaN.
struct Relu {
  static constexpr int kInputs = 1;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T x, T, T) const {
    return x < T(0) ? T(0) : x;
  }
};

/// dx = dy where the forward's output y was positive, else 0.
struct ReluGrad {
  static constexpr int kInputs = 2;  // dy, y
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T dy, T y, T) const {
    return y > T(0) ? dy : T(0);
  }
};

struct Identity {
  static constexpr int kInputs = 1;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T x, T, T) const {
    return x;
  }
};

struct Add {
  static constexpr int kInputs = 2;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T a, T b, T) const {
    return a + b;
  }
};

struct Multiply {
  static constexpr int kInputs = 2;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T a, T b, T) const {
    return a * b;
  }
};

struct Scale {
  static constexpr int kInputs = 1;
  double factor = 1;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T x, T, T) const {
    return x * T(factor);
  }
};

/// Inverted dropout: kept elements are divided by 1 - p. The same functor applied to dy is its gradient.
/// The mask is a pure function of seed, call and index, so nothing is stored and every device drops the same elements.
struct Dropout {
  static constexpr int kInputs = 1;
  double p = 0;
  std::uint64_t seed = 0;
  std::uint32_t call = 0;  // differs for every application of dropout in a run
  template <class T>
  GRAFT_HD T operator()(std::int64_t i, T x, T, T) const {
    Random random({seed, RandomStream::dropout, call, std::uint64_t(i)});
    return random.uniform() < p ? T(0) : x / T(1 - p);
  }
};

using MapFunctors = std::tuple<Relu, ReluGrad, Identity, Add, Multiply, Scale, Dropout>;

/// Constants of one SGD step. PyTorch's rule: g += decay*w; v = momentum*v + g (v = g at the first step); w -= lr*v
/// (Nesterov: w -= lr*(g + momentum*v)).
struct SgdStep {
  double lr = 0, momentum = 0;
  bool nesterov = false;
  template <class T>
  GRAFT_HD void operator()(T& w, T g, T& v, T lr_scale, T decay) const {
    g += decay * w;
    v = T(momentum) * v + g;
    w -= T(lr) * lr_scale * (nesterov ? g + T(momentum) * v : v);
  }
};

/// Constants of one Adam or AdamW step as PyTorch defines them. `correction1` = 1 - beta1^t, `correction2` = 1 -
/// beta2^t. Adam adds decay*w to the gradient; AdamW (`decoupled`) shrinks w by lr*decay first.
struct AdamStep {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, correction1 = 1, correction2 = 1;
  bool decoupled = false;
  template <class T>
  GRAFT_HD void operator()(T& w, T g, T& m, T& v, T lr_scale, T decay) const {
    const T rate = T(lr) * lr_scale;
    if (decoupled)
      w -= rate * decay * w;
    else
      g += decay * w;
    using std::sqrt;
    m = T(beta1) * m + T(1 - beta1) * g;
    v = T(beta2) * v + T(1 - beta2) * g * g;
    w -= rate / T(correction1) * m / (sqrt(v) / sqrt(T(correction2)) + T(epsilon));
  }
};

}  // namespace graft
