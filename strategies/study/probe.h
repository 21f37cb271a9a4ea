// Which finished linear probe of a study can be the first stage of another of its cells (train.probe_from), so that the
// head is trained once. What must hold is decided by strategies/training/probe_stage.h, which looks at the finished
// run; here is only asked whether it is worth waiting for one.
#pragma once

#include "strategies/study/tasks.h"

namespace graft {

/// The cell of linear probing that the cell could begin with if both get the same rate: it trains the head alone for as
/// many epochs as the cell's first stage has, and all else is equal. None: there is no such cell in the study.
std::optional<StudyCell> probe_for(const StudySpec& spec, const StudyDirectory& directory, const StudyCell& cell,
                                   const ToToml& to_toml);

/// Whether the probe's folder still holds what the cell would continue from.
bool has_probe_stage(const std::filesystem::path& folder);

}  // namespace graft
