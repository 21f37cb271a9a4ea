// How far a study's run is, on stderr: a line for each training that ends, and on a terminal a last line that is
// redrawn.
#pragma once

#include <cstdint>
#include <string>

#include "strategies/study/run.h"

namespace graft {

class StudyDisplay : public StudyProgress {
 public:
  explicit StudyDisplay(bool is_quiet);
  ~StudyDisplay() override;
  StudyDisplay(const StudyDisplay&) = delete;
  StudyDisplay& operator=(const StudyDisplay&) = delete;

  void note(std::string_view line) override;
  void started(const StudyTask& task, const StudyTally& tally) override;
  void ended(const StudyTask& task, const std::string& error, const StudyTally& tally) override;
  void tick(const StudyTally& tally) override;

 private:
  void erase_line();

  bool is_quiet_, has_line_;
  bool is_line_shown_ = false;
};

/// "study: 3/20 cells, 8/8 trials, 1 failed; 2 run: a/b/full/seed-1, a/b/full/seed-2; 0:12:03 left", at most `columns`
/// wide.
std::string study_line(const StudyTally& tally, std::int64_t columns);

}  // namespace graft
