#include "strategies/training/finished_run.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "strategies/training/resume_check.h"

namespace graft {
namespace {

using Json = nlohmann::ordered_json;

/// Of the run that summary.json describes; empty if there is none.
Json summary_of(const RunDirectory& directory) {
  if (!directory.has("summary.json")) return {};
  Json summary = Json::parse(read_text(directory.file("summary.json")), nullptr, false);
  return summary.is_object() ? std::move(summary) : Json();
}

double number_in(const Json& object, const char* key) {
  return object.contains(key) && object[key].is_number() ? object[key].get<double>()
                                                         : std::numeric_limits<double>::quiet_NaN();
}

std::int64_t integer_in(const Json& object, const char* key) {
  return object.contains(key) && object[key].is_number_integer() ? object[key].get<std::int64_t>() : 0;
}

/// Of several labels per image; else none.
std::vector<ClassScores> classes_of(const Json& test) {
  std::vector<ClassScores> classes;
  for (const Json& c : test.value("classes", Json::array()))
    classes.push_back({.positives = integer_in(c, "positives"),
                       .auc = number_in(c, "auc"),
                       .average_precision = number_in(c, "average_precision"),
                       .sensitivity = number_in(c, "sensitivity"),
                       .specificity = number_in(c, "specificity"),
                       .f1 = number_in(c, "f1")});
  return classes;
}

/// The whole of it as a result.
RunResult result_of(const RunDirectory& directory, const Json& summary) {
  RunResult result;
  result.was_finished_before = true;
  result.epochs = integer_in(summary, "epochs");
  result.steps = integer_in(summary, "steps");
  result.best_epoch = integer_in(summary, "best_epoch");
  // A summary of an earlier version knows one score.
  result.best_val_score =
      number_in(summary, summary.contains("best_val_score") ? "best_val_score" : "best_val_macro_accuracy");
  result.monitor = summary.value("monitor", std::string("macro_accuracy"));
  result.summary_json = read_text(directory.file("summary.json"));
  if (!summary.contains("test") || summary["test"].is_null()) return result;
  const Json& t = summary["test"];
  result.has_test = true;
  Metrics& m = result.test;
  m = {.n = integer_in(t, "n"),
       .loss = number_in(t, "loss"),
       .accuracy = number_in(t, "accuracy"),
       .macro_accuracy = number_in(t, "macro_accuracy"),
       .macro_f1 = number_in(t, "macro_f1"),
       .kappa = number_in(t, "kappa"),
       .auc = number_in(t, "auc"),
       .average_precision = number_in(t, "average_precision"),
       .weighted_f1 = number_in(t, "weighted_f1"),
       .sensitivity = number_in(t, "sensitivity"),
       .specificity = number_in(t, "specificity"),
       .brier = number_in(t, "brier"),
       .calibration_error = number_in(t, "calibration_error"),
       .confusion = t.value("confusion", std::vector<std::vector<std::int64_t>>{}),
       .subset_accuracy = number_in(t, "subset_accuracy"),
       .of_classes = classes_of(t)};
  result.test.class_names = summary.value("class_names", std::vector<std::string>{});
  result.test.split = "test";
  return result;
}

}  // namespace

bool was_tested(const RunDirectory& directory) { return summary_of(directory).contains("test"); }

std::optional<RunResult> finished_result(const RunDirectory& directory, const TrainState& state) {
  const Json summary = summary_of(directory);
  const bool is_of_state =
      !summary.empty() && integer_in(summary, "epochs") == state.epoch && integer_in(summary, "steps") == state.steps;
  return is_of_state ? std::optional(result_of(directory, summary)) : std::nullopt;
}

std::optional<RunResult> finished_without_checkpoint(const TrainSettings& settings, std::string_view config_toml) {
  const RunDirectory directory(settings.output);
  if (!settings.resume || directory.has("last.h5")) return {};
  const Json summary = summary_of(directory);
  if (summary.empty()) return {};
  check_same_run(directory, config_toml, directory.has("split.csv") ? read_text(directory.file("split.csv")) : "");
  const bool was_stopped =
      settings.max_steps >= 0 || (summary.contains("stopped_early") && summary["stopped_early"] == true);
  const bool is_whole = integer_in(summary, "epochs") == settings.epochs || was_stopped;
  if (!is_whole || !other_epochs_note(directory, config_toml).empty())
    throw Error(
        fmt::format("train: the run in {} ended after {} epochs and its last.h5 is gone, so it cannot go on; "
                    "--overwrite trains it anew",
                    settings.output, integer_in(summary, "epochs")));
  return result_of(directory, summary);
}

}  // namespace graft
