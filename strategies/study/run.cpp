#include "strategies/study/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "data/files.h"
#include "strategies/exit_codes.h"
#include "strategies/seconds.h"
#include "strategies/study/child_process.h"
#include "strategies/study/probe.h"
#include "strategies/study/state.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::uintmax_t kLeastSpace = 1 << 30;  // that a disk has which is not called full

enum class Progress { waiting, running, finished, failed };

struct Entry {
  StudyTask task;
  Progress progress = Progress::waiting;
  std::string error = {};
  std::ptrdiff_t probe = -1;  // the entry whose result may be its first stage
  bool refuses_probe = false;
  bool awaits_rate = false;  // has a result, of a rate that trials still to run may change
};

struct Running {
  std::size_t entry = 0, slot = 0;
  std::uintmax_t log_begin = 0;
  ChildProcess process;
  Clock::time_point begin;
};

std::uintmax_t size_of_log(const fs::path& log) {
  std::error_code none;
  const std::uintmax_t size = fs::file_size(log, none);
  return none ? 0 : size;
}

/// The line of an error, as the program prints it last. Earlier attempts have written the first `begin` bytes.
std::string error_in(const fs::path& log, std::uintmax_t begin) {
  constexpr std::string_view kMark = "graft: error: ";
  const std::string text = read_text(log);
  std::istringstream lines(text.substr(std::min<std::uintmax_t>(begin, text.size())));
  std::string line, found;
  while (std::getline(lines, line))
    if (line.starts_with(kMark)) found = line.substr(kMark.size());
  return found;
}

class Runner {
 public:
  Runner(const StudyRunSpec& spec, StudyProgress& progress, std::vector<StudyTask> tasks)
      : spec_(spec),
        progress_(progress),
        counts_(split_counts(spec.spec, spec.directory)),
        slots_(std::size_t(spec.jobs)) {
    for (StudyTask& task : tasks) entries_.push_back({std::move(task)});
    find_probes();
    find_finished();
    read_plan();
  }
  StudyOutcome run();

 private:
  fs::path folder(const Entry& entry) const { return folder_of(spec_.directory, entry.task); }
  bool is_stopping() const { return spec_.stop && *spec_.stop; }
  void find_probes();
  void find_finished();
  /// One that is to run before the cell; end(): none.
  std::vector<Entry>::iterator unfinished_trial(const Entry& cell);
  bool keeps_result(Entry& entry);
  /// The probe's folder, if the entry can start from it; empty: it starts by itself.
  fs::path probe_folder(const Entry& entry) const;
  bool waits_for_probe(const Entry& entry) const;
  bool is_wanted_as_probe(const Entry& entry) const;
  void tidy(const Entry& entry) const;
  /// Counts it as finished and removes what nobody needs any more of it and of its probe.
  void finish(Entry& entry);
  void read_plan();
  bool start_next();
  bool repeats_features(const Entry& entry) const;
  bool may_start(Entry& entry);
  void start(std::size_t index);
  ChildSpec command(const Entry& entry, std::size_t slot) const;
  bool poll();
  void take_end(const Running& run, const ChildProcess::End& end);
  void fail(Entry& entry, const std::string& error);
  double expected_seconds(const Entry& entry) const;
  StudyTally tally() const;

  const StudyRunSpec& spec_;
  StudyProgress& progress_;
  SplitCounts counts_;
  std::vector<Entry> entries_;
  std::vector<char> slots_;  // taken
  std::vector<Running> running_;
  std::map<std::string, std::pair<double, std::int64_t>> measured_;  // kind -> seconds, tasks
  std::map<std::string, double> planned_;                            // kind -> seconds
  bool disk_is_full_ = false, has_stopped_ = false;
};

void Runner::find_finished() {
  for (Entry& entry : entries_) {
    const TaskState state = read_state(folder(entry));
    const bool is_tried = entry.task.trial && state.diverged;  // the same rate would diverge again
    if (state.state != CellState::finished && !is_tried) continue;
    entry.progress = Progress::finished;
  }
  const bool is_alone = entries_.size() == 1;  // its trials may have run since anybody looked
  for (Entry& entry : entries_) {
    if (entry.progress != Progress::finished) continue;
    entry.awaits_rate = is_alone || unfinished_trial(entry) != entries_.end();
    if (entry.awaits_rate) entry.progress = Progress::waiting;
  }
  for (const Entry& entry : entries_)
    if (entry.progress == Progress::finished) tidy(entry);
}

std::vector<Entry>::iterator Runner::unfinished_trial(const Entry& cell) {
  if (cell.task.trial) return entries_.end();
  const std::vector<StudyTrial> trials = trials_of(spec_.spec, cell.task.cell);
  return std::ranges::find_if(entries_, [&](const Entry& e) {
    return e.task.trial && e.progress != Progress::finished &&
           std::ranges::any_of(trials, [&](const StudyTrial& trial) { return trial.id() == e.task.id(); });
  });
}

