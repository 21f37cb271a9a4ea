// A study's report as one HTML file: no network, nothing to install, light and dark, for desktops, phones and paper.
// Behind every chart stands a table or a description with its numbers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "apps/report/examples.h"
#include "apps/report/report_charts.h"
#include "apps/report/report_numbers.h"

namespace graft {

/// What the page shows beside the report's numbers.
struct PageMaterial {
  std::string configuration;  // the study's file
  /// By the id of a cell: what happened inside its training, where that was recorded.
  std::map<std::string, InternalsMap> internals;
  std::vector<ExampleSheet> examples;  // one per group of the report, or none
  std::string program;                 // "graft 0.1.0"
  /// Of very large studies: without curves of the loss, and with reliability, confusion and internals of the best
  /// strategies alone.
  bool is_brief = false;
};

std::string report_page(const StudyReport& report, const PageMaterial& material);

// Parts of the page, in its order; markup. Groups are numbered from 0.

std::string score_map(const StudyReport& report, const std::string& network);
std::string pair_table(const StudyReport& report, const ReportGroup& group);
std::string group_section(const StudyReport& report, std::size_t group, const PageMaterial& material);
std::string trial_table(const StudyReport& report);

}  // namespace graft
