// Learning-rate range test: the rate climbs from step to step while the loss is watched, until it diverges. It runs the
// training loop of fit.h with the strategy's freeze plan, rates, optimizer and batches; the network it trains is thrown
// away, and no file is written. Curves for people are drawn by apps/lr_curve.h.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "strategies/progress.h"
#include "strategies/train_settings.h"
#include "tensor/context.h"

namespace graft {

struct RangeTestSpec {
  double min_lr = 1e-7, max_lr = 10;
  std::int64_t steps = 100;
  double smoothing = 0.9;  // of the moving average, in [0, 1)
  double divergence = 4;   // the test ends once the smoothed loss exceeds its minimum this many times
  std::int64_t stage = 1;  // of the strategy, from 1
  const std::atomic<bool>* stop = nullptr;
};

struct RangePoint {
  double lr = 0;        // in place of train.lr
  double loss = 0;      // the task's, before the update with this rate
  double smoothed = 0;  // sum of (1-b) b^j loss[i-j] over 1 - b^(i+1): the moving average without its start's bias
};

enum class RangeEnd { all_steps, diverged, not_finite, interrupted };

struct RangeTest {
  std::vector<RangePoint> points;  // finite losses only
  RangeEnd end = RangeEnd::all_steps;
  double last_lr = 0;                  // of the update at which the test ended
  double lowest_lr = 0;                // of the smallest smoothed loss; 0: there is no point
  std::optional<double> steepest;      // where the smoothed loss falls fastest per decade of the rate
  std::optional<double> tenth_of_min;  // a tenth of lowest_lr; neither is given if the loss did not fall
  bool falls_to_the_end = false;       // the smallest loss is the last: a higher max_lr would show more

  // What was tested
  std::string strategy, architecture;
  std::int64_t batch = 0;                        // images per update
  std::int64_t stage = 1, stages = 1;            // runs of epochs with one freeze plan
  std::int64_t first_epoch = 1, last_epoch = 1;  // of the stage, from 1
};

/// `graft find-lr`. Rates are spaced evenly in their logarithm: lr_i = min (max / min)^(i / (steps - 1)).
/// Of a strategy with stages one is tested, from the weights that the settings name.
/// Errors: see check_start(); min_lr not below max_lr; a stage that the strategy does not have; data, weights, memory.
/// Source: Smith 2017, "Cyclical learning rates for training neural networks"; suggestions and the limit of four times
/// the minimum as in fastai (lr_finder).
RangeTest find_lr(Context& context, const TrainSettings& settings, const RangeTestSpec& spec, ProgressSink& progress);

/// Fills in lowest_lr, the suggestions and falls_to_the_end from the points. `steps` is that of the spec: slopes are
/// fitted over a tenth of it, and as many of the first points only let the average settle.
void suggest(RangeTest& test, std::int64_t steps);

}  // namespace graft
