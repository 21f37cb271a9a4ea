// graft demo: a study of the eight strategies on images drawn here. The experiment is in demo_runs.h.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/demo_runs.h"
#include "apps/interrupt.h"
#include "apps/progress_display.h"
#include "apps/report/report_words.h"
#include "apps/report/write_report.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/study.h"
#include "apps/study_machine.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/files.h"
#include "kernels/usable_cores.h"
#include "strategies/study/results.h"

namespace graft {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

// Trainings of so small images use a core better than several.
constexpr std::int64_t kMostAtOnce = 4;

struct DemoOptions {
  SettingsOptions settings;
  std::string folder = "graft-demo";
  bool images_only = false, is_json = false, is_quiet = false;
};

/// Of the cells that have finished, in the study's order.
ordered_json json_of(const DemoResult& source, const StudyReport& report, const std::string& folder) {
  const StudyResults& study = *report.results;
  ordered_json all{{"folder", folder},
                   {"source", {{"seconds", source.seconds}, {"summary", ordered_json::parse(source.run.summary_json)}}},
                   {"study", (fs::path(folder) / "study").string()},
                   {"report", (fs::path(folder) / "study" / "report.html").string()},
                   {"verdict", verdict(report)},
                   {"target", ordered_json::array()}};
  for (const CellResult& cell : study.cells) {
    all["target"].push_back({{"strategy", cell.cell.strategy},
                             {"lr", cell.lr},
                             {"seconds", cell.train_seconds},
                             {"val_macro_accuracy", cell.val.macro_accuracy},
                             {"accuracy", cell.test.accuracy},
                             {"macro_accuracy", cell.test.macro_accuracy},
                             {"macro_f1", cell.test.macro_f1}});
  }
  return all;
}

std::string plain_text(const DemoResult& source, const StudyReport& report, const std::string& folder) {
  const StudyResults& study = *report.results;
  const auto total = [](DemoTask task, std::int64_t per_class) { return per_class * std::ssize(demo_classes(task)); };
  std::string text = fmt::format(
      "Source task: {} classes, {} training images; pre-trained to validation macro accuracy {:.3f} in {:.0f} s.\n"
      "Target task: {} other classes, {} training images, {} test images.\n\n",
      demo_classes(DemoTask::source).size(), total(DemoTask::source, kDemoSource.train), source.run.best_val_score,
      source.seconds, demo_classes(DemoTask::target).size(), total(DemoTask::target, kDemoTarget.train),
      total(DemoTask::target, kDemoTarget.test));
  TextTable table({"on the target task", "validation", "test accuracy", "macro F1", "seconds"});
  for (const CellResult& cell : study.cells) {
    table.add({cell.cell.strategy, fmt::format("{:.3f}", cell.val.macro_accuracy),
               fmt::format("{:.3f}", cell.test.accuracy), fmt::format("{:.3f}", cell.test.macro_f1),
               fmt::format("{:.0f}", cell.train_seconds)});
  }
  return text + table.text() +
         fmt::format(
             "\n{2}\n"
             "report: {0}/study/report.html\n\n"
             "Each row is a run under {0}/study/runs: settings, every epoch, predictions, weights. Go on with:\n"
             "  graft study status {0}/study.toml -o {0}/study\n"
             "  graft predict {0}/study/runs/{1} {0}/target/test/spiral/000.png\n",
             folder, study.cells.front().cell.id(), verdict(report));
}

int draw_images(const DemoOptions& options, const TrainSettings& base) {
  const DemoFolder claim(options.folder);
  draw_demo_images(options.folder, base);
  print_result(options.is_json ? ordered_json{{"folder", options.folder}}.dump() + "\n"
                               : fmt::format("images in {0}/source and {0}/target\n", options.folder));
  return 0;
}

int run_demo(DemoOptions& options) {
  TrainSettings base = options.settings.resolve();
  if (options.images_only) return draw_images(options, base);
  Session session = open_session(base);
  const DemoFolder claim(options.folder);
  const fs::path folder = options.folder;
  DemoResult source;
  {
    ProgressDisplay progress(options.is_quiet, session.heading);
    progress.note(fmt::format("drawing images into {}", options.folder));
    draw_demo_images(folder, base);
    const StopLater stop;  // the study stops in its own way
    source = pretrain(folder, base, *session.context, stop.flag(), progress);
    if (source.run.was_interrupted) {
      progress.note("interrupted; graft demo begins anew when it is run again");
      return kExitInterrupted;
    }
  }
  session.context.reset();  // the study's trainings are processes of their own
  write_atomically(folder / "study.toml", demo_study(base));
  const std::string command = fmt::format("graft study run {0}/study.toml -o {0}/study", options.folder);
  StudyDisplay display(options.is_quiet);
  display.note(
      fmt::format("\n{}\n$ {}", emphasised("eight strategies on the target task", Emphasis::bold, stderr), command));
  const StudyFile file = read_study_file((folder / "study.toml").string());
  const StudyDirectory directory(folder / "study");
  check_study(file.spec);
  claim_study_folder(directory);
  const std::int64_t available = base.threads > 0 ? base.threads : usable_cores();
  const bool is_cpu = parse_device(base.device).kind == DeviceKind::cpu;
  const StudyOutcome outcome = run_study_file(
      file, directory, {.jobs = is_cpu ? std::min(available, kMostAtOnce) : 0, .threads = base.threads}, display);
  if (outcome.was_interrupted) {
    display.note(fmt::format("interrupted; checkpoints are written, continue with: {}", command));
    return kExitInterrupted;
  }
  if (!outcome.failures.empty()) {
    throw Error(fmt::format("demo: {}: {}", outcome.failures.front().id, outcome.failures.front().error));
  }
  const StudyResults study = read_results(directory.path(), true);
  ProgressDisplay progress(options.is_quiet, "");
  const StudyReport report = make_report(study, report_spec(study, {}, base.threads, progress));
  progress.end_pass();
  write_report(directory.path(), report, base, true, progress);
  print_result(options.is_json ? json_of(source, report, options.folder).dump() + "\n"
                               : plain_text(source, report, options.folder));
  return 0;
}

}  // namespace

void add_demo_verb(Command& program) {
  Command verb = program.verb("demo", "A study of eight strategies on images drawn here; no download, some minutes");
  auto options = std::make_shared<DemoOptions>();
  verb.option({.flag = "-o,--output", .group = "Files", .help = "folder for images, model and study"}, options->folder);
  options->settings.add_to(verb, {"train.device", "train.threads", "train.seed"});
  verb.option({.flag = "--images-only", .group = "Files", .help = "draw the images and stop"}, options->images_only);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example("  graft demo -o graft-demo");
  verb.run([options] { return run_demo(*options); });
}

}  // namespace graft
