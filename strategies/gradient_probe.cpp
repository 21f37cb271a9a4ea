#include "strategies/gradient_probe.h"

#include <algorithm>
#include <cmath>

namespace graft {

GradientProbe::GradientProbe(const StrategyOptions& options)
    : probe_batches_(int(options.integer("probe_batches"))),
      includes_norms_(options.text("norm_tensors") == "included"),
      uses_batch_statistics_(options.text("batch_norm") == "batch"),
      resets_moments_(options.text("moments") == "reset") {}

EpochPlan GradientProbe::plan(const EpochView& view) {
  FreezePlan candidates = FreezePlan::trainable(view.parameters);
  if (!uses_batch_statistics_) candidates.set_all_norms(kBatchNormFixed);
  if (!includes_norms_) candidates.set_trains(view.parameters, {.type = LayerType::batch_norm}, false);
  if (view.is_probe) {
    observed_ = 0;
    return {.freeze = std::move(candidates)};
  }
  EpochPlan plan = decide(view, std::move(candidates), means_);
  plan.resets_optimizer = resets_moments_ && probe_batches() > 0;
  return plan;
}

void GradientProbe::observe(const ParameterSet& parameters) {
  const std::vector<double> values = measure(parameters);
  if (observed_++ == 0) means_.assign(values.size(), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      throw Error("training: the gradient of " + parameters.parameters()[i].name +
                  " is not finite in an epoch's probe, while the loss is; lower train.lr");
  for (std::size_t i = 0; i < values.size(); ++i) means_[i] += (values[i] - means_[i]) / observed_;
}

std::vector<double> trained_rows(const Parameter& p, const Tensor& t) {
  std::vector<double> values = t.to_host();
  if (p.row_mask.empty()) return values;
  const std::int64_t row = p.shape.size() / p.rows();
  auto end = values.begin();
  for (std::int64_t k = 0; k < p.rows(); ++k)
    if (channel_trains(p, k)) end = std::copy_n(values.begin() + k * row, row, end);
  values.erase(end, values.end());
  return values;
}

std::vector<StrategySetting> gradient_probe_settings() {
  return {{{.key = "probe_batches",
            .help = "batches at the beginning of each epoch whose gradients decide over it",
            .min = 1,
            .max = 1000},
           std::int64_t{5}},
          {{.key = "norm_tensors",
            .help = "batch norm's scales and shifts: frozen and left out, or included like any tensor",
            .choices = {"frozen", "included"}},
           std::string("frozen")},
          {{.key = "batch_norm",
            .help = "statistics of batch norm, in the probe and in training: running (fixed) or batch",
            .choices = {"running", "batch"}},
           std::string("running")},
          {{.key = "moments",
            .help = "the optimizer's moments at the beginning of an epoch that was probed",
            .choices = {"reset", "kept"}},
           std::string("reset")}};
}

}  // namespace graft
