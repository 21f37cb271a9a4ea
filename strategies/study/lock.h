// Who may write to a study's directory: one program at a time, or several that each run other cells.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

namespace graft {

/// An exclusive hold on a study, which the processes that it starts share. Released when all of them have ended.
class StudyLock {
 public:
  enum class Kind { whole, one_cell };  // one_cell: others may hold one_cell as well
  /// Waits for processes of a program that is gone to end, five minutes for their checkpoints; `note` is told.
  /// Errors: a running program holds it (says which), or single cells do; the folder cannot be written.
  StudyLock(const std::filesystem::path& file, Kind kind, const std::function<void(std::string_view)>& note = {});
  ~StudyLock();
  StudyLock(const StudyLock&) = delete;
  StudyLock& operator=(const StudyLock&) = delete;

 private:
  Kind kind_;
  int file_ = -1;
};

/// Whether somebody holds it now.
bool is_held(const std::filesystem::path& lock);

}  // namespace graft
