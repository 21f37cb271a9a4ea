// Every element-wise formula of graft, once, for every device: the reference instantiates them in double, the CPU in
// float, CUDA inside kernels. To add one: write the struct, append it to `MapFunctors`; no backend changes.
// A map functor takes the element's linear index in memory and up to three inputs, and returns the output element.
#pragma once

#include <cmath>
#include <cstdint>
#include <tuple>

#include "kernels/core.h"
#include "kernels/philox.h"

#if defined(__CUDACC__)
#define GRAFT_HD __host__ __device__ __forceinline__
#else
#define GRAFT_HD inline
#endif

namespace graft {

/// y = max(x, 0); a NaN stays a NaN.
struct Relu {
  static constexpr const char* kName = "relu";
  static constexpr int kInputs = 1;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T x, T, T) const {
    return x < T(0) ? T(0) : x;
  }
};

/// dx = dy where the forward's output y was positive, else 0.
struct ReluGrad {
  static constexpr const char* kName = "relu grad";
  static constexpr int kInputs = 2;  // dy, y
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T dy, T y, T) const {
    return y > T(0) ? dy : T(0);
  }
};

struct Identity {
  static constexpr const char* kName = "identity";
  static constexpr int kInputs = 1;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T x, T, T) const {
    return x;
  }
};

struct Add {
  static constexpr const char* kName = "add";
  static constexpr int kInputs = 2;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T a, T b, T) const {
    return a + b;
  }
};

struct Multiply {
  static constexpr const char* kName = "multiply";
  static constexpr int kInputs = 2;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T a, T b, T) const {
    return a * b;
  }
};

struct Scale {
  static constexpr const char* kName = "scale";
  static constexpr int kInputs = 1;
  double factor = 1;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T x, T, T) const {
    return x * T(factor);
  }
};

/// The number of a random call. Within a step it may be counted from a base that lies on the device, so that the step
/// can be repeated with other random numbers.
struct RandomCall {
  std::uint32_t count = 0;
  const double* base = nullptr;  // a whole number of 32 bits; null: 0
  GRAFT_HD std::uint32_t number() const { return count + (base ? std::uint32_t(*base) : 0U); }
};

/// Inverted dropout: kept elements are divided by 1 - p. The same functor applied to dy is its gradient.
/// The mask is a pure function of seed, call and index, so nothing is stored and every device drops the same elements.
struct Dropout {
  static constexpr const char* kName = "dropout";
  static constexpr int kInputs = 1;
  double p = 0;
  std::uint64_t seed = 0;
  RandomCall call;  // differs for every application of dropout in a run
  template <class T>
  GRAFT_HD T operator()(std::int64_t i, T x, T, T) const {
    Random random({seed, RandomStream::dropout, call.number(), std::uint64_t(i)});
    return random.uniform() < p ? T(0) : x / T(1 - p);
  }
};

/// y = factor * (a - b)^2.
struct SquaredDifference {
  static constexpr const char* kName = "squared difference";
  static constexpr int kInputs = 2;
  double factor = 1;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T a, T b, T) const {
    return T(factor) * (a - b) * (a - b);
  }
};

/// y = factor * scale[0] * (a - b), where `scale` is one number of the compute type on the device: the derivative of a
/// sum of SquaredDifference by a, with the sum's gradient as the scale.
struct ScaledDifference {
  static constexpr const char* kName = "scaled difference";
  static constexpr int kInputs = 2;
  double factor = 1;
  const void* scale = nullptr;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T a, T b, T) const {
    return T(factor) * static_cast<const T*>(scale)[0] * (a - b);
  }
};

/// y = scale[0] * x, where `scale` is one number of the compute type on the device.
struct ScaleBy {
  static constexpr const char* kName = "scale by";
  static constexpr int kInputs = 1;
  const void* scale = nullptr;
  template <class T>
  GRAFT_HD T operator()(std::int64_t, T x, T, T) const {
    return static_cast<const T*>(scale)[0] * x;
  }
};

/// Channels chosen at random, each with probability p: a pure function of seed, call and channel, so nothing is stored
/// and every device chooses the same. For tensors whose channels are neighbours in memory, as [2,C] statistics.
struct ChannelChoice {
  double p = 0;
  std::uint64_t seed = 0;
  RandomCall call;  // differs for every choice in a run
  std::int64_t channels = 1;
  GRAFT_HD bool is_chosen(std::int64_t i) const {
    Random random({seed, RandomStream::normalization, call.number(), std::uint64_t(i % channels)});
    return random.uniform() < p;
  }
};

