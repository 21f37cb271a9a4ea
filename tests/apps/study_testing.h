// Made-up results of studies, in memory and as a folder on disk, so that reports can be tested without a training.
#pragma once

#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "apps/report/report_numbers.h"
#include "strategies/study/results.h"

namespace graft::testing {

inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct MadeUpDataset {
  std::string name;
  std::vector<std::string> class_names;
  std::int64_t images = 60;    // of the test split, classes in turn
  double ease = 1;             // how far right answers stand out, in standard deviations of the noise
  std::int64_t per_group = 0;  // images of one patient; 0: no patients
};

struct MadeUpStudy {
  std::vector<std::string> networks{"resnet50"};
  std::vector<MadeUpDataset> datasets{{"chest", {"clear", "pneumonia"}}};
  std::vector<std::string> strategies{"full", "lp-ft"};
  std::vector<double> skills{};  // added to the ease, one per strategy; none: all alike
  std::int64_t seeds = 2, epochs = 4, folds = 0, trials = 0;
};

/// Everything finished. Answers depend on names, seed and image alone.
StudyResults made_up_results(const MadeUpStudy& study);

/// The cell with this id, to be changed.
CellResult& cell_of(StudyResults& results, const std::string& id);

/// Writes what read_results() reads: study.json, study.toml, and of each cell the files that its state has.
void write_study(const StudyResults& results, const std::filesystem::path& folder);

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// How often it holds the part.
inline std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) ++count;
  return count;
}

/// With few resamples.
StudyReport quick_report(const StudyResults& results);

}  // namespace graft::testing
