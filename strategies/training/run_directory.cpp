#include "strategies/training/run_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "data/event_file.h"
#include "data/files.h"
#include "kernels/core.h"

namespace graft {
namespace {

constexpr std::array<std::string_view, 11> kFiles{"config.toml",  "environment.json", "split.csv",       "leaks.csv",
                                                  "epochs.csv",   "steps.csv",        "predictions.csv", "summary.json",
                                                  "internals.h5", "best.h5",          "last.h5"};

constexpr std::string_view kNextBest = "best.epoch-";

}  // namespace

void RunDirectory::check(Existing existing) const {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(path_, error) && !fs::is_directory(path_, error))
    throw Error("run directory: " + path_.string() + " is a file; choose another -o");
  std::string found;
  for (std::string_view name : kFiles)
    if (fs::exists(path_ / name, error)) found = name;
  if (!found.empty() && existing == Existing::refuse)
    throw Error("run directory: " + path_.string() + " holds a run already (" + found +
                "); add --resume to continue it or --overwrite to replace it");
  fs::path place = fs::absolute(path_, error).lexically_normal();
  while (!fs::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  if (!fs::is_directory(place, error) || access(place.c_str(), W_OK) != 0)
    throw Error("run directory: cannot create " + path_.string() + ": " + place.string() +
                " is no folder that can be written to; choose another -o");
}

void RunDirectory::prepare(Existing existing) const {
  namespace fs = std::filesystem;
  std::error_code error;
  if (existing == Existing::overwrite)
    for (std::string_view name : kFiles)
      if (fs::remove(path_ / name, error); error)
        throw Error("run directory: cannot remove " + (path_ / name).string() + ": " + error.message());
  if (existing == Existing::overwrite) remove_starting_with(EventFile::kPrefix);
  for (std::string_view name : kFiles) remove_starting_with(std::string(name) + ".tmp.");
  if (!has("last.h5")) remove_starting_with(kNextBest);
  fs::create_directories(path_, error);
  if (error) throw Error("run directory: cannot create " + path_.string() + ": " + error.message());
}

void RunDirectory::remove_starting_with(std::string_view prefix) const {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_, error))
    if (entry.path().filename().string().starts_with(prefix)) files.push_back(entry.path());
  for (const fs::path& file : files) fs::remove(file, error);
}

std::filesystem::path RunDirectory::next_best(std::int64_t epoch, std::int64_t steps) const {
  return path_ / fmt::format("{}{}.step-{}.h5", kNextBest, epoch, steps);
}

void RunDirectory::settle_best(std::int64_t epoch, std::int64_t steps) const {
  if (const auto next = next_best(epoch, steps); std::filesystem::exists(next)) rename_file(next, best());
  remove_starting_with(kNextBest);
}

void RunDirectory::write(std::string_view name, std::string_view text) const { write_atomically(path_ / name, text); }

RunLock::~RunLock() {
  if (folder_ >= 0) close(folder_);
}

void RunLock::take(const RunDirectory& directory) {
  if (folder_ >= 0) return;
  folder_ = open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_ < 0 || flock(folder_, LOCK_EX | LOCK_NB) == 0) return;
  const bool is_held = errno == EWOULDBLOCK;  // else the file system has no locks for folders, as NFS may
  if (is_held)
    throw Error("run directory: another graft train is writing to " + directory.path().string() +
                "; wait for it, stop it, or choose another -o");
}

void RunLock::make_and_take(const RunDirectory& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory.path(), error);
  if (error) throw Error("run directory: cannot create " + directory.path().string() + ": " + error.message());
  take(directory);
}

RunDirectory::Existing existing_of(const TrainSettings& s) {
  using Existing = RunDirectory::Existing;
  return s.overwrite ? Existing::overwrite : s.resume ? Existing::resume : Existing::refuse;
}

bool has_checkpoint_to_resume(const TrainSettings& s) { return s.resume && RunDirectory(s.output).has("last.h5"); }

GrowingCsv::GrowingCsv(const std::filesystem::path& path, std::string_view header, std::int64_t keep_up_to)
    : name_(path.string()) {
  std::string kept = std::string(header) + "\n";
  const std::int64_t commas = std::ranges::count(header, ',');
  if (keep_up_to > 0 && std::filesystem::exists(path)) {
    std::istringstream lines(read_text(path));
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line))
      if (!line.empty() && std::strtoll(line.c_str(), nullptr, 10) <= keep_up_to) {
        const std::int64_t missing = commas - std::ranges::count(line, ',');
        kept += line + std::string(std::size_t(std::max<std::int64_t>(0, missing)), ',') + "\n";
      }
  }
  write_atomically(path, std::string_view(kept));
  out_.open(path, std::ios::app | std::ios::binary);
  if (!out_) throw Error("cannot write " + name_);
}

void GrowingCsv::add(std::string_view line) { out_ << line << '\n'; }

void GrowingCsv::flush() {
  out_.flush();
  if (!out_) throw Error("cannot write " + name_ + "; is the disk full?");
}

}  // namespace graft
