#include "apps/report/write_report.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/report/report_page.h"
#include "apps/report/report_tables.h"
#include "apps/session.h"
#include "data/files.h"
#include "kernels/build_info.h"
#include "kernels/usable_cores.h"
#include "strategies/study/directory.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

/// leakage.json: an object with one report per data set. Without the file nothing was checked.
std::map<std::string, LeakageReport> read_leakage(const fs::path& file) {
  std::map<std::string, LeakageReport> leakage;
  if (!fs::exists(file)) return leakage;
  try {
    const auto all = nlohmann::json::parse(read_text(file));
    for (const auto& [dataset, report] : all.items()) leakage[dataset] = leakage_from_json(report.dump());
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

PageMaterial material_of(const StudyReport& report, TrainSettings& machine, bool has_pictures, ProgressSink& progress) {
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
  if (rest < 0) {
    material.examples.assign(report.groups.size(), {.why_none = "the page is as large as it should be without them"});
    progress.note(
        fmt::format("the page has {:.1f} MB without pictures; report a part of the study, fewer data sets or "
                    "networks, for a smaller one",
                    double(kPageBytes - rest) / 1e6));
    return material;
  }
  if (!has_pictures) return material;
  const Session session = open_session(machine);
  progress.note(session.heading);
  material.examples = example_sheets(*session.context, report, std::min(rest, kPictureBytes), progress);
  return material;
}

}  // namespace

ReportSpec report_spec(const StudyResults& results, const BootstrapSpec& bootstrap, std::int64_t threads,
                       ProgressSink& progress) {
  ReportSpec spec{.bootstrap = bootstrap, .leakage = read_leakage(StudyDirectory(results.directory).leakage())};
  spec.threads = threads > 0 ? int(threads) : usable_cores();
  spec.progress = [&progress](const std::string& what, std::int64_t done, std::int64_t all) {
    progress.advance({.pass = what, .done = done, .total = all});
  };
  return spec;
}

void check_report_folder(const fs::path& folder) {
  const AtomicFile trial(folder / "report.html");  // removed again
  if (!std::ofstream(trial.temporary()))
    throw Error(fmt::format("study report: cannot write into {}: {}; choose another -o", folder.string(),
                            std::strerror(errno)));
}

void write_report(const fs::path& folder, const StudyReport& report, TrainSettings& machine, bool has_pictures,
                  ProgressSink& progress) {
  const PageMaterial material = material_of(report, machine, has_pictures, progress);
  write_atomically(folder / "report.html", report_page(report, material));
  write_atomically(folder / "report.json", report_json(report));
  write_atomically(folder / "report.csv", scores_csv(report));
  write_atomically(folder / "comparisons.csv", comparisons_csv(report));
  write_atomically(folder / "report.md", report_markdown(report));
  write_atomically(folder / "report.tex", report_latex(report));
}

}  // namespace graft
