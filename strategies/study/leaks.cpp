#include "strategies/study/leaks.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "data/files.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// Errors: a leak that the dataset does not allow. `file` lists all; empty: none does.
void refuse_leaks(const LeakageReport& leaks, const StudyDataset& dataset, const fs::path& file) {
  constexpr std::int64_t kShown = 3;
  const auto allowed = parse_leak_kinds(fmt::format("{}", fmt::join(dataset.allow, ",")), "study.datasets");
  const std::string list = leaks_text(leaks, allowed, kShown);
  if (list.empty()) return;
  std::vector<std::string> names;
  for (const LeakKind kind : kLeakKinds)
    if (leaks.has(kind) || std::ranges::find(allowed, kind) != allowed.end())
      names.push_back(fmt::format("\"{}\"", to_string(kind)));
  throw Error(fmt::format(
      "study: the splits of {} ({}) share images, so results on them would say little{}; keep "
      "what belongs together in one split (a CSV with a group column), or allow it in the study's file: {} = {{ path = "
      "\"{}\", allow = [{}] }}\n{}",
      dataset.name, dataset.path, file.empty() ? "" : fmt::format(" (all are listed in {})", file.string()),
      dataset.name, dataset.path, fmt::join(names, ", "), list));
}

/// Of the split that leaks most.
const LeakageReport& worst_leaks(const std::vector<StudySplit>& splits) {
  const auto pairs = [](const StudySplit& split) {
    std::int64_t sum = 0;
    for (const LeakKind kind : kLeakKinds) sum += split.leaks.count(kind).pairs;
    return sum;
  };
  return std::ranges::max_element(splits, {}, pairs)->leaks;
}

/// leakage.json; an empty object without it.
Json noted_leaks(const StudyDirectory& directory) {
  std::error_code error;
  if (!fs::exists(directory.leakage(), error)) return Json::object();
  Json all = Json::parse(read_text(directory.leakage()), nullptr, false);
  return all.is_object() ? all : Json::object();
}

std::optional<LeakageReport> noted_leaks(const StudyDirectory& directory, const StudyDataset& dataset) {
  const Json all = noted_leaks(directory);
  const auto found = all.find(dataset.name);
  if (found == all.end()) return std::nullopt;
  return leakage_from_json(found->dump());
}

}  // namespace

void judge_leaks(const std::vector<StudySplit>& splits, const StudyDataset& dataset, const StudyDirectory& directory) {
  const LeakageReport& leaks = worst_leaks(splits);
  const bool is_known = leaks.images > 0;
  Json all = noted_leaks(directory);
  if (!is_known && !all.contains(dataset.name)) return;
  if (is_known)
    all[dataset.name] = Json::parse(to_json(leaks));
  else
    all.erase(dataset.name);  // what is noted there is of splits that were given up
  write_atomically(directory.leakage(), all.dump() + "\n");
  refuse_leaks(leaks, dataset, directory.leakage());
}

void judge_leaks_again(const StudySpec& spec, const StudyDataset& dataset, const StudyDirectory& directory,
                       int threads) {
  if (!looks_for_leaks(spec)) return;
  if (const std::optional<LeakageReport> noted = noted_leaks(directory, dataset))
    return refuse_leaks(*noted, dataset, directory.leakage());
  judge_leaks(make_splits(spec, dataset, true, threads), dataset, directory);
}

bool has_fixed_splits(const StudySpec& spec, const StudyDataset& dataset, const StudyDirectory& directory) {
  std::error_code error;
  const fs::path key = directory.split_key(dataset.name);
  return fs::exists(key, error) && read_text(key) == split_key(spec, dataset) + "\n";
}

bool foresee_leaks(const StudySpec& spec, const StudyDataset& dataset, const StudyDirectory& directory,
                   const LeakForecast& call) {
  if (!looks_for_leaks(spec)) return true;
  if (has_fixed_splits(spec, dataset, directory)) {
    if (const std::optional<LeakageReport> noted = noted_leaks(directory, dataset)) {
      refuse_leaks(*noted, dataset, directory.leakage());
      return true;
    }
  }
  const Dataset listed = Dataset::open(
      {.path = dataset.path, .val_fraction = 0, .test_fraction = 0, .decodes_all = false, .for_training = false});
  if (listed.size() > call.most_images) return false;
  refuse_leaks(worst_leaks(make_splits(spec, dataset, true, call.threads)), dataset, {});
  return true;
}

}  // namespace graft
