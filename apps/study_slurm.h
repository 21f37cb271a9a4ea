// A study on a cluster: job arrays for Slurm's sbatch, one element per training.
#pragma once

#include <string>

#include "strategies/study/study_directory.h"

namespace graft {

/// Writes below DIR/slurm/: cells.txt and trials.txt with an id per line, cells.sbatch and trials.sbatch with an array
/// element per line, submit.sh which gives both to sbatch, cells after all trials. Returns what to do with them.
/// `file`: the study's file, which the jobs read. Errors: the folder cannot be written.
std::string write_slurm_scripts(const StudySpec& spec, const StudyDirectory& directory, const std::string& file);

}  // namespace graft