/// y = a in the chosen channels, b in the others.
struct SelectChannels {
  static constexpr const char* kName = "select channels";
  static constexpr int kInputs = 2;
  ChannelChoice choice;
  template <class T>
  GRAFT_HD T operator()(std::int64_t i, T a, T b, T) const {
    return choice.is_chosen(i) ? a : b;
  }
};

/// y = x in the chosen channels, 0 in the others.
struct MaskChannels {
  static constexpr const char* kName = "mask channels";
  static constexpr int kInputs = 1;
  ChannelChoice choice;
  template <class T>
  GRAFT_HD T operator()(std::int64_t i, T x, T, T) const {
    return choice.is_chosen(i) ? x : T(0);
  }
};

using MapFunctors = std::tuple<Relu, ReluGrad, Identity, Add, Multiply, Scale, Dropout, SquaredDifference,
                               ScaledDifference, ScaleBy, SelectChannels, MaskChannels>;

/// What the elements of one segment share in one update; made by `update_terms`.
template <class T>
struct UpdateTerms {
  T gradient_factor;  // on the stored gradient: clipping / loss scale
  T lr;               // the step's rate * the segment's scale * its relative rate
  T decay;
  T strength;      // of the penalty
  T step_size;     // Adam: lr / (1 - beta1^n) at the segment's n-th update
  T inverse_root;  // Adam: 1 / sqrt(1 - beta2^n)
  PenaltyKind kind;
  PenaltyMode mode;
};

/// Constants of one SGD step. PyTorch's rule: g += decay*w; v = momentum*v + g (v = g at the first step); w -= lr*v
/// (Nesterov: w -= lr*(g + momentum*v)).
struct SgdStep {
  static constexpr int kMoments = 1;
  double lr = 0, momentum = 0;
  bool nesterov = false;
  std::int64_t step = 1;  // number of this step, from 1; see UpdateSegment::first_step
  template <class T>
  GRAFT_HD void count(UpdateTerms<T>&, std::int64_t) const {}
  template <class T>
  GRAFT_HD void operator()(const UpdateTerms<T>& t, T& w, T g, T& v, T&) const {
    g += t.decay * w;
    v = T(momentum) * v + g;
    w -= t.lr * (nesterov ? g + T(momentum) * v : v);
  }
};

/// Constants of one Adam or AdamW step as PyTorch defines them. Adam adds decay*w to the gradient; AdamW (`decoupled`)
/// shrinks w by lr*decay first.
struct AdamStep {
  static constexpr int kMoments = 2;
  double lr = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  bool decoupled = false;
  std::int64_t step = 1;
  /// Bias corrections of a segment's n-th update.
  template <class T>
  GRAFT_HD void count(UpdateTerms<T>& t, std::int64_t n) const {
    using std::pow;
    using std::sqrt;
    t.step_size = T(double(t.lr) / (1 - pow(beta1, double(n))));
    t.inverse_root = T(1 / sqrt(1 - pow(beta2, double(n))));
  }
  template <class T>
  GRAFT_HD void operator()(const UpdateTerms<T>& t, T& w, T g, T& m, T& v) const {
    if (decoupled)
      w -= t.lr * t.decay * w;
    else
      g += t.decay * w;
    using std::sqrt;
    m = T(beta1) * m + T(1 - beta1) * g;
    v = T(beta2) * v + T(1 - beta2) * g * g;
    w -= t.step_size * m / (sqrt(v) * t.inverse_root + T(epsilon));
  }
};

/// The terms of a segment's n-th update.
template <class T, class Step>
GRAFT_HD UpdateTerms<T> update_terms(const Step& step, double lr_scale, double decay, const PenaltySpec& penalty,
                                     std::int64_t n, double gradient_factor) {
  UpdateTerms<T> t{};
  t.gradient_factor = T(gradient_factor);
  t.lr = T(step.lr * lr_scale);
  t.decay = T(decay);
  t.strength = T(penalty.strength);
  t.kind = penalty.kind;
  t.mode = penalty.mode;
  step.count(t, n);
  return t;
}

