// graft demo: draws images, pre-trains a ResNet-50 on the source task, fine-tunes it on the target task in two ways and
// compares both with training from scratch. Every step is a `graft train` that a user can repeat; its line is shown.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "apps/demo_images.h"
#include "apps/interrupt.h"
#include "apps/progress_display.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/files.h"
#include "data/model_file.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// Chosen on validation images of other seeds, so that all four trainings take under four minutes on two cores.
constexpr std::int64_t kSide = 73;  // pixels; the network sees the 64 in the middle
constexpr DemoCounts kSourceCounts{.train = 120, .val = 16};
constexpr DemoCounts kTargetCounts{.train = 12, .val = 12, .test = 40};
constexpr const char* kMarker = "about.txt";

struct DemoOptions {
  SettingsOptions settings;
  std::string folder = "graft-demo";
  bool is_quiet = false;
};

/// Settings of one training as keys and values, so that the same list makes the settings and the command line.
struct DemoStep {
  std::string name, title;
  std::vector<std::pair<std::string, std::string>> keys;
};

DemoStep pretraining(const fs::path& folder) {
  return {"source",
          "pre-training on the source task",
          {{"train.data", folder / "source"},
           {"train.from_scratch", "true"},
           {"train.size", "64"},
           {"train.epochs", "5"},
           {"train.batch", "32"},
           {"train.lr", "0.001"}}};
}

std::vector<DemoStep> contenders(const fs::path& folder) {
  const std::pair<std::string, std::string> data{"train.data", folder / "target"};
  const std::pair<std::string, std::string> weights{"train.weights", folder / "pretrained.h5"};
  return {{"linear-probe",
           "linear probe of the pre-trained network",
           {data,
            weights,
            {"strategy.name", "linear-probe"},
            {"train.epochs", "15"},
            {"train.batch", "16"},
            {"train.lr", "0.01"}}},
          {"full",
           "full fine-tuning of the pre-trained network",
           {data,
            weights,
            {"strategy.name", "full"},
            {"train.epochs", "15"},
            {"train.batch", "16"},
            {"train.lr", "0.001"}}},
          {"scratch",
           "training from scratch",
           {data,
            {"train.from_scratch", "true"},
            {"train.size", "64"},
            {"train.epochs", "15"},
            {"train.batch", "16"},
            {"train.lr", "0.001"}}}};
}

std::string command_of(const DemoStep& step, const std::string& output) {
  std::string data, flags;
  for (const auto& [key, value] : step.keys) {
    if (key == "train.data") data = value;
    for (const Setting<TrainSettings>& setting : settings_table()) {
      if (setting.key != key || setting.flag.empty()) continue;
      flags += fmt::format(" {}{}", setting.flag, value == "true" ? "" : " " + value);
    }
  }
  return fmt::format("graft train {}{} --patience 0 -o {}", data, flags, output);
}

struct DemoResult {
  RunResult run;
  double seconds = 0;
};

DemoResult run_step(const DemoStep& step, const DemoOptions& options, TrainSettings settings, Context& context,
                    const StopLater& stop, ProgressSink& progress) {
  settings.output = fs::path(options.folder) / "runs" / step.name;
  settings.overwrite = true;
  set_by_key(settings, "train.patience", std::string("0"));
  for (const auto& [key, value] : step.keys) set_by_key(settings, key, value);
  const std::string command = command_of(step, settings.output);
  progress.note(fmt::format("\n{}\n$ {}", emphasised(step.title, Emphasis::bold, stderr), command));
  const auto start = std::chrono::steady_clock::now();
  DemoResult result;
  result.run = train(context, settings,
                     {.config_toml = to_toml(settings, true), .command_line = command, .stop = &stop.flag()}, progress);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

/// A folder that is not the demo's is left alone.
void claim_folder(const fs::path& folder) {
  if (fs::exists(folder) && !fs::is_directory(folder)) {
    throw Error(fmt::format("demo: {} is a file; choose another -o DIR", folder.string()));
  }
  if (fs::exists(folder) && !fs::is_empty(folder) && !fs::exists(folder / kMarker)) {
    throw Error(fmt::format("demo: {} holds other files; choose another -o DIR", folder.string()));
  }
  write_atomically(folder / kMarker, std::string_view("Written by `graft demo`; running it again replaces everything "
                                                      "here.\n"));
  for (const char* part : {"source", "target", "runs"}) fs::remove_all(folder / part);
}

std::string closing_text(const fs::path& folder) {
  const std::string runs = (folder / "runs").string();
  return fmt::format(
      "\nEach row is a run under {}: settings, every epoch, predictions, weights. Go on with:\n"
      "  graft predict {}/full {}/target/test/spiral/000.png\n"
      "  graft weights inspect {}/pretrained.h5\n",
      runs, runs, folder.string(), folder.string());
}

int run_demo(DemoOptions& options) {
  const TrainSettings base = options.settings.resolve();
  const fs::path folder = options.folder;
  StopLater stop;
  Session session = open_session(base);
  claim_folder(folder);
  ProgressDisplay progress(options.is_quiet, session.heading);
  progress.note(fmt::format("drawing images into {}", folder.string()));
  const auto seed = static_cast<std::uint64_t>(base.seed);
  write_demo_set(folder / "source", DemoTask::source, kSourceCounts, kSide, seed);
  write_demo_set(folder / "target", DemoTask::target, kTargetCounts, kSide, seed);

  const DemoResult source = run_step(pretraining(folder), options, base, *session.context, stop, progress);
  if (source.run.was_interrupted) return kExitInterrupted;
  const ModelFile pretrained = read_model_file(folder / "runs" / "source" / "best.h5");
  write_model_file(folder / "pretrained.h5", pretrained.info, pretrained.weights);

  TextTable table({"on the target task", "validation", "test accuracy", "macro F1", "seconds"});
  for (const DemoStep& step : contenders(folder)) {
    const DemoResult result = run_step(step, options, base, *session.context, stop, progress);
    if (result.run.was_interrupted) return kExitInterrupted;
    table.add({step.title, score_text(result.run.best_val_macro_accuracy), score_text(result.run.test.accuracy),
               score_text(result.run.test.macro_f1), fmt::format("{:.0f}", result.seconds)});
  }
  progress.note("");
  print_result(
      fmt::format("Source task: {} classes, {} images, pre-trained to validation macro accuracy {:.4f} in {:.0f} s.\n"
                  "Target task: {} other classes, {} training images, {} test images.\n\n",
                  demo_classes(DemoTask::source).size(),
                  kSourceCounts.train * std::ssize(demo_classes(DemoTask::source)), source.run.best_val_macro_accuracy,
                  source.seconds, demo_classes(DemoTask::target).size(),
                  kTargetCounts.train * std::ssize(demo_classes(DemoTask::target)),
                  kTargetCounts.test * std::ssize(demo_classes(DemoTask::target))) +
      table.text() + closing_text(folder));
  return 0;
}

}  // namespace

void add_demo_verb(Command& program) {
  Command verb = program.verb("demo", "Pre-train and fine-tune on images drawn here; no download, four minutes");
  auto options = std::make_shared<DemoOptions>();
  verb.option({.flag = "-o,--output", .group = "Files", .help = "folder for images and runs"}, options->folder);
  options->settings.add_to(verb, {"train.device", "train.threads", "train.seed"});
  verb.option({.flag = "-q,--quiet", .group = "Output", .help = "only results and errors"}, options->is_quiet);
  verb.run([options] { return run_demo(*options); });
}

}  // namespace graft
