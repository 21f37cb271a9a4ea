// Auto-SNR: a tensor trains in an epoch if its gradient's signal stands out of its noise.
//   score = mean g^2 / (Var over output channels + 1e-8), averaged over the epoch's first batches; trains from 0.95 on
#include <algorithm>
#include <limits>

#include "strategies/gradient_probe.h"
#include "strategies/registry.h"

namespace graft {
namespace {

constexpr double kNotMeasured = -1;

/// Mean over all elements of g^2 / (variance of its column over the rows + 1e-8), unbiased. A single row has no
/// variance, which counts as no noise.
double score(const std::vector<double>& g, std::size_t columns) {
  const std::size_t rows = g.size() / columns;
  if (rows < 2) return std::numeric_limits<double>::max();
  double sum = 0;
  for (std::size_t c = 0; c < columns; ++c) {
    double mean = 0, squares = 0, deviations = 0;
    for (std::size_t r = 0; r < rows; ++r) mean += g[r * columns + c] / double(rows);
    for (std::size_t r = 0; r < rows; ++r) {
      const double v = g[r * columns + c];
      squares += v * v;
      deviations += (v - mean) * (v - mean);
    }
    sum += squares / (deviations / double(rows - 1) + 1e-8);
  }
  return sum / double(g.size());
}

class AutoSnr : public GradientProbe {
 public:
  explicit AutoSnr(const StrategyOptions& options) : GradientProbe(options), threshold_(options.number("threshold")) {}

 protected:
  std::vector<double> measure(const ParameterSet& parameters) const override {
    std::vector<double> scores;
    for (const Parameter& p : parameters.parameters())
      scores.push_back(p.is_trainable && p.has_gradient()
                           ? score(trained_rows(p, p.gradient()), std::size_t(p.shape.size() / p.rows()))
                           : kNotMeasured);
    return scores;
  }

  EpochPlan decide(const EpochView&, FreezePlan candidates, const std::vector<double>& means) const override {
    if (means.empty()) return {.freeze = std::move(candidates)};
    // Something has to train: where nothing reaches the threshold, the best does.
    const double least = std::min(threshold_, *std::ranges::max_element(means));
    for (std::size_t i = 0; i < means.size(); ++i)
      if (means[i] < least) candidates.set_trains(std::int64_t(i), false);
    return {.freeze = std::move(candidates)};
  }

 private:
  double threshold_;
};

std::vector<StrategySetting> auto_snr_settings() {
  std::vector<StrategySetting> all{
      {{.key = "threshold", .help = "score from which on a tensor trains in an epoch", .min = 0}, 0.95}};
  for (StrategySetting& s : gradient_probe_settings()) all.push_back(std::move(s));
  return all;
}

}  // namespace

StrategyInfo auto_snr_strategy() {
  return {.name = "auto-snr",
          .summary = "In each epoch those tensors train whose gradients stand out of their noise",
          .source = "Auto-SNR in Lee et al. 2023 (surgical fine-tuning), its code's eb-criterion",
          .settings = auto_snr_settings(),
          .defaults = {{"train.weight_decay", 1e-4}},
          .create = create_strategy<AutoSnr>};
}

}  // namespace graft
