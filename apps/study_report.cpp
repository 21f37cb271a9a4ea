// graft study report: what a study shows, finished or not, as a page and as tables.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "apps/progress_display.h"
#include "apps/report/report_page.h"
#include "apps/report/report_tables.h"
#include "apps/report/report_words.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/study.h"
#include "apps/terminal.h"
#include "data/files.h"
#include "kernels/build_info.h"
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
  return fs::is_directory(name) ? fs::path(name) : directory_of(options.study).path();
}

/// The table that was asked for on stdout; empty: the files.
std::string asked_table(const ReportOptions& options, const StudyReport& report) {
  if (options.study.is_json) return report_json(report);
  if (options.is_csv) return scores_csv(report);
  if (options.is_markdown) return report_markdown(report);
  return options.is_latex ? report_latex(report) : std::string();
}

/// leakage.json: an object with one report per data set. Without the file nothing was checked.
std::map<std::string, LeakageReport> read_leakage(const fs::path& file) {
  std::map<std::string, LeakageReport> leakage;
  if (!fs::exists(file)) return leakage;
  try {
    for (const auto& [dataset, report] : nlohmann::json::parse(read_text(file)).items())
      leakage[dataset] = leakage_from_json(report.dump());
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("study report: {} is damaged ({}); remove it and run the study again", file.string(),
                            error.what()));
  }
  return leakage;
}

/// Of the first recorded seed of each strategy.
std::map<std::string, InternalsMap> read_maps(const StudyReport& report, ProgressSink& progress) {
  std::map<std::string, InternalsMap> maps;
  for (const ReportGroup& group : report.groups) {
    for (const ReportEntry& entry : group.entries) {
      for (const CellResult* cell : entry.cells) {
        const fs::path file = cell->directory / "internals.h5";
        if (!fs::exists(file)) continue;
        try {
          maps[cell->cell.id()] = internals_map(read_internals(file));
          break;
        } catch (const Error& error) {
          progress.note(error.what());
        }
      }
    }
  }
  return maps;
}

PageMaterial material_of(ReportOptions& options, const StudyReport& report, ProgressSink& progress) {
  constexpr std::int64_t kPageBytes = 2'900'000, kPictureBytes = 1'400'000;
  PageMaterial material{.program = fmt::format("graft {}", build_info().version)};
  const fs::path file = report.results->directory / "study.toml";
  if (fs::exists(file)) material.configuration = read_text(file);
  material.internals = read_maps(report, progress);
  material.examples.assign(report.groups.size(), {.why_none = "left out by --no-pictures"});
  std::int64_t rest = kPageBytes - std::ssize(report_page(report, material));
  if (rest < 0) {
    material.is_brief = true;
    rest = kPageBytes - std::ssize(report_page(report, material));
  }
  if (!options.has_pictures) return material;
  TrainSettings settings = options.settings.resolve();
  const Session session = open_session(settings);
  progress.note(session.heading);
  material.examples = example_sheets(*session.context, report, std::min(rest, kPictureBytes));
  return material;
}

void write_files(const fs::path& folder, const StudyReport& report, const PageMaterial& material) {
  write_atomically(folder / "report.html", report_page(report, material));
  write_atomically(folder / "report.json", report_json(report));
  write_atomically(folder / "report.csv", scores_csv(report));
  write_atomically(folder / "comparisons.csv", comparisons_csv(report));
  write_atomically(folder / "report.md", report_markdown(report));
  write_atomically(folder / "report.tex", report_latex(report));
}

int run_study_report(ReportOptions& options) {
  if (int(options.study.is_json) + int(options.is_csv) + int(options.is_markdown) + int(options.is_latex) > 1)
    throw UsageError("study report: --json, --csv, --markdown and --latex exclude each other; give one");
  const fs::path folder = study_folder(options);
  const StudyResults results = read_results(folder, true);
  ProgressDisplay progress(options.study.is_quiet, "study: " + results.directory.string());
  ReportSpec spec{.bootstrap = options.bootstrap, .leakage = read_leakage(StudyDirectory(results.directory).leakage())};
  const std::int64_t threads = options.settings.resolve().threads;
  spec.threads = threads > 0 ? int(threads) : int(std::thread::hardware_concurrency());
  spec.progress = [&](const std::string& what, std::int64_t done, std::int64_t all) {
    progress.advance({.pass = what, .done = done, .total = all});
  };
  const StudyReport report = make_report(results, spec);
  progress.end_pass();
  if (const std::string table = asked_table(options, report); !table.empty()) {
    print_result(table);
    return 0;
  }
  const fs::path output = options.study.output.empty() ? folder : fs::path(options.study.output);
  const PageMaterial material = material_of(options, report, progress);
  print_result(report_text(report));
  write_files(output, report, material);
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
  verb.option(
      {.flag = "--no-pictures", .group = "Report", .help = "leave out images with Grad-CAM", .flag_value = false},
      options->has_pictures);
  options->settings.add_to(verb, {"train.device", "train.threads"});
  verb.example(
      "  graft study report study.toml\n"
      "  graft study report study/ --markdown\n"
      "  graft study report study/ -o report/ --no-pictures");
  verb.run([options] { return run_study_report(*options); });
}

}  // namespace graft
