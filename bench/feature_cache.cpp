// What keeping the output of frozen blocks is worth: whole fits of ResNet-50, validation and checkpoints included, from
// images and from kept features, in turn in one process. Prints a table for bench/results/: wall clock, and processor
// time, which other programs on the machine disturb less.
//     graft_feature_cache linear-probe|layer4 DATA MODEL.h5|random BATCH SIZE THREADS ROUNDS [DEVICE]
// In the device's own precision, as `graft train` has it.
// A fit from images is cut short, after one epoch of linear probing or some of tuning layer4; 20 epochs of linear
// probing count as 20 times that epoch. Fits from features are run in full, computing the features included. Of tuning
// layer4 the epochs after the first count, by their median: one of them on a CPU, where it takes minutes, else four,
// since the first of these shares its time with the checkpoint that is being written.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>

#include "strategies/training/fit.h"
#include "strategies/training/starting_model.h"

namespace {

using namespace graft;
namespace fs = std::filesystem;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/// The head and the last block before it; what is below is frozen with fixed statistics.
class LastBlock : public Strategy {
 public:
  EpochPlan plan(const EpochView& view) override {
    FreezePlan freeze = FreezePlan::frozen(view.parameters);
    freeze.train_block(view.parameters, view.last_block() - 1);
    freeze.train_head(view.parameters);
    return {.freeze = std::move(freeze)};
  }
};

struct Seconds {
  double wall = 0, processor = 0;
  static Seconds now() {
    const auto wall = std::chrono::steady_clock::now().time_since_epoch();
    return {std::chrono::duration<double>(wall).count(), double(std::clock()) / CLOCKS_PER_SEC};
  }
  friend Seconds operator-(const Seconds& a, const Seconds& b) { return {a.wall - b.wall, a.processor - b.processor}; }
};

class Times : public ProgressSink {
 public:
  void note(std::string_view line) override {
    if (line.find("computed once") != std::string_view::npos) kept = line;
  }
  void epoch(const EpochReport& report) override {
    const Seconds now = Seconds::now();
    epochs.push_back(now - last_);
    last_ = now;
    val_losses.push_back(report.val_loss);
  }
  std::vector<Seconds> epochs;  // the first with all that comes before it, each other with the checkpoint before it
  std::vector<double> val_losses;
  std::string kept;
  Seconds fit;

 private:
  Seconds last_ = Seconds::now();
};

struct Job {
  bool trains_last_block;
  std::int64_t epochs_from_images, epochs_from_features;
};

Times fit_once(Context& context, const Dataset& dataset, TrainSettings s, const Job& job) {
  s.epochs = s.feature_cache ? job.epochs_from_features : job.epochs_from_images;
  StartingModel model = starting_model(context, s, dataset.class_names(), dataset.is_multi_label());
  const RunDirectory directory(s.output);
  directory.prepare(RunDirectory::Existing::overwrite);
  Times times;
  SplitBatches batches({*model.network, dataset, s, transform_of(model.network->info()), directory.path()});
  std::unique_ptr<Strategy> strategy = job.trains_last_block ? std::make_unique<LastBlock>() : make_strategy(s);
  Fit fit({*model.network, dataset, s, batches, directory, nullptr}, times, std::move(strategy));
  const Seconds begin = Seconds::now();
  fit.run();
  fit.finish_saving();
  times.fit = Seconds::now() - begin;
  if (s.feature_cache == times.kept.empty())
    throw Error("bench: features were kept where they must not be, or the reverse");
  return times;
}

Seconds later_epoch(const Times& times) {
  std::vector<double> wall, processor;
  for (std::size_t i = 1; i < times.epochs.size(); ++i)
    wall.push_back(times.epochs[i].wall), processor.push_back(times.epochs[i].processor);
  return {median(wall), median(processor)};
}

struct Row {
  std::vector<double> images, features;
  void print(const char* what) const {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < images.size(); ++i) ratios.push_back(images[i] / features[i]);
    fmt::print("| {} | {:.2f} | {:.2f} | {:.1f}x | {:.1f}x to {:.1f}x |\n", what, median(images), median(features),
               median(ratios), *std::min_element(ratios.begin(), ratios.end()),
               *std::max_element(ratios.begin(), ratios.end()));
  }
};

void compare(Context& context, const Dataset& dataset, TrainSettings s, const Job& job, int rounds) {
  Row wall, processor;
  std::string kept;
  for (int round = 0; round < rounds; ++round) {
    s.feature_cache = false;
    const Times images = fit_once(context, dataset, s, job);
    s.feature_cache = true;
    const Times features = fit_once(context, dataset, s, job);
    // They train alike: after one epoch the losses agree to the activations' rounding.
    const double rounding = context.activation_type() == DType::f32 ? 1e-3 : 2e-2;
    if (std::abs(images.val_losses[0] - features.val_losses[0]) > rounding * images.val_losses[0])
      throw Error(fmt::format("bench: validation loss {} from images and {} from features", images.val_losses[0],
                              features.val_losses[0]));
    const bool whole = !job.trains_last_block;
    const Seconds a = whole ? images.epochs.back() : later_epoch(images),
                  b = whole ? features.fit : later_epoch(features);
    const double times = whole ? double(job.epochs_from_features) : 1;
    wall.images.push_back(times * a.wall), wall.features.push_back(b.wall);
    processor.images.push_back(times * a.processor), processor.features.push_back(b.processor);
    kept = features.kept;
  }
  fmt::print("{}\n\n| {} | from images, s | from features, s | ratio | per round |\n|---|---|---|---|---|\n", kept,
             job.trains_last_block ? "one epoch of tuning layer4 and the head" : "20 epochs of linear probing");
  wall.print("wall clock");
  processor.print("processor time");
}

void run(char** argument, const Device& device) {
  const std::string job = argument[1];
  if (job != "linear-probe" && job != "layer4") throw Error("feature_cache: no job '" + job + "'");
  const int threads = std::atoi(argument[6]), rounds = std::atoi(argument[7]);
  TrainSettings s;
  s.data = argument[2];
  s.weights = argument[3];
  s.from_scratch = s.weights == "random";
  if (s.from_scratch) s.weights.clear();
  s.batch = std::atoll(argument[4]);
  s.size = std::atoll(argument[5]);
  s.threads = threads;
  s.strategy = "linear-probe";
  s.lr = 1e-3, s.patience = 0;
  s.output = (fs::temp_directory_path() / fmt::format("graft-feature-cache-{}", ::getpid())).string();
  Context context(make_backend(device, {.threads = threads, .precision = precision_on(s, device)}));
  const Dataset dataset = Dataset::open({.path = s.data, .val_fraction = s.val_fraction, .threads = threads});
  fmt::print("ResNet-50, {} training and {} validation images, batch {}, {} px, {}, {} rounds in turn\n",
             dataset.indices(Split::train).size(), dataset.indices(Split::val).size(), s.batch, s.size,
             context.backend().description(), rounds);
  const auto remove = [&] {
    std::error_code ignored;
    fs::remove_all(s.output, ignored);
  };
  try {
    const std::int64_t epochs = device.kind == DeviceKind::cuda ? 5 : 2;
    compare(context, dataset, s, job == "layer4" ? Job{true, epochs, epochs} : Job{false, 1, 20}, rounds);
  } catch (...) {
    remove();
    throw;
  }
  remove();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 8 && argc != 9)
      throw graft::Error("feature_cache: needs JOB DATA MODEL.h5|random BATCH SIZE THREADS ROUNDS [DEVICE]");
    run(argv, graft::parse_device(argc == 9 ? argv[8] : "cpu"));
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
