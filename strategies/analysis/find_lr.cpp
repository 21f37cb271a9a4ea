#include "strategies/analysis/find_lr.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "strategies/seconds.h"
#include "strategies/stages.h"
#include "strategies/training/fit.h"
#include "strategies/training/starting_model.h"

namespace graft {
namespace {

/// Fills in the stage's epochs and says what a user should know of it.
void choose_stage(RangeTest& test, const TrainSettings& settings, const Network& network, ProgressSink& progress) {
  const std::vector<Stage> stages = stages_of(settings, network);
  test.stages = std::ssize(stages);
  if (test.stage > test.stages)
    throw UsageError(fmt::format("--stage: {} has {} stage{} in {} epochs, got {}", settings.strategy, test.stages,
                                 test.stages == 1 ? "" : "s", settings.epochs, test.stage));
  const auto i = static_cast<std::size_t>(test.stage - 1);
  test.first_epoch = stages[i].first_epoch + 1;
  test.last_epoch = stages[i].last_epoch + 1;
  if (test.stages == 1) return;
  progress.note(fmt::format("stage {} of {} is tested (epochs {} to {}); --stage N chooses another", test.stage,
                            test.stages, test.first_epoch, test.last_epoch));
  if (stages[i].lr_factor != 1)
    progress.note(fmt::format("rates are those of --lr, of which this stage takes {:g} times", stages[i].lr_factor));
  if (test.stage > 1)
    progress.note("it starts from the weights given; to start from what the stage before leaves, give its best.h5");
}

/// Slope of the smoothed loss per decade: least squares over the points [i - reach, i + reach] that there are.
double slope_at(const std::vector<RangePoint>& points, std::int64_t i, std::int64_t reach) {
  const std::int64_t begin = std::max<std::int64_t>(0, i - reach);
  const std::int64_t end = std::min(std::ssize(points), i + reach + 1);
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
  for (std::int64_t j = begin; j < end; ++j) {
    const RangePoint& p = points[static_cast<std::size_t>(j)];
    mean_x += std::log10(p.lr) / double(end - begin), mean_y += p.smoothed / double(end - begin);
  }
  for (std::int64_t j = begin; j < end; ++j) {
    const RangePoint& p = points[static_cast<std::size_t>(j)];
    const double dx = std::log10(p.lr) - mean_x;
    xx += dx * dx, xy += dx * (p.smoothed - mean_y);
  }
  return xx > 0 ? xy / xx : 0;
}

}  // namespace

void suggest(RangeTest& test, std::int64_t steps) {
  const std::vector<RangePoint>& points = test.points;
  const auto lowest = std::ranges::min_element(points, {}, &RangePoint::smoothed);
  if (lowest == points.end()) return;
  test.lowest_lr = lowest->lr;
  const std::int64_t last = lowest - points.begin(), first = steps / 10, reach = std::max<std::int64_t>(1, steps / 20);
  if (last <= first) return;
  test.falls_to_the_end = test.end == RangeEnd::all_steps && lowest + 1 == points.end();
  test.tenth_of_min = test.lowest_lr / 10;
  double steepest = 0;
  for (std::int64_t i = first; i <= last; ++i) {
    const double slope = slope_at(points, i, reach);
    if (slope < steepest) steepest = slope, test.steepest = points[static_cast<std::size_t>(i)].lr;
  }
}

RangeTest find_lr(Context& context, const TrainSettings& given, const RangeTestSpec& spec, ProgressSink& progress) {
  check_start(given, "find-lr");
  if (!(spec.min_lr < spec.max_lr))
    throw UsageError(fmt::format("--min-lr: expects less than --max-lr ({:g}), got {:g}", spec.max_lr, spec.min_lr));
  TrainSettings settings = given;
  settings.lr = spec.min_lr;        // where the table of what trains begins
  settings.max_steps = spec.steps;  // features of more images than it sees are not computed

  const Dataset dataset = open_dataset(settings);
  for (const BadImage& bad : dataset.skipped()) progress.note("skipped " + bad.path + ": " + bad.reason);
  const StartingModel model = starting_model(context, settings, dataset.class_names(), dataset.is_multi_label());
  Network& network = *model.network;
  if (settings.dropout >= 0) network.set_dropout(settings.dropout);
  RangeTest test{.strategy = settings.strategy,
                 .architecture = network.info().architecture,
                 .batch = settings.batch * settings.accumulate,
                 .stage = spec.stage};
  choose_stage(test, settings, network, progress);
  for (const std::string& line : model.notes) progress.note(line);

  SplitBatches batches({.network = network,
                        .dataset = dataset,
                        .settings = settings,
                        .transform = transform_of(network.info()),
                        .folder = {},
                        .validates = false,
                        .steps_setting = "--steps"});
  const RunDirectory nowhere{{}};
  const auto starting_network = [&] {
    return starting_model(context, settings, dataset.class_names(), dataset.is_multi_label()).network;
  };
  Fit fit({network, dataset, settings, batches, nowhere, spec.stop, starting_network}, progress);
  const double decades = std::log(spec.max_lr / spec.min_lr);
  const auto lr_at = [&](std::int64_t step) {
    return spec.min_lr * std::exp(decades * double(step) / double(spec.steps - 1));
  };
  PassProgress report{.pass = "range test", .total = spec.steps * test.batch};
  const auto begin = std::chrono::steady_clock::now();
  double average = 0, lowest = std::numeric_limits<double>::infinity();
  const auto take_loss = [&](std::int64_t step, double loss) {
    test.last_lr = lr_at(step);
    if (!std::isfinite(loss)) return test.end = RangeEnd::not_finite, false;
    average = spec.smoothing * average + (1 - spec.smoothing) * loss;
    const double smoothed = average / (1 - std::pow(spec.smoothing, double(step + 1)));
    test.points.push_back({test.last_lr, loss, smoothed});
    lowest = std::min(lowest, smoothed);
    report.done = (step + 1) * test.batch, report.loss = smoothed;
    report.images_per_second = double(report.done) / seconds_since(begin);
    progress.advance(report);
    if (smoothed > spec.divergence * lowest) return test.end = RangeEnd::diverged, false;
    return true;
  };
  const bool is_whole =
      fit.sweep({.epoch = test.first_epoch - 1, .steps = spec.steps, .lr = lr_at, .take_loss = take_loss});
  progress.end_pass();
  if (!is_whole) test.end = RangeEnd::interrupted;
  suggest(test, spec.steps);
  return test;
}

}  // namespace graft
