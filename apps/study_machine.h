// What of this machine each of several trainings gets.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "strategies/study/study.h"

namespace graft {

/// This very program, even if its file has been replaced since.
std::string this_program();

struct MachineShare {
  std::int64_t jobs = 1;             // at once
  std::int64_t threads = 1;          // of each: the cores are divided
  std::vector<std::string> devices;  // GPUs, taken in turn; empty: as the settings say
};

/// `jobs` trainings at once; 0: one, or one per GPU where the study's settings take a GPU.
MachineShare divide_machine(const StudySpec& spec, std::int64_t jobs);

}  // namespace graft
