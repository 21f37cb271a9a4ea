#include "strategies/study/estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "data/dataset.h"
#include "strategies/training/checkpoint_writer.h"

namespace graft {
namespace {

constexpr double kFeatureBytesPerSecond = 1e9;  // written, or read and checked
constexpr double kShareOfBest = 0.5;            // epochs after the first that are better than all before

/// Share of so many images that a run need not decode again for its first epoch.
double known_share(const TrainSettings& s, const DatasetRates& data, std::int64_t images) {
  const double room = double(s.image_cache_mb << 20) / 2;  // as open_dataset has it
  return std::min(1.0, room / std::max(1.0, double(data.decoded_bytes) * double(images)));
}

/// Seconds for checkpoints: after the first epoch, after each that is kCheckpointSeconds later, and at the end.
double saving_seconds(std::int64_t epochs, double seconds, double best_seconds, double last_seconds) {
  if (epochs == 0) return last_seconds;
  const double more = double(epochs - 1), each = seconds / double(epochs);
  const double saves = 1 + std::min(more, more * std::min(1.0, each / kCheckpointSeconds) + 1);
  return std::min(saves, 1 + more * kShareOfBest) * best_seconds + saves * last_seconds;
}

class Estimate {
 public:
  Estimate(const StudySpec& spec, const StudyRates& rates, std::int64_t jobs) : spec_(spec), rates_(rates) {
    all_.jobs = jobs;
  }
  StudyEstimate make();

 private:
  struct Course {
    TrainSettings settings;
    std::vector<Stage> stages;
    std::int64_t epochs = 0;
  };
  Course course_of(const StudyTask& task);
  TaskSeconds seconds_of(const StudyTask& task, const Course& course, std::int64_t epochs, bool shares);
  double features(const StudyTask& task, const Course& course, const StageRates& stage, bool shares);
  void count_shared(const StudyCell& cell, std::int64_t bytes);
  void add(const StudyTask& task);
  void count_bytes(const StudyTask& task, const Course& course, KindEstimate& kind);
  KindEstimate& estimate_for(const StudyTask& task);
  const std::array<std::int64_t, 3>& images(const StudyTask& task) const {
    return rates_.counts.at({task.cell.dataset, task.cell.fold});
  }