void Runner::find_probes() {
  for (Entry& entry : entries_) {
    if (entry.task.trial) continue;
    const std::optional<StudyCell> probe = probe_for(spec_.spec, spec_.directory, entry.task.cell, spec_.to_toml);
    if (!probe) continue;
    const auto found =
        std::ranges::find_if(entries_, [&](const Entry& e) { return !e.task.trial && e.task.cell == *probe; });
    if (found != entries_.end()) entry.probe = found - entries_.begin();
  }
}

fs::path Runner::probe_folder(const Entry& entry) const {
  if (entry.probe < 0 || entry.refuses_probe) return {};
  const Entry& probe = entries_[std::size_t(entry.probe)];
  if (probe.progress != Progress::finished || !has_probe_stage(folder(probe))) return {};
  const auto rate = [&](const Entry& e) { return rate_of(spec_.spec, spec_.directory, e.task.cell); };
  return rate(entry) == rate(probe) ? folder(probe) : fs::path();
}

/// It is still to finish, and has the same rate or none yet.
bool Runner::waits_for_probe(const Entry& entry) const {
  if (entry.probe < 0 || entry.awaits_rate || fs::exists(folder(entry) / "last.h5")) return false;
  const Entry& probe = entries_[std::size_t(entry.probe)];
  if (probe.progress != Progress::waiting && probe.progress != Progress::running) return false;
  const double rate = rate_of(spec_.spec, spec_.directory, probe.task.cell);
  return rate == 0 || rate == rate_of(spec_.spec, spec_.directory, entry.task.cell);
}

bool Runner::is_wanted_as_probe(const Entry& entry) const {
  return std::ranges::any_of(entries_, [&](const Entry& e) {
    return e.probe >= 0 && &entries_[std::size_t(e.probe)] == &entry && e.progress != Progress::finished;
  });
}

void Runner::finish(Entry& entry) {
  entry.progress = Progress::finished;
  tidy(entry);
  if (entry.probe >= 0 && entries_[std::size_t(entry.probe)].progress == Progress::finished)
    tidy(entries_[std::size_t(entry.probe)]);
}

/// Removes what a finished task does not need any more. Trials keep no weights.
void Runner::tidy(const Entry& entry) const {
  std::error_code error;
  const fs::path where = folder(entry);
  if (!is_wanted_as_probe(entry)) fs::remove(where / "last.h5", error);
  if (!entry.task.trial) return;
  fs::remove(where / "best.h5", error);
  fs::remove(where / "internals.h5", error);
}

/// Seconds by kind, if `graft study plan` has left them.
void Runner::read_plan() {
  if (!fs::exists(spec_.directory.plan())) return;
  const auto plan = nlohmann::json::parse(read_text(spec_.directory.plan()), nullptr, false);
  if (!plan.is_object() || !plan.contains("tasks")) return;
  for (const auto& task : plan["tasks"])
    if (task.is_object() && task.contains("kind") && task.contains("seconds"))
      planned_[task["kind"].get<std::string>()] = task["seconds"].get<double>();
}

StudyOutcome Runner::run() {
  using namespace std::chrono_literals;
  Clock::time_point ticked = Clock::now();
  while (true) {
    while (!is_stopping() && !disk_is_full_ && running_.size() < slots_.size() && start_next()) {
    }
    if (running_.empty()) break;
    if (is_stopping() && !has_stopped_) {
      for (Running& run : running_) run.process.terminate();
      has_stopped_ = true;
    }
    if (!poll()) std::this_thread::sleep_for(20ms);
    if (Clock::now() - ticked > 1s) progress_.tick(tally()), ticked = Clock::now();
  }
  StudyOutcome outcome{
      .tally = tally(), .failures = {}, .was_interrupted = is_stopping(), .disk_is_full = disk_is_full_};
  for (const Entry& entry : entries_)
    if (entry.progress == Progress::failed) outcome.failures.push_back({entry.task.id(), entry.error});
  return outcome;
}

/// False: nothing can be started now. What would compute features that another task is about to share comes last.
bool Runner::start_next() {
  for (const bool takes_all : {false, true})
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      Entry& entry = entries_[i];
      if (entry.progress != Progress::waiting || (!takes_all && repeats_features(entry)) || !may_start(entry)) continue;
      start(i);
      return true;
    }
  return false;
}

