// A study on a cluster: job arrays for Slurm's sbatch, one element per training.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "strategies/study/directory.h"

namespace graft {

struct SlurmStudy {
  std::string file;         // which the jobs read
  bool overwrites = false;  // cells whose trials choose another rate than before begin anew
};

struct SlurmScripts {
  std::int64_t trials = 0, cells = 0;  // elements of the two job arrays
  std::filesystem::path submit;        // starts both
};

/// Writes below DIR/slurm/: cells.txt and trials.txt with an id per line, cells.sbatch and trials.sbatch with an array
/// element per line, submit.sh which gives both to sbatch, cells after all trials.
/// Errors: the folder cannot be written.
SlurmScripts write_slurm_scripts(const StudySpec& spec, const StudyDirectory& directory, const SlurmStudy& study);

}  // namespace graft
