// graft study plan: what a study will run, share and take, before it starts.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/interrupt.h"
#include "apps/session.h"
#include "apps/study.h"
#include "apps/study_file.h"
#include "apps/study_machine.h"
#include "apps/terminal.h"
#include "data/files.h"
#include "kernels/usable_cores.h"
#include "strategies/study/budget.h"
#include "strategies/study/leaks.h"
#include "strategies/study/lock.h"
#include "strategies/study/state.h"

namespace graft {
namespace {

using nlohmann::ordered_json;
using Note = std::function<void(std::string_view)>;

struct StudyPlanOptions {
  StudyOptions study;
  std::int64_t jobs = 0;
  std::string budget;
  double probe_seconds = 60;
};

ordered_json json_of(const TaskSeconds& t) {
  return {{"start", t.start},           {"features", t.features}, {"training", t.training},
          {"validation", t.validation}, {"saving", t.saving},     {"test", t.test}};
}

/// What an earlier run has finished, and the rest.
struct Done {
  std::set<std::string> finished;  // ids of tasks
  double seconds_left = 0;
  std::map<std::string, std::vector<std::string>> ids;  // of all tasks, by kind
};

Done done_of(const StudySpec& spec, const StudyDirectory& directory, const StudyEstimate& e) {
  Done done;
  for (const StudyTask& task : tasks_of(spec)) {
    done.ids[kind_of(task)].push_back(task.id());
    const TaskState state = read_state(folder_of(directory, task));
    if (state.state == CellState::finished || (task.trial && state.diverged)) done.finished.insert(task.id());
  }
  done.seconds_left = seconds_left(spec, e, done.finished);
  return done;
}

ordered_json json_of(const StudyEstimate& e, const StudyRates& rates, const Done& done,
                     const std::vector<StudyReduction>& reductions) {
  ordered_json tasks = ordered_json::array(), smaller = ordered_json::array(), shared = ordered_json::array();
  for (const KindEstimate& kind : e.kinds)
    tasks.push_back({{"kind", kind.kind},
                     {"trainings", kind.tasks},
                     {"ids", done.ids.at(kind.kind)},
                     {"epochs", kind.epochs},
                     {"seconds", kind.each.total()},
                     {"shortest_seconds", kind.shortest.total()},
                     {"parts", json_of(kind.each)},
                     {"all_seconds", kind.seconds},
                     {"memory_bytes", kind.memory_bytes},
                     {"disk_bytes", kind.disk_bytes}});
  for (const SharedFeatures& s : e.shared)
    shared.push_back({{"network", s.network}, {"dataset", s.dataset}, {"files", s.files}, {"bytes", s.bytes}});
  for (const StudyReduction& r : reductions)
    smaller.push_back({{"changes", r.changes}, {"seconds", r.seconds}, {"fits", r.fits}});
  return {{"jobs", e.jobs},
          {"seconds", e.seconds},
          {"shortest_seconds", e.shortest_seconds},
          {"finished", done.finished.size()},
          {"seconds_left", done.seconds_left},
          {"memory_bytes", e.memory_bytes},
          {"disk_bytes", e.disk_bytes},
          {"disk_peak_bytes", e.disk_peak_bytes},
          {"shared", std::move(shared)},
          {"probe_seconds", rates.seconds},
          {"probes", rates.probes},
          {"tasks", std::move(tasks)},
          {"reductions", std::move(smaller)}};
}

std::string duration_range_text(double shortest, double longest) {
  // Below a twentieth nobody would see it.
  if (shortest > 0.95 * longest) return duration_text(longest);
  return duration_text(shortest) + " to " + duration_text(longest);
}

std::string plain_text(const StudyEstimate& e, const StudyRates& rates, const Done& done,
                       const StudyDirectory& directory) {
  std::int64_t tasks = 0;
  TextTable table({"what runs", "trainings", "epochs", "each", "all", "memory", "kept"});
  for (const KindEstimate& kind : e.kinds) {
    tasks += kind.tasks;
    table.add({kind.kind, std::to_string(kind.tasks), std::to_string(kind.epochs),
               duration_range_text(kind.shortest.total(), kind.each.total()), duration_text(kind.seconds),
               bytes_text(kind.memory_bytes), bytes_text(kind.disk_bytes)});
  }
  std::string text = table.text() + "\n";
  for (const SharedFeatures& shared : e.shared)
    text += fmt::format(
        "shared by all strategies, seeds and trials of {}, {}: outputs of frozen blocks, {} file{}, {}\n",
        shared.network, shared.dataset, shared.files, shared.files == 1 ? "" : "s", bytes_text(shared.bytes));
  text += fmt::format("{} trainings, {} at once: about {} (measured in {} with {} kinds of step)\n", tasks, e.jobs,
                      duration_range_text(e.shortest_seconds, e.seconds), duration_text(rates.seconds), rates.probes);
  if (!done.finished.empty())
    text +=
        fmt::format("{} of them are finished: about {} left\n", done.finished.size(), duration_text(done.seconds_left));
  text += fmt::format("memory: up to {}; disk: {} kept, up to {} meanwhile\n", bytes_text(e.memory_bytes),
                      bytes_text(e.disk_bytes), bytes_text(e.disk_peak_bytes));
  std::error_code ignored;
  if (const auto space = std::filesystem::space(directory.path(), ignored);
      !ignored && double(space.available) < double(e.disk_peak_bytes))
    text += emphasised(fmt::format("only {} are free there", bytes_text(std::int64_t(space.available))), Emphasis::red,
                       stdout) +
            "\n";
  text += "kept of a cell: best.h5, predictions.csv, epochs.csv and other logs; of a trial: logs, no weights\n";
  return text;
}

std::string budget_text(const std::vector<StudyReduction>& reductions, double budget, double needed) {
  if (needed <= budget) return fmt::format("\nfits into {}\n", duration_text(budget));
  const char* verdict = reductions.size() > 1 ? "any of these would"
                        : reductions[0].fits  ? "this would"
                                              : "this comes closest";
  std::string text = fmt::format("\ndoes not fit into {}; {}:\n", duration_text(budget), verdict);
  for (const StudyReduction& r : reductions)
    text += fmt::format("  {}: {}\n", fmt::join(r.changes, ", "), duration_text(r.seconds));
  return text;
}

/// A run would refuse them before it trains anything. Of few images that is known soon.
void check_leaks(const StudySpec& spec, const StudyDirectory& directory, const Note& note) {
  constexpr std::int64_t kSoonRead = 5000;
  for (const StudyDataset& dataset : spec.datasets)
    if (!foresee_leaks(spec, dataset, directory, {.most_images = kSoonRead, .threads = usable_cores()}))
      note(fmt::format("{}: more than {} images; whether its splits share some is looked for when the study runs",
                       dataset.name, kSoonRead));
}

int run_study_plan(StudyPlanOptions& options) {
  const StudyDirectory directory = directory_of(options.study);
  const StudyFile file = read_study_file(options.study.file);
  const double budget = options.budget.empty() ? 0 : parse_duration(options.budget);
  const std::vector<std::string> notes = check_study(file.spec);
  claim_study_folder(directory);
  const Note note = [&](std::string_view line) {
    if (!options.study.is_quiet) print_note(line);
  };
  const StudyLock lock(directory.lock(), StudyLock::Kind::whole, note);
  for (const std::string& line : notes) note(line);
  check_leaks(file.spec, directory, note);
  const StopLater stop;  // not before: nothing is written until then
  const MachineShare share = divide_machine(file.spec, options.jobs);
  const StudyRates rates = measure_rates(file.spec, {.open = [](TrainSettings& s) { return open_session(s).context; },
                                                     .seconds = options.probe_seconds,
                                                     .threads = share.threads,
                                                     .decoding_threads = usable_cores(),
                                                     .program = this_program(),
                                                     .scratch = directory.probe(),
                                                     .note = note,
                                                     .stop = &stop.flag()});
  if (stop.is_requested()) return kExitInterrupted;
  const StudyEstimate estimate = estimate_study(file.spec, rates, share.jobs);
  const Done done = done_of(file.spec, directory, estimate);
  std::vector<StudyReduction> reductions;
  if (budget > 0 && done.seconds_left > budget)
    reductions = reductions_for(file.spec, rates, {.seconds = budget, .jobs = share.jobs, .finished = done.finished});
  const ordered_json json = json_of(estimate, rates, done, reductions);
  write_atomically(directory.plan(), json.dump(2) + "\n");
  if (options.study.is_json) return print_result(json.dump() + "\n"), 0;
  print_result(plain_text(estimate, rates, done, directory) +
               (budget > 0 ? budget_text(reductions, budget, done.seconds_left) : ""));
  return 0;
}

}  // namespace

void add_study_plan_verb(Command& study) {
  Command verb = study.verb("plan", "Say what a study will run, share and take, before it starts");
  auto options = std::make_shared<StudyPlanOptions>();
  add_study_options(verb, options->study);
  verb.option({.flag = "-j,--jobs", .group = "Run", .help = "trainings at once, as run will be told", .min = 0},
              options->jobs);
  verb.option({.flag = "--budget", .group = "Run", .help = "time that the study may take, as 8h; else what to drop"},
              options->budget);
  verb.option({.flag = "--probe-seconds",
               .group = "Run",
               .help = "seconds to spend on measuring steps, about",
               .min = 0,
               .excludes_min = true},
              options->probe_seconds);
  verb.example("  graft study plan study.toml -j 2 --budget 8h");
  verb.run([options] { return run_study_plan(*options); });
}

}  // namespace graft
