// The experiment of `graft demo`: two image sets, one pre-training on the first, and a study of the eight strategies on
// the second. The pre-training is a list of settings from which both the run and the command line that repeats it are
// made; the study is a file that `graft study` reads. Printing is demo.cpp's.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "apps/demo_images.h"
#include "strategies/training/train.h"

namespace graft {

// Sizes and the rate of the pre-training were chosen on validation images of seed 7; the demo runs with seed 0. The
// rates of the study in demo_runs.cpp are usual ones, not tuned: graft study can do that.
inline constexpr std::int64_t kDemoSide = 73;  // pixels; the network sees the 64 in the middle
inline constexpr DemoCounts kDemoSource{.train = 96, .val = 12};
inline constexpr DemoCounts kDemoTarget{.train = 16, .val = 12, .test = 40};

/// One training: settings by key, as texts.
struct DemoStep {
  std::string name, title;
  std::vector<std::pair<std::string, std::string>> keys;
};

struct DemoResult {
  DemoStep step;
  RunResult run;
  double seconds = 0;
};

/// A folder that is marked as the demo's, is cleared of earlier sets, runs and studies, and belongs to this process,
/// and to the trainings that it starts, as long as this lives or they run.
class DemoFolder {
 public:
  /// Errors: it is a file, or holds something else than a demo, or a demo or its study runs there; nothing is changed.
  /// It cannot be written. UsageError: it has no name.
  explicit DemoFolder(const std::filesystem::path& folder);
  ~DemoFolder();
  DemoFolder(const DemoFolder&) = delete;
  DemoFolder& operator=(const DemoFolder&) = delete;

 private:
  int marker_ = -1;  // open and locked
};

/// Writes folder/source and folder/target; `base` brings the seed. Errors: they cannot be written.
void draw_demo_images(const std::filesystem::path& folder, const TrainSettings& base);

/// Trains on folder/source and writes the model to folder/pretrained.h5; `base` brings device, threads and seed.
DemoResult pretrain(const std::filesystem::path& folder, const TrainSettings& base, Context& context,
                    const std::atomic<bool>& stop, ProgressSink& progress);

/// The study of the target task, as the text of folder/study.toml.
std::string demo_study(const TrainSettings& base);

}  // namespace graft
