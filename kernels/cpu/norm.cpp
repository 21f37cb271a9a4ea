// Batch norm on the CPU. Every pass reads each activation once; sums are taken per run of at most 512 pixels in float,
// then combined in double in a fixed order, so results are the same bits for any number of threads.
#include <cmath>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/runs.h"

namespace graft {
namespace {

/// Partial results per part and channel: [parts][2][channels] doubles.
class Partials {
 public:
  Partials(std::int64_t parts, std::int64_t channels)
      : channels_(channels), values_(std::size_t(parts * 2 * channels)) {}
  double& operator()(std::int64_t part, int which, std::int64_t channel) {
    return values_[std::size_t((part * 2 + which) * channels_ + channel)];
  }

 private:
  std::int64_t channels_;
  std::vector<double> values_;
};

template <int W>
[[gnu::always_inline]] inline void keep(Partials& partials, std::int64_t part, std::int64_t channel,
                                        typename Lanes<W>::type a, typename Lanes<W>::type b) {
  float va[W], vb[W];
  store<W>(va, a), store<W>(vb, b);
  for (int l = 0; l < W; ++l) partials(part, 0, channel + l) = va[l], partials(part, 1, channel + l) = vb[l];
}

template <int W>
[[gnu::always_inline]] inline typename Lanes<W>::type load_inverse(const float* variance, double epsilon) {
  float inverse[W];
  for (int l = 0; l < W; ++l) inverse[l] = float(1.0 / std::sqrt(double(variance[l]) + epsilon));
  return load<W>(static_cast<const float*>(inverse));
}

const float* vector_at(const ConstView& v, std::int64_t channel) { return v.as<float>() + channel; }
const float* row_at(const ConstView& v, int i, std::int64_t channel) { return v.as<float>() + i * v.pitch + channel; }

}  // namespace

void CpuBackend::batch_statistics(View stats, ConstView x) {
  const Runs runs(x);
  Partials partials(runs.parts(), x.shape.c);
  std::vector<std::int64_t> counts(std::size_t(runs.parts()));
  for_each_run(runs, [&]<int W, class T>(const Run& r) {
    using V = typename Lanes<W>::type;
    const auto in = cursor<T>(x, r);
    V sum{};
    for (std::int64_t i = 0; i < r.pixels; ++i) sum += load<W>(in.template at<W>(i));
    const V mean = sum / float(r.pixels);
    V squares{};  // about the run's own mean: no cancellation
    for (std::int64_t i = 0; i < r.pixels; ++i) {
      const V d = load<W>(in.template at<W>(i)) - mean;
      squares += d * d;
    }
    keep<W>(partials, runs.part(r), r.channel, mean, squares);
    if (r.channel == 0) counts[std::size_t(runs.part(r))] = r.pixels;
  });
  // Chan, Golub, LeVeque 1979: combining means and squared deviations of parts.
#pragma omp parallel for schedule(static)
  for (std::int64_t c = 0; c < x.shape.c; ++c) {
    double mean = 0, squares = 0, count = 0;
    for (std::int64_t part = 0; part < runs.parts(); ++part) {
      const double n = double(counts[std::size_t(part)]), total = count + n, d = partials(part, 0, c) - mean;
      mean += d * n / total;
      squares += partials(part, 1, c) + d * d * count * n / total;
      count = total;
    }
    stats.as<float>()[c] = float(mean);
    stats.as<float>()[stats.pitch + c] = float(squares / count);
  }
}

void CpuBackend::normalize(View y, ConstView x, const NormalizeArgs& a, ConstView residual) {
  const auto run = [&]<bool kResidual, bool kRelu>() {
    for_each_run(Runs(x), [&]<int W, class T>(const Run& r) {
      using V = typename Lanes<W>::type;
      const V mean = load<W>(row_at(a.stats, 0, r.channel)), beta = load<W>(vector_at(a.beta, r.channel));
      const V scale =
          load_inverse<W>(row_at(a.stats, 1, r.channel), a.epsilon) * load<W>(vector_at(a.gamma, r.channel));
      const auto in = cursor<T>(x, r);
      const auto out = cursor<T>(y, r);
      const auto extra = kResidual ? cursor<T>(residual, r) : in;
      for (std::int64_t i = 0; i < r.pixels; ++i) {
        V v = (load<W>(in.template at<W>(i)) - mean) * scale + beta;
        if constexpr (kResidual) v += load<W>(extra.template at<W>(i));
        if constexpr (kRelu) v = relu(v);
        store<W>(out.template at<W>(i), v);
      }
    });
  };
  if (residual.data)
    a.relu ? run.operator()<true, true>() : run.operator()<true, false>();
  else
    a.relu ? run.operator()<false, true>() : run.operator()<false, false>();
}

void CpuBackend::fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs& a) {
  const std::int64_t rows = w.shape.n, row_size = w.shape.size() / rows;
  with_stored_type(folded.dtype, [&](auto stored) {
    using T = decltype(stored);
#pragma omp parallel for schedule(static)
    for (std::int64_t k = 0; k < rows; ++k) {
      const float scale = float(1.0 / std::sqrt(double(*row_at(a.stats, 1, k)) + a.epsilon)) * *vector_at(a.gamma, k);
      const float* from = w.as<float>() + k * row_size;
      T* to = folded.as<T>() + k * row_size;
      for (std::int64_t i = 0; i < row_size; ++i) to[i] = T(from[i] * scale);
      const float offset = bias.data ? *vector_at(bias, k) : 0.0f;
      shift.as<float>()[k] = (offset - *row_at(a.stats, 0, k)) * scale + *vector_at(a.beta, k);
    }
  });
}

