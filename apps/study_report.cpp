// graft study report: what a study shows, finished or not, as a page and as tables.
#include <fmt/format.h>

#include <filesystem>

#include "apps/progress_display.h"
#include "apps/report/report_tables.h"
#include "apps/report/write_report.h"
#include "apps/settings_options.h"
#include "apps/study.h"
#include "apps/terminal.h"
#include "strategies/study/results.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

struct ReportOptions {
  StudyOptions study;  // file: the study's file, or its folder
  SettingsOptions settings;
  BootstrapSpec bootstrap;
  bool is_csv = false, is_markdown = false, is_latex = false, has_pictures = true;
};

/// A folder is the study's own, and -o says where the files go; a file is read as by the other verbs.
fs::path study_folder(const ReportOptions& options) {
  const std::string& name = options.study.file;
  return fs::is_directory(name) ? fs::path(name) : existing_directory(options.study).path();
}

/// Tables that are asked for on stdout; without one the files are written.
int asked_tables(const ReportOptions& options) {
  return int(options.study.is_json) + int(options.is_csv) + int(options.is_markdown) + int(options.is_latex);
}

/// The table that was asked for; empty: the files.
std::string asked_table(const ReportOptions& options, const StudyReport& report) {
  if (options.study.is_json) return report_json(report);
  if (options.is_csv) return scores_csv(report);
  if (options.is_markdown) return report_markdown(report);
  return options.is_latex ? report_latex(report) : std::string();
}

int run_study_report(ReportOptions& options) {
  if (asked_tables(options) > 1)
    throw UsageError("study report: --json, --csv, --markdown and --latex exclude each other; give one");
  const fs::path folder = study_folder(options);
  const StudyResults results = read_results(folder, true);
  const fs::path output = options.study.output.empty() ? folder : fs::path(options.study.output);
  if (asked_tables(options) == 0) check_report_folder(output);
  ProgressDisplay progress(options.study.is_quiet, "study: " + results.directory.string());
  TrainSettings machine = options.settings.resolve();
  const StudyReport report = make_report(results, report_spec(results, options.bootstrap, machine.threads, progress));
  progress.end_pass();
  if (const std::string table = asked_table(options, report); !table.empty()) {
    print_result(table);
    return 0;
  }
  print_result(report_text(report));
  write_report(output, report, machine, options.has_pictures, progress);
  if (!options.study.is_quiet)
    print_note(fmt::format("{}: report.html, report.json, report.csv, comparisons.csv, report.md, report.tex",
                           output.string()));
  return 0;
}

}  // namespace

void add_study_report_verb(Command& study) {
  Command verb = study.verb("report", "Say what a study shows: a page, tables, a verdict");
  auto options = std::make_shared<ReportOptions>();
  verb.argument("STUDY", "The study's file, TOML, or its folder", options->study.file);
  verb.option(
      {.flag = "-o,--output",
       .group = "Files",
       .help = "of a file: the study's folder; of a folder: where the report goes (default: the study's folder)"},
      options->study.output);
  verb.output_options(options->study.is_json, options->study.is_quiet);
  verb.option({.flag = "--csv", .group = "Output", .help = "print every score as CSV"}, options->is_csv);
  verb.option({.flag = "--markdown", .group = "Output", .help = "print tables as Markdown"}, options->is_markdown);
  verb.option({.flag = "--latex", .group = "Output", .help = "print tables as LaTeX (booktabs)"}, options->is_latex);
  verb.option({.flag = "--resamples",
               .group = "Report",
               .help = "random draws for intervals and p values",
               .min = 100,
               .max = 1e6},
              options->bootstrap.resamples);
  verb.option({.flag = "--no-pictures", .group = "Report", .help = "show images with Grad-CAM", .flag_value = false},
              options->has_pictures);
  options->settings.add_to(verb, {"train.device", "train.threads"});
  verb.example(
      "  graft study report study.toml\n"
      "  graft study report study/ --markdown\n"
      "  graft study report study/ -o report/ --no-pictures");
  verb.run([options] { return run_study_report(*options); });
}

}  // namespace graft
