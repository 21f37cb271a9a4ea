// The files of one run and where they lie. Whole files are written atomically; the two logs that grow (epochs.csv,
// steps.csv) are cut back to the checkpoint when a run resumes. What the numbers mean is fit.h's business.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "strategies/train_settings.h"

namespace graft {

class RunDirectory {
 public:
  explicit RunDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  enum class Existing { refuse, resume, overwrite };
  /// Touches nothing. Errors: the folder holds a run and `refuse`; it is a file; where it is or would be cannot be
  /// written to, as far as that can be seen.
  void check(Existing existing) const;
  /// Makes the folder ready: removes what a program that was killed was still writing and, to `overwrite`, the files of
  /// a run; no others. Errors: it cannot be written.
  void prepare(Existing existing) const;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path best() const { return path_ / "best.h5"; }
  /// Where new best weights wait until last.h5 knows of them, and where those that it knows of wait after a failure,
  /// when best.h5 has better ones. If best.h5 were ahead of the checkpoint, a run that continues would begin its next
  /// stage with weights of the future.
  std::filesystem::path next_best(std::int64_t epoch, std::int64_t steps) const;
  /// Makes those of this epoch, after so many updates, best.h5 and removes others. Errors: as rename_file().
  void settle_best(std::int64_t epoch, std::int64_t steps) const;
  std::filesystem::path last() const { return path_ / "last.h5"; }
  std::filesystem::path file(std::string_view name) const { return path_ / name; }
  bool has(std::string_view name) const { return std::filesystem::exists(path_ / name); }

  void write(std::string_view name, std::string_view text) const;

 private:
  void remove_starting_with(std::string_view prefix) const;
  std::filesystem::path path_;
};

/// An exclusive hold on a run directory, so that no two programs write to it. The system releases it when the process
/// ends, in whatever way.
class RunLock {
 public:
  RunLock() = default;
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  /// Nothing to do if it is held, or where there is no such folder yet. Errors: another program holds it.
  void take(const RunDirectory& directory);
  /// Makes the folder first. Errors: also, it cannot be made.
  void make_and_take(const RunDirectory& directory);

 private:
  int folder_ = -1;
};

/// What the settings do with a run that is there.
RunDirectory::Existing existing_of(const TrainSettings& settings);
bool has_checkpoint_to_resume(const TrainSettings& settings);

/// A CSV that grows by lines. Its first column is a number that increases.
class GrowingCsv {
 public:
  /// Keeps the rows whose first column is at most `keep_up_to`; 0 starts anew. Rows of an earlier version, which had
  /// fewer columns, get empty fields at their end.
  GrowingCsv(const std::filesystem::path& path, std::string_view header, std::int64_t keep_up_to);
  void add(std::string_view line);  // without line break
  /// Hands the lines to the system. Errors: disk full.
  void flush();

 private:
  std::string name_;
  std::ofstream out_;
};

}  // namespace graft
