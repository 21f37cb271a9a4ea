// The files of one run and where they lie. Whole files are written atomically; the two logs that grow (epochs.csv,
// steps.csv) are cut back to the checkpoint when a run resumes. What the numbers mean is fit.h's business.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

class RunDirectory {
 public:
  explicit RunDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  enum class Existing { refuse, resume, overwrite };
  /// Touches nothing. Errors: the folder holds a run and `refuse`; it is a file.
  void check(Existing existing) const;
  /// Makes the folder ready: removes what a program that was killed was still writing and, to `overwrite`, the files of
  /// a run; no others. Errors: it cannot be written.
  void prepare(Existing existing) const;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path best() const { return path_ / "best.h5"; }
  std::filesystem::path last() const { return path_ / "last.h5"; }
  std::filesystem::path file(std::string_view name) const { return path_ / name; }
  bool has(std::string_view name) const { return std::filesystem::exists(path_ / name); }

  void write(std::string_view name, std::string_view text) const;

 private:
  void remove_unfinished() const;
  std::filesystem::path path_;
};

/// A CSV that grows by lines. Its first column is a number that increases.
class GrowingCsv {
 public:
  /// Keeps the header and the rows whose first column is at most `keep_up_to`; 0 starts anew.
  GrowingCsv(const std::filesystem::path& path, std::string_view header, std::int64_t keep_up_to);
  void add(std::string_view line);  // without line break
  /// Hands the lines to the system. Errors: disk full.
  void flush();

 private:
  std::string name_;
  std::ofstream out_;
};

/// environment.json: versions, device, machine, command line, start time.
struct EnvironmentInput {
  std::string_view device_description, command_line, model, model_sha256;
  std::int64_t seed = 0;
};
std::string environment_json(const EnvironmentInput& input);
/// The same with "plans", what the device chose for each convolution (Backend::plans); those of before are replaced.
/// Text that is not such JSON comes back as it is.
std::string with_plans(const std::string& environment_json, const std::vector<std::string>& plans);

}  // namespace graft