/// Whether a first task that freezes blocks of the same network, for the same images, is at work.
bool Runner::repeats_features(const Entry& entry) const {
  const auto freezes = [&](const Entry& e) {
    const std::string& name = strategy_of(spec_.spec, e.task.cell.strategy).strategy;
    return name == "linear-probe" || name == "lp-ft" || name.starts_with("gradual-");
  };
  const auto shares = [&](const Entry& e) {
    const StudyCell &a = e.task.cell, &b = entry.task.cell;
    return freezes(e) && a.network == b.network && a.dataset == b.dataset && a.fold == b.fold;
  };
  const auto any = [&](Progress progress) {
    return std::ranges::any_of(entries_, [&](const Entry& e) { return e.progress == progress && shares(e); });
  };
  return freezes(entry) && any(Progress::running) && !any(Progress::finished);
}

/// A cell waits for its trials; if one failed, or none has a score, it fails with them.
bool Runner::may_start(Entry& entry) {
  if (entry.task.trial) return true;
  if (const auto trial = unfinished_trial(entry); trial != entries_.end()) {
    if (trial->progress != Progress::failed) return false;
    if (entry.awaits_rate)
      finish(entry);  // what it has stays
    else
      fail(entry, fmt::format("{} failed", trial->task.id()));
    return false;
  }
  if (rate_of(spec_.spec, spec_.directory, entry.task.cell) > 0) return !waits_for_probe(entry);
  const auto trials = trials_of(spec_.spec, entry.task.cell);
  const bool have_diverged = std::ranges::all_of(
      trials, [&](const StudyTrial& trial) { return read_trial(spec_.spec, spec_.directory, trial).diverged; });
  fail(entry, have_diverged
                  ? "its trials gave no rate: none kept a finite loss; lower tuning.lr"
                  : fmt::format("its trials gave no rate: study.selection is {}, which their validation images "
                                "leave undefined (are they of one class?); choose another",
                                spec_.spec.selection));
  return false;
}

ChildSpec Runner::command(const Entry& entry, std::size_t slot) const {
  TrainSettings s = task_settings(spec_.spec, spec_.directory, entry.task, counts_);
  if (s.threads == 0) s.threads = spec_.threads;
  const fs::path run = folder(entry);
  // What goes on keeps its own configuration: other threads would round otherwise. Places may have moved.
  if (!fs::exists(run / "last.h5")) write_atomically(run / "config.toml", spec_.to_toml(s));
  std::vector<std::string> arguments{"train", "--resume",
                                     "-o",    run.string(),
                                     "--set", "train.data=" + s.data,
                                     "--set", "train.feature_cache_dir=" + s.feature_cache_dir};
  if (const fs::path probe = probe_folder(entry); !probe.empty() && !fs::exists(run / "last.h5"))
    arguments.insert(arguments.end(), {"--probe-from", probe.string()});
  if (!s.weights.empty()) arguments.insert(arguments.end(), {"--weights", s.weights});
  if (!spec_.devices.empty())
    arguments.insert(arguments.end(), {"--device", spec_.devices[slot % spec_.devices.size()]});
  return {.program = spec_.program, .arguments = std::move(arguments), .log = run / "log.txt"};
}

/// Whether nothing is to run, since its trials chose again what they had chosen. Errors: begun with other settings.
bool Runner::keeps_result(Entry& entry) {
  const std::string changed = changed_setting(spec_.spec, spec_.directory, entry.task, counts_, spec_.to_toml);
  if (!changed.empty() && !spec_.overwrites) throw Error(changed + "; add --overwrite to run it again");
  if (!changed.empty()) {
    progress_.note(fmt::format("{} begins anew: {}", entry.task.id(), changed));
    remove_task(spec_.directory, entry.task);
  } else if (entry.awaits_rate) {
    finish(entry);
    return true;
  }
  entry.awaits_rate = false;
  return false;
}

void Runner::start(std::size_t index) {
  Entry& entry = entries_[index];
  const std::size_t slot = std::size_t(std::ranges::find(slots_, 0) - slots_.begin());
  try {
    if (keeps_result(entry)) return;
    const ChildSpec child = command(entry, slot);
    std::error_code ignored;
    fs::remove(folder(entry) / "failed.txt", ignored);
    const std::uintmax_t log_begin = size_of_log(child.log);
    running_.push_back({index, slot, log_begin, ChildProcess(child), Clock::now()});
  } catch (const Error& error) {
    return fail(entry, error.what());
  }
  slots_[slot] = 1;
  entry.progress = Progress::running;
  progress_.started(entry.task, tally());
}

/// Whether something has ended.
bool Runner::poll() {
  for (std::size_t i = 0; i < running_.size(); ++i) {
    const std::optional<ChildProcess::End> end = running_[i].process.poll();
    if (!end) continue;
    slots_[running_[i].slot] = 0;
    std::vector<Running> others;
    for (std::size_t k = 0; k < running_.size(); ++k)
      if (k != i) others.push_back(std::move(running_[k]));
    const Running ended = std::move(running_[i]);
    running_ = std::move(others);
    take_end(ended, *end);
    return true;
  }
  return false;
}

