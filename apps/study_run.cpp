// graft study run: the trainings of a study, several at a time, until all are finished.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/interrupt.h"
#include "apps/settings_options.h"
#include "apps/study.h"
#include "apps/study_file.h"
#include "apps/study_machine.h"
#include "apps/study_progress.h"
#include "apps/study_slurm.h"
#include "apps/terminal.h"
#include "kernels/usable_cores.h"
#include "strategies/study/lock.h"
#include "strategies/study/run.h"

namespace graft {
namespace {

using nlohmann::ordered_json;

struct RunOptions {
  StudyOptions study;
  std::int64_t jobs = 0;
  std::string cell;
  bool overwrites = false, slurm = false;
};

ordered_json json_of(const StudyOutcome& outcome) {
  ordered_json failures = ordered_json::array();
  for (const TaskFailure& failure : outcome.failures)
    failures.push_back({{"id", failure.id}, {"error", failure.error}});
  return {{"cells", outcome.tally.cells},
          {"finished_cells", outcome.tally.finished_cells},
          {"trials", outcome.tally.trials},
          {"finished_trials", outcome.tally.finished_trials},
          {"failed", failures},
          {"interrupted", outcome.was_interrupted}};
}

/// Names of folders and lines of errors need not be UTF-8.
void print_json(const ordered_json& json) {
  print_result(json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

int report(const StudyOutcome& outcome, const RunOptions& options, const StudyDirectory& directory) {
  const StudyTally& tally = outcome.tally;
  const auto of = [](std::int64_t n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); };
  if (options.study.is_json) print_json(json_of(outcome));
  if (outcome.was_interrupted) {
    if (!options.study.is_quiet)
      print_note(fmt::format("interrupted; checkpoints are written, the same command continues ({} of {} finished)",
                             tally.finished_cells, of(tally.cells, "cell")));
    return kExitInterrupted;
  }
  if (outcome.failures.empty()) {
    if (!options.study.is_json)
      print_result(fmt::format("{} finished: {}\n", of(tally.finished_cells + tally.finished_trials, "training"),
                               directory.path().string()));
    return 0;
  }
  std::string list;
  for (const TaskFailure& failure : outcome.failures) list += fmt::format("\n{}: {}", failure.id, failure.error);
  const std::string kept = fmt::format("{} of {} finished and kept", tally.finished_cells, of(tally.cells, "cell"));
  if (outcome.disk_is_full)
    throw Error(fmt::format("study: the disk of {} is full; free some space and run again, {}{}",
                            directory.path().string(), kept, list));
  const bool may_help = std::ranges::any_of(outcome.failures, [](const TaskFailure& failure) {
    return failure.error.find("--overwrite") == std::string::npos;
  });
  throw Error(fmt::format("study: {} failed, {}{}{}", of(std::ssize(outcome.failures), "training"), kept,
                          may_help ? "; the same command tries again" : "", list));
}

std::string to_text(const TrainSettings& settings) { return to_toml(settings, true); }

StudyRunSpec run_spec(const StudyFile& file, const StudyDirectory& directory, const StudyCall& call) {
  StudyRunSpec run{.spec = file.spec, .directory = directory, .program = this_program(), .to_toml = to_text};
  const MachineShare share = divide_machine(file.spec, call.jobs);
  run.jobs = share.jobs, run.devices = share.devices;
  run.threads = call.threads > 0 ? std::max<std::int64_t>(1, call.threads / share.jobs) : share.threads;
  return run;
}

void prepare(const StudyFile& file, const StudyDirectory& directory, bool overwrites, StudyDisplay& display) {
  prepare_study(file.spec, directory,
                {.toml = file.text,
                 .overwrites = overwrites,
                 .threads = usable_cores(),
                 .to_toml = to_text,
                 .note = [&](std::string_view line) { display.note(line); }});
}

StudyLock lock_whole(const StudyDirectory& directory, StudyDisplay& display) {
  return StudyLock(directory.lock(), StudyLock::Kind::whole, [&](std::string_view line) { display.note(line); });
}

StudyOutcome run_one(const RunOptions& options, const StudyFile& file, const StudyDirectory& directory,
                     StudyDisplay& display) {
  StudyRunSpec run = run_spec(file, directory, {.jobs = options.jobs});
  check_prepared(file.spec, directory);
  const StudyLock lock(directory.lock(), StudyLock::Kind::one_cell, [&](std::string_view line) { display.note(line); });
  run.jobs = 1, run.overwrites = options.overwrites;
  const StopLater stop;
  run.stop = &stop.flag();
  return run_task(run, task_named(file.spec, options.cell), display);
}

int prepare_cluster(const RunOptions& options, const StudyFile& file, const StudyDirectory& directory,
                    StudyDisplay& display) {
  const StudyLock lock = lock_whole(directory, display);
  prepare(file, directory, options.overwrites, display);
  const SlurmScripts scripts = write_slurm_scripts(file.spec, directory, {options.study.file, options.overwrites});
  const std::string submit = scripts.submit.string();
  if (options.study.is_json)
    print_json({{"trials", scripts.trials}, {"cells", scripts.cells}, {"submit", submit}});
  else
    print_result(fmt::format("{} trials and {} cells as job arrays: {}\n", scripts.trials, scripts.cells, submit));
  return 0;
}

int run_study_verb(RunOptions& options) {
  const StudyDirectory directory = directory_of(options.study);
  const StudyFile file = read_study_file(options.study.file);
  check_study(file.spec);
  claim_study_folder(directory);
  StudyDisplay display(options.study.is_quiet);
  if (options.slurm) return prepare_cluster(options, file, directory, display);
  const StudyOutcome outcome =
      options.cell.empty()
          ? run_study_file(file, directory, {.jobs = options.jobs, .overwrites = options.overwrites}, display)
          : run_one(options, file, directory, display);
  return report(outcome, options, directory);
}

}  // namespace

StudyOutcome run_study_file(const StudyFile& file, const StudyDirectory& directory, const StudyCall& call,
                            StudyDisplay& display) {
  StudyRunSpec run = run_spec(file, directory, call);
  run.overwrites = call.overwrites;
  const StudyLock lock = lock_whole(directory, display);
  prepare(file, directory, call.overwrites, display);
  display.note(fmt::format("study: {} at once, {} thread{} each{}", run.jobs, run.threads, run.threads == 1 ? "" : "s",
                           run.devices.empty() ? "" : fmt::format(", on {}", fmt::join(run.devices, ", "))));
  const StopLater stop;  // not before: what is prepared is written file by file, whole or not at all
  run.stop = &stop.flag();
  return run_study(run, display);
}

void add_study_run_verb(Command& study) {
  Command verb = study.verb("run", "Run what is not finished yet, or continue it");
  auto options = std::make_shared<RunOptions>();
  add_study_options(verb, options->study);
  verb.option({.flag = "-j,--jobs",
               .group = "Run",
               .help = "trainings at once, which share the cores; 0 is one, or one per GPU",
               .min = 0},
              options->jobs);
  verb.option({.flag = "--overwrite", .group = "Run", .help = "run again what was run with other settings"},
              options->overwrites);
  verb.option({.flag = "--slurm", .group = "Cluster", .help = "prepare the folder, write scripts for sbatch and stop"},
              options->slurm);
  verb.option({.flag = "--cell", .group = "Cluster", .help = "run only this cell or trial, as status lists them"},
              options->cell);
  verb.example(
      "  graft study run study.toml -j 2\n  graft study run study.toml -j 2     # after an interruption: continues");
  verb.run([options] { return run_study_verb(*options); });
}

}  // namespace graft
