// A study's folder becomes its report: what is read besides the results, and the files that are written.
#pragma once

#include <filesystem>

#include "apps/report/report_numbers.h"
#include "strategies/progress.h"
#include "strategies/train_settings.h"

namespace graft {

/// What make_report() needs of a study that was read, its leakage.json included; without that file nothing was checked.
/// `threads`: 0 is all cores. `progress` must outlive the spec. Errors: a damaged leakage.json.
ReportSpec report_spec(const StudyResults& results, const BootstrapSpec& bootstrap, std::int64_t threads,
                       ProgressSink& progress);

/// Makes the folder of a report that is still to be computed. Errors: it cannot be made, or nothing can be written
/// there.
void check_report_folder(const std::filesystem::path& folder);

/// Writes report.html, report.json, report.csv, comparisons.csv, report.md and report.tex into a folder. Pictures with
/// Grad-CAM are computed on the device that `machine` names, from the weights that the study kept.
/// Errors: the folder cannot be written; the device cannot be used.
void write_report(const std::filesystem::path& folder, const StudyReport& report, TrainSettings& machine,
                  bool has_pictures, ProgressSink& progress);

}  // namespace graft