void Runner::take_end(const Running& run, const ChildProcess::End& end) {
  Entry& entry = entries_[run.entry];
  const fs::path where = folder(entry);
  if (end.signal == 0 && end.exit_code == 0 && fs::exists(where / "summary.json")) {
    finish(entry);
    auto& [seconds, tasks] = measured_[kind_of(entry.task)];
    seconds += seconds_since(run.begin), ++tasks;
    return progress_.ended(entry.task, "", tally());
  }
  if ((has_stopped_ || is_stopping()) && (end.exit_code == kExitInterrupted || end.signal != 0)) {
    entry.progress = Progress::waiting;
    return;
  }
  std::string error = end.signal != 0 ? signal_text(end.signal) : error_in(where / "log.txt", run.log_begin);
  if (end.exit_code == kExitInterrupted) error = "interrupted by somebody else";
  if (error.empty()) error = fmt::format("ended with code {}; see {}", end.exit_code, (where / "log.txt").string());
  if (error.starts_with("train.probe_from: ") && !entry.refuses_probe) {
    entry.refuses_probe = true;  // it would not have begun alike: it trains its first stage itself
    entry.progress = Progress::waiting;
    return;
  }
  if (entry.task.trial && is_divergence(error)) {
    try {
      write_atomically(where / "failed.txt", error + "\n");
      tidy(entry);
      entry.progress = Progress::finished;
      return progress_.ended(entry.task, "", tally());
    } catch (const Error& full) {
      error = full.what();
    }
  }
  fail(entry, error);
}

void Runner::fail(Entry& entry, const std::string& error) {
  entry.progress = Progress::failed;
  entry.error = error;
  std::error_code ignored;
  const fs::space_info space = fs::space(spec_.directory.path(), ignored);
  const bool blames_disk = error.find("space") != std::string::npos || error.find("disk") != std::string::npos;
  disk_is_full_ = disk_is_full_ || (blames_disk && !ignored && space.available < kLeastSpace);
  try {
    if (!entry.awaits_rate) write_atomically(folder(entry) / "failed.txt", error + "\n");
  } catch (const Error&) {
    // The outcome has it as well.
  }
  progress_.ended(entry.task, error, tally());
}

double Runner::expected_seconds(const Entry& entry) const {
  const std::string kind = kind_of(entry.task);
  if (const auto found = measured_.find(kind); found != measured_.end())
    return found->second.first / double(found->second.second);
  // Plans are measured on an idle machine: what is known of other kinds corrects them.
  double measured = 0, planned = 0, all = 0, tasks = 0;
  for (const auto& [other, value] : measured_) {
    all += value.first, tasks += double(value.second);
    const auto plan = planned_.find(other);
    if (plan != planned_.end()) measured += value.first, planned += plan->second * double(value.second);
  }
  if (const auto plan = planned_.find(kind); plan != planned_.end())
    return plan->second * (planned > 0 ? measured / planned : 1);
  return tasks > 0 ? all / tasks : -1;
}

StudyTally Runner::tally() const {
  StudyTally t;
  double left = 0;
  bool is_known = true;
  for (const Entry& entry : entries_) {
    const bool is_trial = entry.task.trial.has_value(),
               is_finished =
                   entry.progress == Progress::finished || (entry.awaits_rate && entry.progress == Progress::waiting);
    (is_trial ? t.trials : t.cells) += 1;
    (is_trial ? t.finished_trials : t.finished_cells) += is_finished;
    t.failed += entry.progress == Progress::failed;
    if (is_finished || entry.progress == Progress::failed) continue;
    const double seconds = expected_seconds(entry);
    is_known = is_known && seconds >= 0;
    left += seconds;
  }
  for (const Running& run : running_) {
    t.running.push_back(entries_[run.entry].task.id());
    left -= std::min(seconds_since(run.begin), expected_seconds(entries_[run.entry]));
  }
  if (is_known) t.seconds_left = std::max(0.0, left / double(slots_.size()));
  return t;
}

}  // namespace

StudyOutcome run_study(const StudyRunSpec& spec, StudyProgress& progress) {
  return Runner(spec, progress, tasks_of(spec.spec)).run();
}

StudyOutcome run_task(const StudyRunSpec& spec, const StudyTask& task, StudyProgress& progress) {
  if (!task.trial && rate_of(spec.spec, spec.directory, task.cell) == 0)
    throw Error(fmt::format("study: {} needs the rate of its trials, which are not finished", task.id()));
  return Runner(spec, progress, {task}).run();
}

}  // namespace graft
