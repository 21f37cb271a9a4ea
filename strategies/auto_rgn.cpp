// Auto-RGN: each tensor's rate follows its relative gradient norm |g| / |w|, the largest ratio getting the whole rate.
// Either measured on an epoch's first batches, or at every step from the gradient that is there anyway.
#include <algorithm>
#include <cmath>
#include <map>

#include "strategies/gradient_probe.h"
#include "strategies/registry.h"

namespace graft {
namespace {

constexpr double kMinWeightNorm = 1e-8;  // a fresh bias of zeros has no relative gradient

double squared_norm(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v * v;
  return sum;
}

class AutoRgn : public GradientProbe {
 public:
  explicit AutoRgn(const StrategyOptions& options)
      : GradientProbe(options),
        every_step_(options.text("every") == "step"),
        per_module_(options.text("per") == "module"),
        relative_{.epsilon = options.number("epsilon"),
                  .min_weight_norm = kMinWeightNorm,
                  .window = int(options.integer("window"))} {}

  int probe_batches() const override { return every_step_ ? 0 : GradientProbe::probe_batches(); }

 protected:
  std::vector<double> measure(const ParameterSet& parameters) const override {
    const std::vector<int> groups = groups_of(parameters);
    std::map<int, double> gradients, weights;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const Parameter& p = parameters.parameters()[i];
      if (!p.is_trainable || !p.has_gradient()) continue;
      gradients[groups[i]] += squared_norm(trained_rows(p, p.gradient()));
      weights[groups[i]] += squared_norm(trained_rows(p, p.value));
    }
    std::vector<double> ratios(groups.size(), kNoRatio);
    for (std::size_t i = 0; i < groups.size(); ++i) {
      if (!weights.contains(groups[i]) || std::sqrt(weights[groups[i]]) < kMinWeightNorm) continue;
      ratios[i] = std::sqrt(gradients[groups[i]]) / (std::sqrt(weights[groups[i]]) + relative_.epsilon);
    }
    return ratios;
  }

  EpochPlan decide(const EpochView& view, FreezePlan candidates, const std::vector<double>& means) const override {
    EpochPlan plan{.freeze = std::move(candidates)};
    if (every_step_) {
      plan.relative_rates = relative_;
      plan.rate_groups = groups_of(view.parameters);
    } else if (!means.empty()) {
      const double largest = *std::ranges::max_element(means);
      for (double ratio : means)
        plan.parameter_lr_factors.push_back(ratio == kNoRatio || largest <= 0 ? 1 : ratio / largest);
    }
    return plan;
  }

 private:
  static constexpr double kNoRatio = -1;

  /// Tensors that share a rate have one number: each its own, or all of a layer. A convolution's bias in front of a
  /// batch norm goes with its weight: the norm takes it out again, so it has no gradient in training with batch
  /// statistics, ends up near zero, and its ratio would be the largest of all by far.
  std::vector<int> groups_of(const ParameterSet& parameters) const {
    const auto& all = parameters.parameters();
    std::map<std::string, int> layers;
    std::vector<int> groups;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Parameter& p = all[i];
      const bool is_before_norm = p.role == Role::bias && i + 1 < all.size() && all[i + 1].role == Role::norm_scale;
      if (is_before_norm && !per_module_) {
        groups.push_back(groups.back());
        continue;
      }
      const std::string layer = per_module_ ? p.name.substr(0, p.name.rfind('.')) : p.name;
      groups.push_back(layers.try_emplace(layer, int(layers.size())).first->second);
    }
    return groups;
  }

  bool every_step_, per_module_;
  RelativeRates relative_;
};

std::vector<StrategySetting> auto_rgn_settings() {
  std::vector<StrategySetting> all{
      {{.key = "every",
        .help = "when rates are measured: before each epoch on its first batches, or at each step from its gradient",
        .choices = {"epoch", "step"}},
       std::string("epoch")},
      {{.key = "per",
        .help = "what shares a rate: a tensor alone, or a layer's tensors",
        .choices = {"tensor", "module"}},
       std::string("tensor")},
      {{.key = "window", .help = "steps over which the every-step ratio is averaged", .min = 1, .max = 1000},
       std::int64_t{5}},
      {{.key = "epsilon", .help = "added to a weight's norm before dividing by it", .min = 0}, 1e-8}};
  for (StrategySetting& s : gradient_probe_settings()) all.push_back(std::move(s));
  return all;
}

}  // namespace

StrategyInfo auto_rgn_strategy() {
  return {.name = "auto-rgn",
          .summary = "Each tensor's rate follows its relative gradient norm",
          .source = "Auto-RGN in Davila, Colan, Hasegawa 2024; Lee et al. 2023 (surgical fine-tuning) and its code",
          .settings = auto_rgn_settings(),
          .defaults = {{"train.weight_decay", 1e-4}},
          .create = create_strategy<AutoRgn>};
}

}  // namespace graft
