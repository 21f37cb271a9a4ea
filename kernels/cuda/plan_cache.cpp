#include "kernels/cuda/plan_cache.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>

namespace graft {
namespace {

namespace fs = std::filesystem;

/// Names the columns and the format; another first line is another format.
constexpr std::string_view kFirstLine =
    "# graft cuDNN plans 2: device\tcuDNN\tgraph\tplan\tworkspace_bytes\tmicroseconds\tchecked_against\tdifference";
constexpr std::size_t kColumns = 8;

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> fields{""};
  for (const char c : line)
    if (c == '\t')
      fields.emplace_back();
    else
      fields.back() += c;
  return fields;
}

/// The whole text as a number that a plan can have.
template <class T>
bool parse(const std::string& text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && value >= 0 && value < T(1e15);
}

std::string plain(std::string text) {
  std::ranges::replace_if(
      text, [](char c) { return c == '\t' || c == '\n' || c == '\r'; }, ' ');
  return text;
}

}  // namespace

fs::path default_plan_cache() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache)
    return fs::path(cache) / "graft" / "cudnn_plans.tsv";
  if (const char* home = std::getenv("HOME"); home && *home)
    return fs::path(home) / ".cache" / "graft" / "cudnn_plans.tsv";
  return {};
}

PlanCache::PlanCache(fs::path path, std::string device, std::string cudnn)
    : path_(std::move(path)), device_(plain(std::move(device))), cudnn_(plain(std::move(cudnn))) {
  Contents contents = read();
  plans_ = std::move(contents.plans);
  if (contents.is_foreign)
    note_ = fmt::format("{} is not a list of plans of this version; it will be replaced", path_.string());
  else if (contents.damaged > 0)
    note_ = fmt::format("{}: {} damaged lines were left out", path_.string(), contents.damaged);
}

PlanCache::Contents PlanCache::read() const {
  Contents contents;
  if (path_.empty()) return contents;
  std::ifstream file(path_);
  std::string line;
  if (!file || !std::getline(file, line)) return contents;
  if (line != kFirstLine) {
    contents.is_foreign = true;
    return contents;
  }
  while (std::getline(file, line)) {
    const std::vector<std::string> f = split(line);
    PlanRecord record{.source = "cached"};
    if (f.size() != kColumns || f[0].empty() || f[1].empty() || f[2].empty() || f[3].empty() ||
        !parse(f[4], record.workspace_bytes) || !parse(f[5], record.microseconds) || !parse(f[7], record.difference)) {
      ++contents.damaged;
      continue;
    }
    record.graph = f[2], record.plan = f[3], record.checked_against = f[6];
    contents.plans[{f[0], f[1], f[2]}] = record;
  }
  return contents;
}

const PlanRecord* PlanCache::find(const std::string& graph) const {
  const auto it = plans_.find({device_, cudnn_, plain(graph)});
  return it == plans_.end() ? nullptr : &it->second;
}

void PlanCache::add(const PlanRecord& record) {
  PlanRecord kept = record;
  kept.source = "cached";
  plans_[{device_, cudnn_, plain(record.graph)}] = kept;
  if (!path_.empty()) write();
}

void PlanCache::write() {
  for (auto& [key, record] : read().plans) plans_.try_emplace(key, record);  // of processes that ran beside this one
  const fs::path temporary = path_.string() + fmt::format(".{}.part", getpid());
  std::error_code error;
  fs::create_directories(path_.parent_path(), error);
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << kFirstLine << "\n";
    for (const auto& [key, r] : plans_)
      file << fmt::format("{}\t{}\t{}\t{}\t{}\t{:.3f}\t{}\t{:.3g}\n", key[0], key[1], key[2], plain(r.plan),
                          r.workspace_bytes, r.microseconds, plain(r.checked_against), r.difference);
    file.close();
    if (file) fs::rename(temporary, path_, error);
    if (file && !error) return;
  }
  fs::remove(temporary, error);
  note_ = fmt::format("{} cannot be written; plans will be timed again by the next run", path_.string());
  path_.clear();
}

}  // namespace graft