/// One element's update: the penalty around the rule. `w0` is what the penalty pulls to.
template <class T, class Step>
GRAFT_HD void update_element(const Step& step, const UpdateTerms<T>& t, T& w, T g, T& m, T& v, T w0) {
  g *= t.gradient_factor;
  if (t.kind == PenaltyKind::none) {
    step(t, w, g, m, v);
    return;
  }
  const T d = w - w0;
  const T pull = t.strength * (t.kind == PenaltyKind::l2 ? d : T(d > T(0)) - T(d < T(0)));
  if (t.mode == PenaltyMode::coupled) g += pull;
  step(t, w, g, m, v);
  if (t.mode == PenaltyMode::decoupled) w -= t.lr * pull;
  if (t.mode != PenaltyMode::proximal) return;
  const T far = w - w0, reach = t.lr * t.strength;
  using std::abs;
  using std::copysign;
  if (t.kind == PenaltyKind::l2)
    w = w0 + far / (T(1) + reach);
  else
    w = abs(far) <= reach ? w0 : w0 + (far - copysign(reach, far));  // a NaN stays a NaN
}

/// The factor on stored gradients whose squares sum to `squares`: 1 / loss_scale, times PyTorch's clip_grad_norm_ for
/// max_norm > 0, i.e. min(1, max_norm / (norm + 1e-6)); 0 when a gradient is not finite.
GRAFT_HD double gradient_factor(double squares, double loss_scale, double max_norm) {
  using std::sqrt;
  if (!(squares - squares == 0)) return 0;
  const double clip = max_norm > 0 ? max_norm / (sqrt(squares) / loss_scale + 1e-6) : 1;
  return (clip < 1 ? clip : 1.0) / loss_scale;
}

/// The loss scale after a step whose gradients were finite or not, and the number of finite ones in a row.
/// Source: PyTorch's GradScaler.update(), amp_update_scale: growth that would leave float32's range is left out.
GRAFT_HD void adapt_loss_scale(const LossScaling& scaling, bool is_finite, double& scale, double& good_steps) {
  if (!is_finite) {
    scale *= scaling.backoff;
    good_steps = 0;
    return;
  }
  good_steps += 1;
  if (good_steps < double(scaling.interval)) return;
  if (scale * scaling.growth <= 3.4028234663852886e38) scale *= scaling.growth;
  good_steps = 0;
}

/// Binary cross-entropy of one logit, whose sigmoid p is to be `target`: -weight (t log p + (1-t) log(1-p)).
struct LogitCrossEntropy {
  double target, weight;
  GRAFT_HD double loss(double logit) const {
    // -log p = max(-x, 0) + log(1 + exp(-|x|)), and -log(1-p) is that of -x: neither overflows.
    const double low = log1p(exp(-fabs(logit)));
    return weight * (target * fmax(-logit, 0.0) + (1 - target) * fmax(logit, 0.0) + low);
  }
  /// Its derivative by the logit, of the sigmoid p.
  GRAFT_HD double slope(double p) const { return weight * ((1 - target) * p - target * (1 - p)); }
};

/// Of a class that holds or does not, which is weighted where it holds; both outcomes get half of the smoothed share.
GRAFT_HD LogitCrossEntropy logit_cross_entropy(bool holds, double smoothing, double positive_weight) {
  return {(holds ? 1 - smoothing : 0) + smoothing / 2, holds ? positive_weight : 1};
}

/// Auto-RGN's ratio of a group of tensors: enters `row` = [entries so far, the last `window` ratios], whose mean it
/// returns. -1 where the weights are too small for a ratio to mean anything; then nothing is entered.
GRAFT_HD double enter_ratio(double* row, std::int64_t window, double gradient_norm, double weight_norm, double epsilon,
                            double min_weight_norm) {
  if (weight_norm < min_weight_norm) return -1;
  const std::int64_t entries = std::int64_t(row[0]) + 1;
  row[0] = double(entries);
  row[1 + (entries - 1) % window] = gradient_norm / (weight_norm + epsilon);
  const std::int64_t count = entries < window ? entries : window;
  double sum = 0;
  for (std::int64_t i = 1; i <= count; ++i) sum += row[i];
  return sum / double(count);
}

/// A group's multiplier: its mean ratio over the largest; 1 where it has none or all gradients are 0.
GRAFT_HD double relative_rate(double ratio, double largest) {
  return ratio < 0 || !(largest > 0) ? 1 : ratio / largest;
}

}  // namespace graft
