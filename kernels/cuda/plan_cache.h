// Chosen plans on disk, so that a later run need not time them again: one text file for all GPUs and cuDNN versions,
// written whole or not at all. It is a cache: removing it costs time alone, and nothing in it is trusted. A plan is
// used only if cuDNN offers one of that name for that graph.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "kernels/cuda/plan_choice.h"

namespace graft {

/// $XDG_CACHE_HOME/graft/cudnn_plans.tsv or ~/.cache/graft/cudnn_plans.tsv; empty where neither is set.
std::filesystem::path default_plan_cache();

class PlanCache {
 public:
  /// Reads the file if there is one. `device` is the GPU's name, `cudnn` the library's version, "9.19.0": plans of
  /// others are kept and not found. An empty path keeps plans in memory alone. Lines that are damaged or of another
  /// format are left out, counted in `note`. Never throws.
  PlanCache(std::filesystem::path path, std::string device, std::string cudnn);

  /// Null if there is none.
  const PlanRecord* find(const std::string& graph) const;
  /// Keeps a plan and writes the file, with what other processes have added to it since. A failure to write is told
  /// once, in `note`, and nothing is written from then on.
  void add(const PlanRecord& record);

  /// What went wrong, in one line; empty: nothing.
  const std::string& note() const { return note_; }

 private:
  /// Device, cuDNN version, graph.
  using Key = std::vector<std::string>;
  struct Contents {
    std::map<Key, PlanRecord> plans;
    std::int64_t damaged = 0;
    bool is_foreign = false;  // there is a file, and its first line is not ours
  };
  Contents read() const;
  void write();

  std::filesystem::path path_;
  std::string device_, cudnn_, note_;
  std::map<Key, PlanRecord> plans_;
};

}  // namespace graft
