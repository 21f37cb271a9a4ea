// The directory of a study: which file lies where, who may write there, and which data every training sees. The state
// of a study is what lies in it, never kept twice: a training with summary.json is finished, one with failed.txt
// failed.
//
//   study.toml, study.json     the study's file as it was given, and what was understood, for programs
//   splits/DATASET[-fold-K].csv            which image trains, validates, tests: fixed once, for all strategies and
//                              seeds
//   splits/DATASET[-fold-K].tuning.csv     the same without the test images, for trials
//   runs/NETWORK/DATASET/STRATEGY/seed-S[/fold-K]/   run directories as `graft train` writes them, and
//                              log.txt (what it said), failed.txt (why it failed, one line)
//   tuning/NETWORK/DATASET/STRATEGY[/fold-K]/trial-N/   the same, without weights once they have finished
//   leakage.json               what the splits of each dataset share (data/leakage.h), from before the first training
//   shared/features/           outputs of frozen blocks, for all cells that freeze them
//   study.lock                 held by whoever runs it
#pragma once

#include <filesystem>

#include "strategies/study/study.h"

namespace graft {

class StudyDirectory {
 public:
  explicit StudyDirectory(const std::filesystem::path& path);  // made absolute

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path spec() const { return path_ / "study.json"; }
  std::filesystem::path features() const { return path_ / "shared" / "features"; }
  std::filesystem::path leakage() const { return path_ / "leakage.json"; }
  std::filesystem::path lock() const { return path_ / "study.lock"; }
  std::filesystem::path plan() const { return path_ / "plan.json"; }
  std::filesystem::path probe() const { return path_ / "probe.tmp"; }  // a plan's, while it is made
  std::filesystem::path of(const StudyCell& cell) const { return path_ / "runs" / cell.id(); }
  std::filesystem::path of(const StudyTrial& trial) const { return path_ / "tuning" / trial.id(); }
  std::filesystem::path split_key(std::string_view dataset) const;  // what its splits were made from, one line
  std::filesystem::path split(std::string_view dataset, std::int64_t fold, bool for_tuning) const;
  /// What a training of this cell reads: a CSV below splits/, or the .npz itself, which has its own splits.
  std::filesystem::path data(const StudySpec& spec, const StudyCell& cell, bool is_trial) const;

 private:
  std::filesystem::path path_;
};

}  // namespace graft
