#include "apps/demo_runs.h"

#include <fmt/format.h>

#include <chrono>

#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "data/files.h"
#include "data/model_file.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
constexpr const char* kMarker = "about.txt";

DemoStep pretraining(const fs::path& folder) {
  return {"source",
          "pre-training on the source task",
          {{"train.data", folder / "source"},
           {"train.from_scratch", "true"},
           {"train.size", "64"},
           {"train.epochs", "4"},
           {"train.batch", "8"},
           {"train.lr", "0.0005"}}};
}

std::vector<DemoStep> contenders(const fs::path& folder) {
  const std::pair<std::string, std::string> data{"train.data", folder / "target"};
  const std::pair<std::string, std::string> weights{"train.weights", folder / "pretrained.h5"};
  return {{"linear-probe",
           "linear probe of the pre-trained network",
           {data,
            weights,
            {"strategy.name", "linear-probe"},
            {"train.epochs", "20"},
            {"train.batch", "8"},
            {"train.lr", "0.003"}}},
          {"full",
           "full fine-tuning of the pre-trained network",
           {data,
            weights,
            {"strategy.name", "full"},
            {"train.epochs", "12"},
            {"train.batch", "8"},
            {"train.lr", "0.0001"}}},
          {"scratch",
           "training from scratch",
           {data,
            {"train.from_scratch", "true"},
            {"train.size", "64"},
            {"train.epochs", "12"},
            {"train.batch", "8"},
            {"train.lr", "0.0005"}}}};
}

std::string command_of(const DemoStep& step, const TrainSettings& settings) {
  std::string flags;
  for (const auto& [key, value] : step.keys) {
    for (const Setting<TrainSettings>& setting : settings_table()) {
      if (setting.key != key || key == "train.data") continue;
      flags += setting.flag.empty() ? fmt::format(" --set {}={}", key, value)
               : value == "true"    ? fmt::format(" {}", setting.flag)
                                    : fmt::format(" {} {}", setting.flag, value);
    }
  }
  if (settings.seed != 0) flags += fmt::format(" --seed {}", settings.seed);
  return fmt::format("graft train {}{} --patience 0 --allow-leaks near-duplicates -o {}", settings.data, flags, settings.output);
}

DemoResult run_step(DemoStep step, const fs::path& folder, TrainSettings settings, Context& context,
                    const std::atomic<bool>& stop, ProgressSink& progress) {
  settings.output = folder / "runs" / step.name;
  settings.patience = 0;
  settings.allow_leaks = "near-duplicates";  // drawn patterns are others of their class, turned and enlarged
  for (const auto& [key, value] : step.keys) set_by_key(settings, key, value);
  const std::string command = command_of(step, settings);
  progress.note(fmt::format("\n{}\n$ {}", emphasised(step.title, Emphasis::bold, stderr), command));
  const auto start = std::chrono::steady_clock::now();
  DemoResult result{.step = std::move(step)};
  result.run = train(context, settings,
                     {.config_toml = to_toml(settings, true), .command_line = command, .stop = &stop}, progress);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace

void claim_demo_folder(const fs::path& folder) {
  if (fs::exists(folder) && !fs::is_directory(folder)) {
    throw Error(fmt::format("demo: {} is a file; choose another -o DIR", folder.string()));
  }
  if (fs::exists(folder) && !fs::is_empty(folder) && !fs::exists(folder / kMarker)) {
    throw Error(fmt::format("demo: {} holds other files; choose another -o DIR", folder.string()));
  }
  write_atomically(folder / kMarker, std::string_view("Written by `graft demo`, which replaces source/, target/, "
                                                      "runs/ and pretrained.h5 when it runs again.\n"));
  for (const char* part : {"source", "target", "runs"}) fs::remove_all(folder / part);
}

void draw_demo_images(const fs::path& folder, const TrainSettings& base) {
  const auto seed = static_cast<std::uint64_t>(base.seed);
  write_demo_set(folder / "source", DemoTask::source, kDemoSource, kDemoSide, seed);
  write_demo_set(folder / "target", DemoTask::target, kDemoTarget, kDemoSide, seed);
}

DemoReport run_demo_steps(const fs::path& folder, const TrainSettings& base, Context& context,
                          const std::atomic<bool>& stop, ProgressSink& progress) {
  progress.note(fmt::format("drawing images into {}", folder.string()));
  draw_demo_images(folder, base);
  DemoReport report{.source = run_step(pretraining(folder), folder, base, context, stop, progress)};
  report.was_interrupted = report.source.run.was_interrupted;
  if (report.was_interrupted) return report;
  // The model alone, without the checkpoint that the run's file carries.
  const ModelFile pretrained = read_model_file(folder / "runs" / "source" / "best.h5");
  write_model_file(folder / "pretrained.h5", pretrained.info, pretrained.weights);
  for (DemoStep& step : contenders(folder)) {
    report.target.push_back(run_step(std::move(step), folder, base, context, stop, progress));
    report.was_interrupted = report.target.back().run.was_interrupted;
    if (report.was_interrupted) break;
  }
  return report;
}

}  // namespace graft
