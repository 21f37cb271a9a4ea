// A study on a cluster: job arrays for Slurm's sbatch, one element per training.
#pragma once

#include <string>

#include "strategies/study/study_directory.h"

namespace graft {

struct SlurmStudy {
  std::string file;         // which the jobs read
  bool overwrites = false;  // cells whose trials choose another rate than before begin anew
};

/// Writes below DIR/slurm/: cells.txt and trials.txt with an id per line, cells.sbatch and trials.sbatch with an array
/// element per line, submit.sh which gives both to sbatch, cells after all trials. Returns what to do with them.
/// Errors: the folder cannot be written.
std::string write_slurm_scripts(const StudySpec& spec, const StudyDirectory& directory, const SlurmStudy& study);

}  // namespace graft
