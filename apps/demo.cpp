// graft demo: what pre-training is worth, shown on images drawn here. The experiment is in demo_runs.h.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/demo_runs.h"
#include "apps/interrupt.h"
#include "apps/progress_display.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "apps/verbs.h"

namespace graft {
namespace {

using nlohmann::ordered_json;

struct DemoOptions {
  SettingsOptions settings;
  std::string folder = "graft-demo";
  bool images_only = false, is_json = false, is_quiet = false;
};

ordered_json result_json(const DemoResult& result) {
  return {{"name", result.step.name},
          {"title", result.step.title},
          {"seconds", result.seconds},
          {"summary", ordered_json::parse(result.run.summary_json)}};
}

std::string json_text(const DemoReport& report) {
  ordered_json all{{"source", result_json(report.source)}, {"target", ordered_json::array()}};
  for (const DemoResult& result : report.target) all["target"].push_back(result_json(result));
  return all.dump() + "\n";
}

std::string plain_text(const DemoReport& report, const std::string& folder) {
  const auto total = [](DemoTask task, std::int64_t per_class) { return per_class * std::ssize(demo_classes(task)); };
  std::string text = fmt::format(
      "Source task: {} classes, {} training images; pre-trained to validation macro accuracy {:.3f} in {:.0f} s.\n"
      "Target task: {} other classes, {} training images, {} test images.\n\n",
      demo_classes(DemoTask::source).size(), total(DemoTask::source, kDemoSource.train),
      report.source.run.best_val_macro_accuracy, report.source.seconds, demo_classes(DemoTask::target).size(),
      total(DemoTask::target, kDemoTarget.train), total(DemoTask::target, kDemoTarget.test));
  TextTable table({"on the target task", "validation", "test accuracy", "macro F1", "seconds"});
  for (const DemoResult& result : report.target) {
    table.add({result.step.title, fmt::format("{:.3f}", result.run.best_val_macro_accuracy),
               fmt::format("{:.3f}", result.run.test.accuracy), fmt::format("{:.3f}", result.run.test.macro_f1),
               fmt::format("{:.0f}", result.seconds)});
  }
  return text + table.text() +
         fmt::format(
             "\nEach row is a run under {0}/runs: settings, every epoch, predictions, weights. Go on with:\n"
             "  graft predict {0}/runs/full {0}/target/test/spiral/000.png\n"
             "  graft weights inspect {0}/pretrained.h5\n",
             folder);
}

int draw_images(const DemoOptions& options, const TrainSettings& base) {
  claim_demo_folder(options.folder);
  draw_demo_images(options.folder, base);
  print_result(options.is_json ? ordered_json{{"folder", options.folder}}.dump() + "\n"
                               : fmt::format("images in {0}/source and {0}/target\n", options.folder));
  return 0;
}

int run_demo(DemoOptions& options) {
  TrainSettings base = options.settings.resolve();
  if (options.images_only) return draw_images(options, base);
  const StopLater stop;
  Session session = open_session(base);
  claim_demo_folder(options.folder);
  ProgressDisplay progress(options.is_quiet, session.heading);
  const DemoReport report = run_demo_steps(options.folder, base, *session.context, stop.flag(), progress);
  if (report.was_interrupted) return kExitInterrupted;
  progress.note("");
  print_result(options.is_json ? json_text(report) : plain_text(report, options.folder));
  return 0;
}

}  // namespace

void add_demo_verb(Command& program) {
  Command verb = program.verb("demo", "Pre-train and fine-tune on images drawn here; no download, four minutes");
  auto options = std::make_shared<DemoOptions>();
  verb.option({.flag = "-o,--output", .group = "Files", .help = "folder for images and runs"}, options->folder);
  options->settings.add_to(verb, {"train.device", "train.threads", "train.seed"});
  verb.option({.flag = "--images-only", .group = "Files", .help = "draw the images and stop"}, options->images_only);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example("  graft demo -o graft-demo");
  verb.run([options] { return run_demo(*options); });
}

}  // namespace graft
