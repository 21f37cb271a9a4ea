#include "apps/study_slurm.h"

#include <fmt/format.h>

#include <filesystem>

#include "data/files.h"
#include "strategies/study/tasks.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// For a shell, in single quotes.
std::string shell_word(const std::string& word) {
  std::string text = "'";
  for (char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string array_script(const std::string& name, const fs::path& folder, std::int64_t count,
                         const StudyDirectory& directory, const SlurmStudy& study) {
  return fmt::format(R"(#!/bin/bash
#SBATCH --job-name={0}
#SBATCH --array=1-{1}
# Further options of sbatch (partition, time, --gres=gpu:1, --cpus-per-task) are given to submit.sh.
set -eu
id=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {2})
exec "${{GRAFT:-{3}}}" study run {4} -o {5} --cell "$id"{6}
)",
                     name, count, shell_word((folder / (name + ".txt")).string()),
                     fs::read_symlink("/proc/self/exe").string(), shell_word(fs::absolute(study.file).string()),
                     shell_word(directory.path().string()), study.overwrites ? " --overwrite" : "");
}

std::string submit_script(const fs::path& folder, bool has_trials) {
  // A directive in a script takes no path with a blank in it; an option does.
  const auto script = [&](const std::string& name) {
    return fmt::format("--output={} \"$@\" {}", shell_word((folder / (name + "-%a.out")).string()),
                       shell_word((folder / (name + ".sbatch")).string()));
  };
  std::string text = R"(#!/bin/bash
# Gives the study to Slurm. Arguments go to sbatch: submit.sh --cpus-per-task=8 --gres=gpu:1. Submitting again runs what
# is not finished.
set -eu
)";
  if (!has_trials) return text + fmt::format("exec sbatch {}\n", script("cells"));
  // afterany: a trial that failed holds up its own cells alone.
  return text + fmt::format(R"(trials=$(sbatch --parsable {})
exec sbatch --dependency=afterany:"${{trials%%;*}}" {}
)",
                            script("trials"), script("cells"));
}

}  // namespace

SlurmScripts write_slurm_scripts(const StudySpec& spec, const StudyDirectory& directory, const SlurmStudy& study) {
  const fs::path folder = directory.path() / "slurm";
  SlurmScripts scripts{.submit = folder / "submit.sh"};
  std::string trials, cells;
  for (const StudyTask& task : tasks_of(spec)) {
    (task.trial ? trials : cells) += task.id() + "\n";
    ++(task.trial ? scripts.trials : scripts.cells);
  }
  write_atomically(folder / "cells.txt", cells);
  write_atomically(folder / "cells.sbatch", array_script("cells", folder, scripts.cells, directory, study));
  if (scripts.trials > 0) {
    write_atomically(folder / "trials.txt", trials);
    write_atomically(folder / "trials.sbatch", array_script("trials", folder, scripts.trials, directory, study));
  }
  write_atomically(scripts.submit, submit_script(folder, scripts.trials > 0));
  fs::permissions(scripts.submit, fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec,
                  fs::perm_options::add);
  return scripts;
}

}  // namespace graft
