#include "apps/report/report_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

namespace graft {

std::string words_of(Score score) {
  switch (score) {
    case Score::accuracy:
      return "accuracy";
    case Score::macro_accuracy:
      return "macro accuracy";
    case Score::macro_f1:
      return "macro F1";
    case Score::weighted_f1:
      return "weighted F1";
    case Score::kappa:
      return "Cohen's κ";
    case Score::auc:
      return "area under the ROC curve";
    case Score::average_precision:
      return "average precision";
    case Score::sensitivity:
      return "sensitivity";
    case Score::specificity:
      return "specificity";
    case Score::brier:
      return "Brier score";
    case Score::calibration_error:
      return "calibration error";
    case Score::log_loss:
      return "log loss";
  }
  return std::string(name(score));
}

std::string selection_words(const StudySpec& spec) {
  const std::optional<Score> selection = score_named(spec.selection);
  return selection ? words_of(*selection) : spec.selection;  // "loss" is a word
}

std::string heading_of(Score score) {
  std::string words = words_of(score);
  words[0] = char(std::toupper(static_cast<unsigned char>(words[0])));
  return words;
}

std::string doubt_text(const StudyReport& report) {
  return std::ranges::any_of(report.groups, &ReportGroup::is_multi_label)
             ? "fewer than 10 independent cases are of a class, or of several labels lack it"
             : "a class has fewer than 10 independent cases";
}

std::string number_text(double value) { return std::isfinite(value) ? fmt::format("{:.3f}", value) : "–"; }

std::string signed_text(double value) { return std::isfinite(value) ? fmt::format("{:+.3f}", value) : "–"; }

std::string range_text(double low, double high) {
  if (!std::isfinite(low) || !std::isfinite(high)) return "–";
  return low < 0 ? fmt::format("{:.3f} to {:.3f}", low, high) : fmt::format("{:.3f}–{:.3f}", low, high);
}

std::string p_text(double p) {
  if (!std::isfinite(p)) return "–";
  return p < 0.001 ? "< 0.001" : p >= 0.9995 ? "1" : fmt::format("{:.3f}", p);
}

std::string rate_text(double lr) {
  if (!std::isfinite(lr) || lr <= 0) return "–";
  const int power = int(std::floor(std::log10(lr) + 1e-9));
  return fmt::format("{:.2g}e{}", lr / std::pow(10, power), power);
}

std::string time_text(double seconds) {
  if (!std::isfinite(seconds)) return "–";
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = std::int64_t(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string counted(std::int64_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  return text;
}

std::string place_text(const StudyReport& report, const ReportGroup& group) {
  return group.dataset + (report.results->spec.networks.size() > 1 ? " with " + group.network : "");
}

std::string title_text(const StudyReport& report) {
  const StudySpec& spec = report.results->spec;
  if (!spec.title.empty()) return spec.title;
  constexpr std::size_t kNamed = 3;
  std::vector<std::string> datasets;
  for (const StudyDataset& dataset : spec.datasets) datasets.push_back(dataset.name);
  return fmt::format(
      "Study of {} on {}",
      spec.strategies.size() == 1 ? spec.strategies[0].name : fmt::format("{} strategies", spec.strategies.size()),
      datasets.size() > kNamed ? fmt::format("{} data sets", datasets.size()) : listed(datasets));
}

std::string without_folders(const StudyReport& report, std::string text) {
  std::vector<std::filesystem::path> folders{report.results->directory};
  for (const StudyDataset& dataset : report.results->spec.datasets) {
    const std::filesystem::path path(dataset.path);
    folders.push_back(path.has_extension() ? path.parent_path() : path);
  }
  for (const std::filesystem::path& folder : folders) {
    const std::string prefix = folder.string() + "/";
    if (prefix.size() < 2) continue;
    for (std::size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at))
      text.erase(at, prefix.size());
  }
  return text;
}

std::string time_note(const StudyReport& report) {
  const StudySpec& spec = report.results->spec;
  const auto keeps_features = [](const KeyedSettings& settings) {
    return std::ranges::none_of(settings, [](const auto& setting) {
      return setting.first == "train.feature_cache" && setting.second == SettingValue(false);
    });
  };
  constexpr std::string_view kFreezing[] = {"linear-probe", "lp-ft", "gradual-last-first", "gradual-first-last"};
  std::vector<std::string> names;
  for (const StudyStrategy& strategy : spec.strategies)
    if (std::ranges::find(kFreezing, strategy.strategy) != std::end(kFreezing) && keeps_features(spec.train) &&
        keeps_features(strategy.settings))
      names.push_back(strategy.name);
  if (names.empty()) return {};
  return fmt::format(
      "Times are those of training passes: what frozen blocks give for the images is computed beforehand, once for all "
      "trainings that need it, and is in none of them. Run alone, {} would take longer.",
      listed(names));
}

std::vector<std::string> missing(const StudyReport& report) {
  std::vector<std::string> lines;
  const auto has_begun = [](const ReportEntry& entry) {
    return std::ranges::any_of(entry.cells,
                               [](const CellResult* cell) { return cell->runs || cell->state != CellState::pending; });
  };
  for (const ReportGroup& group : report.groups) {
    if (std::ranges::none_of(group.entries, has_begun)) {
      lines.push_back(fmt::format("{}: no training has begun", place_text(report, group)));
      continue;
    }
    for (const ReportEntry& entry : group.entries) {
      std::vector<std::string> ids;
      for (const CellResult* cell : entry.cells) {
        if (cell->state == CellState::failed)
          lines.push_back(fmt::format("{} failed: {}", cell->cell.id(), without_folders(report, cell->error)));
        else if (cell->state != CellState::finished)
          ids.push_back(fmt::format("seed {}{}{}", cell->cell.seed,
                                    cell->cell.fold >= 0 ? fmt::format(" fold {}", cell->cell.fold) : "",
                                    cell->runs                          ? " (running)"
                                    : cell->state == CellState::partial ? " (interrupted)"
                                                                        : ""));
      }
      if (!ids.empty())
        lines.push_back(fmt::format("{} on {}: {}", entry.strategy, place_text(report, group), listed(ids)));
    }
  }
  return lines;
}

}  // namespace graft
