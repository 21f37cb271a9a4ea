#include "strategies/batches/leak_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "strategies/batches/split_batches.h"

namespace graft {
namespace {

constexpr std::string_view kSetting = "train.allow_leaks";

/// "/runs/a/" -> "/runs/a-leaks.csv".
std::string list_file(std::string output) {
  while (output.size() > 1 && output.ends_with('/')) output.pop_back();
  return output + "-leaks.csv";
}

/// Images that are there under two labels, of which one is wrong.
void note_contradictions(const Dataset& dataset, ProgressSink& progress) {
  if (dataset.copies() == nullptr) return;
  const auto sample = [&](std::int64_t i) -> const Sample& { return dataset.samples()[std::size_t(i)]; };
  std::int64_t count = 0;
  std::string example;
  for (const std::vector<std::int64_t>& set : dataset.copies()->equal) {
    const auto other =
        std::ranges::find_if(set, [&](std::int64_t i) { return sample(i).label != sample(set.front()).label; });
    if (other != set.end() && count++ == 0)
      example = fmt::format("{} and {}", sample(set.front()).path, sample(*other).path);
  }
  if (count > 0)
    progress.note(fmt::format("{} under two labels, such as {}; graft data inspect lists what is there twice",
                              count == 1 ? std::string("an image is there") : fmt::format("{} images are there", count),
                              example));
}

}  // namespace

std::optional<LeakageReport> check_leaks(const Dataset& dataset, const TrainSettings& s, ProgressSink& progress) {
  const std::vector<LeakKind> allowed = parse_leak_kinds(s.allow_leaks, kSetting);
  if (!s.leak_check) {
    progress.note("leaks between splits are not looked for (--no-leak-check)");
    return std::nullopt;
  }
  note_contradictions(dataset, progress);
  const LeakageReport report = find_leaks(dataset, loader_threads(s.loader_threads, s.threads));
  std::vector<std::string> refused;
  for (const LeakKind kind : kLeakKinds) {
    if (!report.has(kind)) continue;
    const bool is_allowed = std::ranges::find(allowed, kind) != allowed.end();
    if (is_allowed) {
      progress.note(fmt::format("allowed leaks, {}", count_text(report, kind)));
    } else {
      refused.emplace_back(to_string(kind));
    }
  }
  if (refused.empty()) return report;

  constexpr std::int64_t kShown = 3;
  const std::string file = list_file(s.output);
  write_atomically(file, leaks_csv(report));
  std::vector<std::string> names = refused;
  for (const LeakKind kind : allowed) names.emplace_back(to_string(kind));
  throw Error(fmt::format(
      "train: the splits of {} share images, so results on held-out images would say little (all are listed in {}); "
      "keep what belongs together in one split (a CSV with a group column), or allow it with --allow-leaks {}\n{}",
      s.data, file, fmt::join(names, ","), leaks_text(report, allowed, kShown)));
}

std::string leaks_summary(const std::optional<LeakageReport>& report, const TrainSettings& s) {
  nlohmann::ordered_json j{{"checked", report.has_value()}};
  if (!report) return j.dump();
  for (const LeakKind kind : kLeakKinds) {
    const LeakCount& count = report->count(kind);
    j[std::string(to_string(kind))] = {{"pairs", count.pairs}, {"images", count.images}};
  }
  j["held_out_images"] = report->held_out_images;
  j["allowed"] = nlohmann::ordered_json::array();
  for (const LeakKind kind : parse_leak_kinds(s.allow_leaks, kSetting)) j["allowed"].push_back(to_string(kind));
  return j.dump();
}

}  // namespace graft
