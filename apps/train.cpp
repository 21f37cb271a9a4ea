// graft train: settings from flags, files and --set into a run directory.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <new>

#include "apps/follow_weights.h"
#include "apps/interrupt.h"
#include "apps/progress_display.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "kernels/out_of_memory.h"
#include "kernels/ranks.h"
#include "strategies/batches/images_ahead.h"
#include "strategies/monitor.h"
#include "strategies/training/finished_run.h"
#include "strategies/training/run_directory.h"
#include "strategies/training/starting_model.h"
#include "strategies/training/train.h"
#include "strategies/training/train_step.h"

namespace graft {
namespace {

struct TrainOptions {
  SettingsOptions settings;
  std::string data, command_line;
  bool is_quiet = false, is_json = false, prints_config = false;
};

/// Trains; when memory runs out, the error also says what is kept.
RunResult train_or_say_what_is_kept(Context& context, const TrainSettings& settings, const RunCall& call,
                                    ProgressSink& progress) {
  const auto kept = [&] {
    if (!RunDirectory(settings.output).has("last.h5")) return std::string("no checkpoint was written yet");
    return fmt::format("{0}/last.h5 is kept, graft train -o {0} --resume --recompute norms continues from it",
                       settings.output);
  };
  try {
    return train(context, settings, call, progress);
  } catch (const OutOfMemory& error) {
    throw Error(fmt::format("{}; {}", error.what(), kept()));
  } catch (const std::bad_alloc&) {
    const std::string advice =
        fmt::format("lower train.image_cache_mb and train.feature_cache_mb, or {}", kLessMemoryAdvice);
    throw Error(fmt::format("{}; {}", host_out_of_memory_text(advice), kept()));
  }
}

/// "13.3 s: features 5.7, images 3.5, saving 1.1, other 3.0": the longest first, what is too short to show left out.
std::string seconds_text(const std::map<std::string, double>& seconds) {
  double all = 0;
  std::vector<std::pair<double, std::string>> parts;
  for (const auto& [name, s] : seconds) {
    all += s;
    if (s >= 0.05) parts.emplace_back(s, name);
  }
  std::ranges::sort(parts, std::greater{});
  std::string text = fmt::format("{:.1f} s", all);
  for (std::size_t i = 0; i < parts.size(); ++i)
    text += fmt::format("{} {} {:.1f}", i == 0 ? ":" : ",", parts[i].second, parts[i].first);
  return text;
}

/// What a run that came to its end prints.
int show(const RunResult& result, const TrainOptions& options, const TrainSettings& settings, ProgressSink& progress) {
  if (options.is_json) {
    print_result(result.summary_json + "\n");
    return 0;
  }
  if (result.was_finished_before) progress.note("the run was finished before; nothing was done");
  std::string text;
  if (result.best_epoch > 0) {
    // --max-steps may end a run within an epoch, which is validated but not counted.
    const std::int64_t epochs = std::max(result.epochs, result.best_epoch);
    text += std::isnan(result.best_val_score)
                ? fmt::format("epoch {} of {}, chosen by no validation images\n", result.best_epoch, epochs)
                : fmt::format("best epoch {} of {}, validation {} {:.4f}\n", result.best_epoch, epochs,
                              monitor_named(result.monitor).words, result.best_val_score);
  }
  if (result.has_test)
    text += evaluation_text(result.test);
  else
    text += result.best_epoch > 0 ? "no test images: nothing was tested\n" : "no steps: nothing was tested\n";
  if (!result.seconds.empty()) progress.note(seconds_text(result.seconds));
  print_result(text + fmt::format("run: {}\n", settings.output));
  return 0;
}

int run_train(TrainOptions& options, Ranks& ranks) {
  if (!options.data.empty()) options.settings.set_flag("train.data", options.data);
  TrainSettings settings = options.settings.resolve();
  if (options.prints_config) {
    if (ranks.is_first()) print_result(to_toml(settings, false));
    return 0;
  }
  if (settings.resume && settings.data.empty() && !RunDirectory(settings.output).has("config.toml"))
    throw Error(fmt::format(
        "train: {} holds no run to continue; start one with: graft train DATA --weights MODEL.h5 -o {}",
        settings.output.empty() ? "-o" : settings.output, settings.output.empty() ? "RUN" : settings.output));
  check(settings);
  options.is_quiet = options.is_quiet || !ranks.is_first();
  if (const auto finished = finished_without_checkpoint(settings, to_toml(settings, true))) {
    ProgressDisplay progress(options.is_quiet, "");
    return ranks.is_first() ? show(*finished, options, settings, progress) : 0;
  }
  const std::string note = follow_weights(settings, options.settings);

  StopLater stop;
  const std::int64_t threads = settings.threads;  // as the run's files have it
  if (ranks.count() > 1 && threads == 0) settings.threads = cores_of_rank(ranks);
  ImagesAhead images(settings);
  Session session = open_session(settings);
  if (ranks.count() > 1)
    session.heading += fmt::format("\n{} processes of {} thread{} each share the batches of an update", ranks.count(),
                                   settings.threads, settings.threads == 1 ? "" : "s");
  ProgressDisplay progress(options.is_quiet, session.heading);
  if (!note.empty()) progress.note(note);
  TrainSettings recorded = settings;
  recorded.threads = threads;
  const RunCall call{.config_toml = to_toml(recorded, true),
                     .command_line = options.command_line,
                     .stop = &stop.flag(),
                     .images = &images,
                     .ranks = ranks};
  const RunResult result = train_or_say_what_is_kept(*session.context, settings, call, progress);
  if (result.was_interrupted) {
    progress.note(fmt::format("interrupted; a checkpoint is written, continue with: graft train -o {} --resume",
                              settings.output));
    return kExitInterrupted;
  }
  return ranks.is_first() ? show(result, options, settings, progress) : 0;
}

int run_train_of_ranks(TrainOptions& options) {
  const std::unique_ptr<Ranks> ranks = join_ranks();
  const int code = run_train(options, *ranks);
  ranks->finish();
  return code;  // of every rank: launchers differ in whose they make their own
}

}  // namespace

void add_train_verb(Command& program) {
  Command verb = program.verb("train", "Train or fine-tune a network on labelled images");
  auto options = std::make_shared<TrainOptions>();
  verb.argument("[DATA]", "Folder with train/ val/ test/, CSV, or MedMNIST .npz", options->data);
  options->settings.add_to(verb);
  verb.option({.flag = "--print-config", .group = "Run", .help = "print every key with its value as TOML and exit"},
              options->prints_config);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example(
      "  graft train images/ --weights resnet50.h5 --strategy linear-probe --lr 0.001 --epochs 10 -o runs/probe\n"
      "  graft train -o runs/probe --resume");
  options->command_line = verb.command_line();
  verb.run([options] { return run_train_of_ranks(*options); });
}

}  // namespace graft
