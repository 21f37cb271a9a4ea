// graft evaluate: a model's scores on one split of an image set.
#include "strategies/training/evaluate.h"
#include "apps/progress_display.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "apps/verbs.h"

namespace graft {
namespace {

struct EvaluateOptions {
  SettingsOptions settings;
  EvaluateSettings job;
  bool is_quiet = false, is_json = false;
};

int run_evaluate(EvaluateOptions& options) {
  EvaluateSettings& job = options.job;
  if (job.model.empty()) throw UsageError("evaluate: no model given; name a run directory or a model file");
  TrainSettings settings = options.settings.resolve();
  if (job.data.empty()) throw UsageError("evaluate: no data given; name a folder, a CSV or an .npz after the model");
  if (options.settings.is_given("train.batch")) job.batch = settings.batch;
  job.threads = settings.threads, job.seed = settings.seed, job.size = settings.size;
  job.val_fraction = settings.val_fraction, job.test_fraction = settings.test_fraction;
  job.skip_bad = settings.skip_bad;

  Session session = open_session(settings);
  ProgressDisplay progress(options.is_quiet, session.heading);
  const EvaluationResult result = evaluate(*session.context, job, progress);
  print_result(options.is_json ? to_json(result) + "\n" : evaluation_text(result));
  return 0;
}

}  // namespace

void add_evaluate_verb(Command& program) {
  Command verb = program.verb("evaluate", "Score a model on an image set");
  auto options = std::make_shared<EvaluateOptions>();
  verb.argument("MODEL", "Run directory or model file", options->job.model);
  verb.argument("DATA", "Folder, CSV or .npz", options->job.data);
  verb.option(
      {.flag = "--split", .group = "Data", .help = "images to score", .choices = {"train", "val", "test", "all"}},
      options->job.split);
  options->settings.add_to(
      verb, {"train.batch", "train.size", "train.val_fraction", "train.test_fraction", "train.skip_bad", "train.device",
             "train.threads", "train.seed", "train.precision", "train.winograd"});
  verb.option({.flag = "--intervals",
               .group = "Output",
               .help = "add 95 % intervals: where the scores lie on further images like these"},
              options->job.intervals);
  verb.option({.flag = "--predictions",
               .group = "Output",
               .help = "CSV to write: path, split, label, predicted class and probabilities of each image"},
              options->job.predictions);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example(
      "  graft evaluate runs/first images/ --split test --json\n"
      "  graft evaluate runs/first elsewhere.csv --split all --intervals");
  verb.run([options] { return run_evaluate(*options); });
}

}  // namespace graft
