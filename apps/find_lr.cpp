// graft find-lr: a learning-rate range test, its curve and what it suggests.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/follow_weights.h"
#include "apps/interrupt.h"
#include "apps/lr_curve.h"
#include "apps/progress_display.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/files.h"

namespace graft {
namespace {

struct FindLrOptions {
  SettingsOptions settings;
  RangeTestSpec spec;
  std::string data, svg, folder;
  bool is_quiet = false, is_json = false;
};

std::string end_text(const RangeTest& test) {
  switch (test.end) {
    case RangeEnd::all_steps:
      return "reached the highest rate";
    case RangeEnd::diverged:
      return fmt::format("stopped at {:.2g}: the loss diverged", test.last_lr);
    case RangeEnd::not_finite:
      return fmt::format("stopped at {:.2g}: the loss is not finite", test.last_lr);
    case RangeEnd::interrupted:
      break;
  }
  return "interrupted";
}

std::string json_text(const RangeTest& test, std::int64_t steps) {
  using nlohmann::ordered_json;
  constexpr const char* kEnds[] = {"all_steps", "diverged", "not_finite", "interrupted"};
  const auto or_null = [](const std::optional<double>& v) { return v ? ordered_json(*v) : ordered_json(); };
  ordered_json points = ordered_json::array();
  for (const RangePoint& p : test.points)
    points.push_back({{"lr", p.lr}, {"loss", p.loss}, {"smoothed_loss", p.smoothed}});
  const ordered_json all{{"strategy", test.strategy},
                         {"architecture", test.architecture},
                         {"batch", test.batch},
                         {"stage", test.stage},
                         {"stages", test.stages},
                         {"first_epoch", test.first_epoch},
                         {"last_epoch", test.last_epoch},
                         {"end", kEnds[std::size_t(test.end)]},
                         {"last_lr", test.last_lr},
                         {"steepest", or_null(test.steepest)},
                         {"minimum", test.points.empty() ? ordered_json() : ordered_json(test.lowest_lr)},
                         {"tenth_of_minimum", or_null(test.tenth_of_min)},
                         {"start_from", or_null(rate_to_start_from(test, steps))},
                         {"points", std::move(points)}};
  return all.dump() + "\n";
}

/// On how little the curve rests.
std::string steps_text(std::int64_t steps) {
  constexpr std::int64_t kFew = 50;
  return steps < kFew ? fmt::format("A curve of {} steps is rough; --steps 100 tells more.\n", steps) : std::string();
}

std::string plain_text(const RangeTest& test, std::int64_t steps) {
  const std::string title =
      fmt::format("{}, {}: {} updates of {} images", test.architecture, test.strategy, test.points.size(), test.batch);
  return emphasised(title, Emphasis::bold, stdout) + "\n" + end_text(test) + "\n\n" + terminal_curve(test) + "\n" +
         suggestions_text(test, steps) + steps_text(steps);
}

void write_files(const FindLrOptions& options, const RangeTest& test) {
  if (!options.svg.empty()) write_atomically(options.svg, svg_curve(test));
  if (options.folder.empty()) return;
  const std::filesystem::path folder(options.folder);
  write_atomically(folder / "find-lr.svg", svg_curve(test));
  write_atomically(folder / "find-lr.csv", csv_curve(test));
}

int run_find_lr(FindLrOptions& options) {
  if (!options.data.empty()) options.settings.set_flag("train.data", options.data);
  TrainSettings settings = options.settings.resolve();
  check_start(settings, "find-lr");
  const std::string note = follow_weights(settings, options.settings);
  StopLater stop;
  options.spec.stop = &stop.flag();
  Session session = open_session(settings);
  ProgressDisplay progress(options.is_quiet, session.heading);
  if (!note.empty()) progress.note(note);
  const RangeTest test = find_lr(*session.context, settings, options.spec, progress);
  if (test.end == RangeEnd::interrupted) return kExitInterrupted;
  const std::int64_t steps = options.spec.steps;
  // Seen even where a file cannot be written.
  print_result(options.is_json ? json_text(test, steps) : plain_text(test, steps));
  write_files(options, test);
  return 0;
}

}  // namespace

void add_find_lr_verb(Command& program) {
  Command verb = program.verb("find-lr", "Show how the loss answers to the learning rate, and suggest one");
  auto options = std::make_shared<FindLrOptions>();
  RangeTestSpec& spec = options->spec;
  verb.argument("[DATA]", "Folder with train/ val/ test/, CSV, or MedMNIST .npz", options->data);
  verb.option({.flag = "--min-lr", .group = "Test", .help = "first rate", .min = 0, .excludes_min = true}, spec.min_lr);
  verb.option({.flag = "--max-lr", .group = "Test", .help = "last rate", .min = 0, .excludes_min = true}, spec.max_lr);
  verb.option({.flag = "--steps", .group = "Test", .help = "updates from the first to the last", .min = 2}, spec.steps);
  verb.option({.flag = "--smoothing",
               .group = "Test",
               .help = "weight of the past in the moving average of the loss",
               .min = 0,
               .max = 1,
               .excludes_max = true},
              spec.smoothing);
  verb.option({.flag = "--divergence",
               .group = "Test",
               .help = "stop once the smoothed loss is this many times its minimum",
               .min = 1,
               .excludes_min = true},
              spec.divergence);
  verb.option({.flag = "--stage", .group = "Test", .help = "which stage of the strategy, from 1", .min = 1},
              spec.stage);
  verb.option({.flag = "--svg", .group = "Output", .help = "write the curve as a picture"}, options->svg);
  verb.option({.flag = "-o,--output", .group = "Output", .help = "folder for find-lr.svg and find-lr.csv"},
              options->folder);
  // The test has its own rates and end, and writes no run.
  options->settings.add_all_but(verb, {"train.lr", "train.schedule", "train.warmup_epochs", "train.max_steps",
                                       "train.patience", "train.monitor", "train.output", "train.record_every",
                                       "train.tensorboard", "train.probe_from", "train.resume", "train.overwrite"});
  verb.output_options(options->is_json, options->is_quiet);
  verb.example("  graft find-lr images/ --weights resnet50.h5 --strategy full --batch 32 --svg lr.svg");
  verb.run([options] { return run_find_lr(*options); });
}

}  // namespace graft
