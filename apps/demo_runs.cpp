#include "apps/demo_runs.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "data/files.h"
#include "data/model_file.h"
#include "strategies/seconds.h"
#include "strategies/study/directory.h"
#include "strategies/study/lock.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
constexpr const char* kMarker = "about.txt";
constexpr std::string_view kMarkerBegin = "Written by `graft demo`",
                           kMarkerRest =
                               ", which replaces source/, target/, runs/, study/, study.toml and "
                               "pretrained.h5 when it runs again.\n";
/// A drawn pattern is another one of its class, turned, enlarged and lit in another way.
constexpr const char* kDrawnLeaks = "near-duplicates";

DemoStep pretraining(const fs::path& folder) {
  return {"source",
          "pre-training on the source task",
          {{"train.data", folder / "source"},
           {"train.from_scratch", "true"},
           {"train.size", "64"},
           {"train.allow_leaks", kDrawnLeaks},
           {"train.epochs", "4"},
           {"train.batch", "8"},
           {"train.lr", "0.0005"}}};
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
  return fmt::format("graft train {}{} --patience 0 -o {}", settings.data, flags, settings.output);
}

DemoResult run_step(DemoStep step, const fs::path& folder, TrainSettings settings, Context& context,
                    const std::atomic<bool>& stop, ProgressSink& progress) {
  settings.output = folder / "runs" / step.name;
  settings.patience = 0;
  for (const auto& [key, value] : step.keys) set_by_key(settings, key, value);
  const std::string command = command_of(step, settings);
  progress.note(fmt::format("\n{}\n$ {}", emphasised(step.title, Emphasis::bold, stderr), command));
  const auto start = std::chrono::steady_clock::now();
  DemoResult result{.step = std::move(step)};
  result.run = train(context, settings,
                     {.config_toml = to_toml(settings, true), .command_line = command, .stop = &stop}, progress);
  result.seconds = seconds_since(start);
  return result;
}

/// A demo wrote the folder's about.txt.
bool is_demo(const fs::path& folder) {
  const fs::path marker = folder / kMarker;
  return fs::is_regular_file(marker) && read_text(marker).starts_with(kMarkerBegin);
}

/// Opens and locks about.txt, and writes it where it is not there yet. Not by another file's new name as elsewhere: the
/// lock is the file's that others find.
int lock_marker(const fs::path& folder) {
  const fs::path path = folder / kMarker;
  const auto fail = [&](const char* what) {
    throw Error(fmt::format("demo: cannot {} {}: {}; choose another -o DIR", what, path.string(), strerror(errno)));
  };
  // Inherited by the study's trainings: where the demo is killed, they still write their checkpoints.
  const int file = open(path.c_str(), O_RDWR | O_CREAT, 0666);
  if (file < 0) fail("write");
  if (flock(file, LOCK_EX | LOCK_NB) != 0) {
    const bool is_held = errno == EWOULDBLOCK;
    close(file);
    if (!is_held) fail("lock");
    throw Error(
        fmt::format("demo: a graft demo runs in {} now; wait for it, or choose another -o DIR", folder.string()));
  }
  const std::string text = std::string(kMarkerBegin) + std::string(kMarkerRest);
  if (lseek(file, 0, SEEK_END) == 0 && pwrite(file, text.data(), text.size(), 0) != ssize_t(text.size())) {
    const int reason = errno;
    unlink(path.c_str());
    close(file);
    errno = reason;
    fail("write");
  }
  return file;
}

}  // namespace

DemoFolder::DemoFolder(const fs::path& folder) {
  if (folder.empty()) throw UsageError("demo: -o names no folder; choose one, such as -o graft-demo");
  if (fs::exists(folder) && !fs::is_directory(folder))
    throw Error(fmt::format("demo: {} is a file; choose another -o DIR", folder.string()));
  if (fs::exists(folder) && !fs::is_empty(folder) && !is_demo(folder))
    throw Error(fmt::format("demo: {} holds other files than a graft demo's; choose another -o DIR", folder.string()));
  if (is_held(StudyDirectory(folder / "study").lock()))
    throw Error(fmt::format("demo: the study in {} is being run; wait for it, or choose another -o DIR",
                            (folder / "study").string()));
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw Error(fmt::format("demo: cannot create {}: {}; choose another -o DIR", folder.string(), error.message()));
  marker_ = lock_marker(folder);
  for (const char* part : {"source", "target", "runs", "study", "study.toml", "pretrained.h5"})
    fs::remove_all(folder / part);
}

DemoFolder::~DemoFolder() { close(marker_); }

void draw_demo_images(const fs::path& folder, const TrainSettings& base) {
  const auto seed = static_cast<std::uint64_t>(base.seed);
  write_demo_set(folder / "source", DemoTask::source, kDemoSource, kDemoSide, seed);
  write_demo_set(folder / "target", DemoTask::target, kDemoTarget, kDemoSide, seed);
}

DemoResult pretrain(const fs::path& folder, const TrainSettings& base, Context& context, const std::atomic<bool>& stop,
                    ProgressSink& progress) {
  DemoResult result = run_step(pretraining(folder), folder, base, context, stop, progress);
  if (result.run.was_interrupted) return result;
  // The model alone, without the checkpoint that the run's file carries.
  const ModelFile pretrained = read_model_file(folder / "runs" / "source" / "best.h5");
  write_model_file(folder / "pretrained.h5", pretrained.info, pretrained.weights);
  return result;
}

std::string demo_study(const TrainSettings& base) {
  return fmt::format(R"(# A study on drawn images, written by `graft demo`. docs/study.md explains every key.
[study]
title = "Eight strategies on drawn patterns"
networks = ["resnet50"]
strategies = ["full", "linear-probe", "gradual-last-first", "gradual-first-last", "lp-ft", "l1-sp", "l2-sp", "auto-rgn"]
seeds = [{}]

[study.weights]
resnet50 = "pretrained.h5"

[study.datasets]   # a drawn pattern is another one of its class, turned and enlarged: near-duplicates on purpose
patterns = {{ path = "target", allow = ["{}"] }}

[train]
device = "{}"
epochs = 8
batch = 8
patience = 0
lr = 1e-4

[strategy.linear-probe]
lr = 3e-3
[strategy.gradual-last-first]
lr = 3e-4
[strategy.gradual-first-last]
lr = 3e-4
[strategy.lp-ft]
lr = 2e-3
[strategy.auto-rgn]
lr = 1e-3
)",
                     base.seed, kDrawnLeaks, base.device);
}

}  // namespace graft