void CpuBackend::normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x, const NormalizeArgs& a) {
  const Runs runs(x);
  Partials partials(runs.parts(), x.shape.c);
  for_each_run(runs, [&]<int W, class T>(const Run& r) {
    using V = typename Lanes<W>::type;
    const V mean = load<W>(row_at(a.stats, 0, r.channel)),
            inverse = load_inverse<W>(row_at(a.stats, 1, r.channel), a.epsilon);
    const auto g = cursor<T>(dy, r), in = cursor<T>(x, r);
    const auto out = a.relu ? cursor<T>(y, r) : in;
    V sum{}, dot{};
    for (std::int64_t i = 0; i < r.pixels; ++i) {
      V d = load<W>(g.template at<W>(i));
      if (a.relu) d = masked(d, load<W>(out.template at<W>(i)));
      sum += d;
      dot += d * ((load<W>(in.template at<W>(i)) - mean) * inverse);
    }
    keep<W>(partials, runs.part(r), r.channel, sum, dot);
  });
  for (int which : {0, 1})
    for (std::int64_t c = 0; c < x.shape.c; ++c) {
      double total = 0;
      for (std::int64_t part = 0; part < runs.parts(); ++part) total += partials(part, which, c);
      sums.as<float>()[which * sums.pitch + c] = float(total);
    }
}

void CpuBackend::normalize_grad(View dx, Write write, View dresidual, Write residual_write, ConstView dy, ConstView y,
                                ConstView x, const NormalizeArgs& a, ConstView sums) {
  const float per_element = 1.0f / float(x.shape.n * x.shape.pixels());
  const auto run = [&]<bool kBatch, bool kRelu>() {
    for_each_run(Runs(x), [&]<int W, class T>(const Run& r) {
      using V = typename Lanes<W>::type;
      const V mean = load<W>(row_at(a.stats, 0, r.channel)),
              inverse = load_inverse<W>(row_at(a.stats, 1, r.channel), a.epsilon);
      const V scale = inverse * load<W>(vector_at(a.gamma, r.channel));
      V mean_g{}, mean_dot{};
      if constexpr (kBatch) {
        mean_g = load<W>(row_at(sums, 0, r.channel)) * per_element;
        mean_dot = load<W>(row_at(sums, 1, r.channel)) * per_element;
      }
      const auto g = cursor<T>(dy, r), in = cursor<T>(x, r);
      const auto out = kRelu ? cursor<T>(y, r) : in;
      const auto to = dx.data ? cursor<T>(dx, r) : Cursor<T>{nullptr, 0};
      const auto res = dresidual.data ? cursor<T>(dresidual, r) : Cursor<T>{nullptr, 0};
      for (std::int64_t i = 0; i < r.pixels; ++i) {
        V d = load<W>(g.template at<W>(i));
        if constexpr (kRelu) d = masked(d, load<W>(out.template at<W>(i)));
        if (res.p) {
          T* q = res.template at<W>(i);
          store<W>(q, residual_write == Write::add ? load<W>(q) + d : d);
        }
        if (to.p) {
          V v = d;
          if constexpr (kBatch) v -= mean_g + (load<W>(in.template at<W>(i)) - mean) * inverse * mean_dot;
          v *= scale;
          T* q = to.template at<W>(i);
          store<W>(q, write == Write::add ? load<W>(q) + v : v);
        }
      }
    });
  };
  if (sums.data)
    a.relu ? run.operator()<true, true>() : run.operator()<true, false>();
  else
    a.relu ? run.operator()<false, true>() : run.operator()<false, false>();
}

void CpuBackend::normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted) {
  const float per_element = 1.0f / float(x.shape.n * x.shape.pixels());
  for_each_run(Runs(x), [&]<int W, class T>(const Run& r) {
    using V = typename Lanes<W>::type;
    const V mean = load<W>(row_at(stats, 0, r.channel)),
            inverse = load_inverse<W>(row_at(stats, 1, r.channel), epsilon);
    const V first = load<W>(row_at(weighted, 0, r.channel)) * inverse * per_element;
    const V second = load<W>(row_at(weighted, 1, r.channel)) * inverse * inverse * per_element;
    const auto in = cursor<T>(x, r);
    const auto to = cursor<T>(dx, r);
    for (std::int64_t i = 0; i < r.pixels; ++i) {
      T* q = to.template at<W>(i);
      store<W>(q, load<W>(q) - first - (load<W>(in.template at<W>(i)) - mean) * second);
    }
  });
}

void CpuBackend::update_running(View running, ConstView stats, double momentum, std::int64_t elements) {
  const double unbiased = elements > 1 ? double(elements) / double(elements - 1) : 1.0;
  for (int which : {0, 1})
    for (std::int64_t c = 0; c < running.shape.c; ++c) {
      float& r = running.as<float>()[which * running.pitch + c];
      const double now = double(*row_at(stats, which, c)) * (which == 1 ? unbiased : 1.0);
      r = float((1 - momentum) * double(r) + momentum * now);
    }
}

void CpuBackend::channel_sum(View db, Write write, ConstView dy) {
  const Runs runs(dy);
  Partials partials(runs.parts(), dy.shape.c);
  for_each_run(runs, [&]<int W, class T>(const Run& r) {
    using V = typename Lanes<W>::type;
    const auto g = cursor<T>(dy, r);
    V sum{};
    for (std::int64_t i = 0; i < r.pixels; ++i) sum += load<W>(g.template at<W>(i));
    keep<W>(partials, runs.part(r), r.channel, sum, V{});
  });
  for (std::int64_t c = 0; c < dy.shape.c; ++c) {
    double total = write == Write::add ? double(db.as<float>()[c]) : 0.0;
    for (std::int64_t part = 0; part < runs.parts(); ++part) total += partials(part, 0, c);
    db.as<float>()[c] = float(total);
  }
}

}  // namespace graft