  const StudySpec& spec_;
  const StudyRates& rates_;
  StudyEstimate all_;
  std::set<std::string> shared_;  // features that a task before has computed
  std::map<std::string, Course> courses_;
  double longest_ = 0;
};

Estimate::Course Estimate::course_of(const StudyTask& task) {
  const std::string key = fmt::format("{} {} {} {} {}", task.cell.network, task.cell.strategy, task.trial.has_value(),
                                      task.cell.dataset, task.cell.fold);
  if (const auto found = courses_.find(key); found != courses_.end()) return found->second;
  const StudyDirectory nowhere("study");
  const std::int64_t n = images(task)[std::size_t(Split::train)];
  Course course;
  course.settings =
      task.trial ? trial_settings(spec_, nowhere, *task.trial, n) : cell_settings(spec_, nowhere, task.cell, 0);
  course.stages = stages_of_model(course.settings, model_of(spec_, task.cell, 2));
  course.epochs = course.settings.epochs;
  const TrainSettings& s = course.settings;
  const std::int64_t updates = std::max<std::int64_t>(1, (n + s.batch * s.accumulate - 1) / (s.batch * s.accumulate));
  if (s.max_steps >= 0) course.epochs = std::min(course.epochs, (s.max_steps + updates - 1) / updates);
  return courses_[key] = course;
}

/// Computing them, or reading what another training has computed; also telling which file is theirs, by all pixels.
double Estimate::features(const StudyTask& task, const Course& course, const StageRates& stage, bool shares) {
  const DatasetRates& data = rates_.datasets.at(task.cell.dataset);
  const auto [train, val, test] = this->images(task);
  const std::int64_t images = train + val;
  const std::string key = fmt::format("{}/{}/{}/{}/{}", task.cell.network, task.cell.dataset, task.cell.fold,
                                      stage.feature_parts, course.settings.precision);
  const bool is_known = shares ? !shared_.insert(key).second : shared_.contains(key);
  const double n = double(images), bytes = n * double(stage.feature_bytes) / kFeatureBytesPerSecond;
  if (shares && !is_known) count_shared(task.cell, images * stage.feature_bytes);
  const double again = 1 - known_share(course.settings, data, images + test);
  return again * n * data.open_seconds + bytes + (is_known ? 0 : n * (stage.feature_seconds + data.load_seconds));
}

void Estimate::count_shared(const StudyCell& cell, std::int64_t bytes) {
  auto found = std::ranges::find_if(
      all_.shared, [&](const SharedFeatures& s) { return s.network == cell.network && s.dataset == cell.dataset; });
  if (found == all_.shared.end()) found = all_.shared.insert(found, {cell.network, cell.dataset});
  ++found->files, found->bytes += bytes;
  all_.disk_bytes += bytes;
}

TaskSeconds Estimate::seconds_of(const StudyTask& task, const Course& course, std::int64_t epochs, bool shares) {
  const TrainSettings& s = course.settings;
  const NetworkRates& network = rates_.networks.at(task.cell.network);
  const DatasetRates& data = rates_.datasets.at(task.cell.dataset);
  const std::vector<StageRates>& stages = rates_.tasks.at({task.cell.network, task.cell.strategy}).stages;
  const auto [train, val, test_images] = images(task);
  const std::int64_t test = task.trial ? 0 : test_images;
  TaskSeconds t;
  t.start = network.start_seconds + double(train + val + test) * data.open_seconds;

  const double kept = double(s.image_cache_mb << 20) / std::max(1.0, double(data.image_bytes) * double(train + val));
  const double reread = std::clamp(1 - kept, 0.0, 1.0);  // share of images that every epoch decodes
  const double update = double(s.batch * s.accumulate);
  bool was_read = false;
  bool ends_with_features = false;
  double last_seconds = 0;  // mean over epochs
  for (std::size_t i = 0; i < course.stages.size(); ++i) {
    const std::int64_t first = course.stages[i].first_epoch,
                       count = std::min(course.stages[i].last_epoch + 1, epochs) - first;
    if (count <= 0) break;
    const StageRates& stage = stages[std::min(i, stages.size() - 1)];
    ends_with_features = stage.keeps_features;
    t.training += stage.begin_seconds;
    if (stage.keeps_features) t.features += features(task, course, stage, shares);
    const double full = std::floor(double(train) / update), rest = double(train) - full * update;
    double steps = full * stage.step_seconds;
    if (rest > 0) steps += stage.update_seconds + (stage.step_seconds - stage.update_seconds) * rest / update;
    const double observed = std::min(double(train), double(stage.observed_batches * s.batch)) * stage.observe_seconds;
    t.training += double(count) * (steps + observed);
    t.validation += double(count * val) * stage.validation_seconds;
    if (!stage.keeps_features) {
      const double passes = (was_read ? 0 : 1) + (double(count) - (was_read ? 0 : 1)) * reread;
      const double known = was_read ? 0 : known_share(s, data, train + val + test) * data.open_seconds;
      const double seconds = passes * data.load_seconds - std::min(known, data.load_seconds);
      const double decoding = double(train) * seconds, validating = double(val) * seconds;
      // A GPU computes meanwhile.
      t.training += rates_.device_waits ? decoding : std::max(0.0, decoding - steps * double(count));
      t.validation += validating;
      was_read = true;
    }
    last_seconds += double(count) * stage.last_seconds / double(epochs);
  }
  t.saving = saving_seconds(epochs, t.training + t.validation, network.best_seconds, last_seconds);
  t.test = double(test) * (network.test_seconds + data.load_seconds) +
           double(val) * (ends_with_features ? 0 : network.test_seconds);
  return t;
}

KindEstimate& Estimate::estimate_for(const StudyTask& task) {
  const std::string name = kind_of(task);
  const auto found = std::ranges::find(all_.kinds, name, &KindEstimate::kind);
  if (found != all_.kinds.end()) return *found;
  all_.kinds.push_back({.kind = name});
  return all_.kinds.back();
}

void Estimate::count_bytes(const StudyTask& task, const Course& course, KindEstimate& kind) {
  const NetworkRates& network = rates_.networks.at(task.cell.network);
  const TaskRates& rates = rates_.tasks.at({task.cell.network, task.cell.strategy});
  const DatasetRates& data = rates_.datasets.at(task.cell.dataset);
  const auto [train, val, test] = images(task);
  constexpr std::int64_t kProgram = 200 << 20, kLineOfText = 120, kLogs = 20'000;
  const std::int64_t cache = course.settings.image_cache_mb << 20;  // and what open_dataset keeps, half as much
  const std::int64_t decoded = std::min(cache, (train + val) * data.image_bytes) +
                               std::min(cache / 2, (train + val + test) * data.decoded_bytes);
  kind.memory_bytes = rates.memory_bytes + decoded + kProgram;
  const std::int64_t text = kLogs + (train + 2 * val + 2 * test) * kLineOfText;
  kind.disk_bytes = text + (task.trial ? 0 : network.best_bytes);
  std::int64_t last = 0;
  for (const StageRates& stage : rates.stages) last = std::max(last, stage.last_bytes);
  // While they are written those before are still there.
  all_.disk_peak_bytes = std::max(all_.disk_peak_bytes, all_.jobs * 2 * (last + network.best_bytes));
}

void Estimate::add(const StudyTask& task) {
  const Course course = course_of(task);
  KindEstimate& kind = estimate_for(task);
  const TaskSeconds once = seconds_of(task, course, course.epochs, true);
  kind.each = seconds_of(task, course, course.epochs, false);
  std::int64_t fewest = course.epochs;
  if (course.settings.patience > 0)
    fewest =
        std::min(fewest, course.stages.back().first_epoch + std::max<std::int64_t>(1, course.settings.patience) + 1);
  kind.shortest = seconds_of(task, course, fewest, false);
  if (kind.tasks == 0) count_bytes(task, course, kind);
  ++kind.tasks;
  kind.epochs = course.epochs;
  kind.seconds += once.total();
  all_.seconds += once.total();
  all_.shortest_seconds += once.total() - kind.each.total() + kind.shortest.total();
  all_.disk_bytes += kind.disk_bytes;
  longest_ = std::max(longest_, once.total());
}

StudyEstimate Estimate::make() {
  for (const StudyTask& task : tasks_of(spec_)) add(task);
  for (const KindEstimate& kind : all_.kinds)
    all_.memory_bytes = std::max(all_.memory_bytes, all_.jobs * kind.memory_bytes);
  all_.disk_peak_bytes += all_.disk_bytes;
  all_.seconds = std::max(longest_, all_.seconds / double(all_.jobs));
  all_.shortest_seconds = std::min(all_.seconds, all_.shortest_seconds / double(all_.jobs));
  return std::move(all_);
}

}  // namespace

StudyEstimate estimate_study(const StudySpec& spec, const StudyRates& rates, std::int64_t jobs) {
  return Estimate(spec, rates, jobs).make();
}

}  // namespace graft
