// What Auto-RGN and Auto-SNR share: both look at the gradients of an epoch's first batches before they plan it, leave
// batch norm aside unless told otherwise, and start each epoch with fresh moments.
#pragma once

#include "strategies/strategy.h"

namespace graft {

class GradientProbe : public Strategy {
 public:
  explicit GradientProbe(const StrategyOptions& options);
  EpochPlan plan(const EpochView& view) final;
  int probe_batches() const override { return probe_batches_; }
  void observe(const ParameterSet& parameters) final;
  /// What was learned from the last probe, so that an interrupted epoch continues with it.
  std::vector<double> state() const override { return means_; }
  void restore(const std::vector<double>& state) override { means_ = state; }

 protected:
  /// A number for each of `parameters`, from the gradients in place; those that do not train are ignored.
  virtual std::vector<double> measure(const ParameterSet& parameters) const = 0;
  /// The epoch's plan, from `candidates` (what was observed) and the means of `measure` over the batches, by parameter;
  /// empty before the first probe.
  virtual EpochPlan decide(const EpochView& view, FreezePlan candidates, const std::vector<double>& means) const = 0;

 private:
  int probe_batches_;
  bool includes_norms_, uses_batch_statistics_, resets_moments_;
  int observed_ = 0;
  std::vector<double> means_;
};

/// Elements of `t`, a parameter's value or gradient, row after row, without those of frozen output channels.
std::vector<double> trained_rows(const Parameter& p, const Tensor& t);

/// "probe_batches", "norm_tensors", "batch_norm", "moments".
std::vector<StrategySetting> gradient_probe_settings();

}  // namespace graft
