// graft predict: the most probable classes of images.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/progress_display.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/csv.h"
#include "strategies/training/predict.h"

namespace graft {
namespace {

struct PredictOptions {
  SettingsOptions settings;
  PredictSettings job;
  std::int64_t top = 5;
  bool shows_logits = false, is_json = false, is_csv = false, is_quiet = false;
};

std::string label_of(const PredictResult& result, std::int64_t index) {
  const auto i = static_cast<std::size_t>(index);
  return i < result.class_names.size() ? result.class_names[i] : fmt::format("class {}", index);
}

/// Whether the class is among the answers of a model for several labels per image.
bool is_yes(const PredictResult& result, const Prediction& prediction, std::int64_t index) {
  return result.is_multi_label && prediction.probabilities[static_cast<std::size_t>(index)] > 0.5;
}

/// As many as asked for, and all answers.
std::vector<std::int64_t> shown(const PredictResult& result, const Prediction& prediction,
                                const PredictOptions& options) {
  const std::vector<std::int64_t> all = prediction.ranking(std::ssize(prediction.probabilities));
  const std::int64_t answers =
      std::ranges::count_if(all, [&](std::int64_t index) { return is_yes(result, prediction, index); });
  return prediction.ranking(std::max(options.top, answers));
}

std::string json_text(const PredictResult& result, const PredictOptions& options) {
  using nlohmann::ordered_json;
  ordered_json images = ordered_json::array();
  for (const Prediction& prediction : result.images) {
    ordered_json top = ordered_json::array(), answers = ordered_json::array();
    for (std::int64_t index : shown(result, prediction, options)) {
      const double probability = prediction.probabilities[static_cast<std::size_t>(index)];
      top.push_back({{"index", index}, {"label", label_of(result, index)}, {"probability", probability}});
      if (is_yes(result, prediction, index)) answers.push_back(label_of(result, index));
    }
    ordered_json image{{"path", prediction.path}, {"top", std::move(top)}};
    if (result.is_multi_label) image["predicted"] = std::move(answers);
    if (options.shows_logits) image["logits"] = prediction.logits;
    images.push_back(std::move(image));
  }
  const ordered_json all{{"model", result.model}, {"images", std::move(images)}};
  return all.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

/// One line per image and class: path,rank,index,label,probability[,logit][,predicted].
std::string csv_text(const PredictResult& result, const PredictOptions& options) {
  std::string text = fmt::format("path,rank,index,label,probability{}{}\n", options.shows_logits ? ",logit" : "",
                                 result.is_multi_label ? ",predicted" : "");
  for (const Prediction& prediction : result.images) {
    int rank = 0;
    for (std::int64_t index : shown(result, prediction, options)) {
      const auto i = static_cast<std::size_t>(index);
      text += fmt::format("{},{},{},{},{:.9g}", csv_field(prediction.path), ++rank, index,
                          csv_field(label_of(result, index)), prediction.probabilities[i]);
      if (options.shows_logits) text += fmt::format(",{:.9g}", prediction.logits[i]);
      if (result.is_multi_label) text += is_yes(result, prediction, index) ? ",1" : ",0";
      text += "\n";
    }
  }
  return text;
}

std::string plain_text(const PredictResult& result, const PredictOptions& options) {
  std::string text;
  for (const Prediction& prediction : result.images) {
    text += emphasised(prediction.path, Emphasis::bold, stdout) + "\n";
    for (std::int64_t index : shown(result, prediction, options)) {
      const auto i = static_cast<std::size_t>(index);
      text += fmt::format("{} {:6.2f} %  {:>4}  {}", is_yes(result, prediction, index) ? '*' : ' ',
                          100 * prediction.probabilities[i], index, label_of(result, index));
      text += options.shows_logits ? fmt::format("  (logit {:.5g})\n", prediction.logits[i]) : "\n";
    }
  }
  return text;
}

/// One line; the reasons, which name the images, stand above it where there are several.
[[noreturn]] void refuse_unreadable(const PredictResult& result) {
  const std::vector<BadImage>& bad = result.unreadable;
  if (bad.size() == 1) throw Error("predict: " + bad.front().reason);
  std::string text = fmt::format("predict: {} of {} images cannot be read; repair them or leave them out", bad.size(),
                                 bad.size() + result.images.size());
  for (const BadImage& image : bad) text += "\n  " + image.reason;
  throw Error(text);
}

int run_predict(PredictOptions& options) {
  PredictSettings& job = options.job;
  if (job.model.empty()) throw UsageError("predict: no model given; name a run directory or a model file");
  if (job.images.empty()) throw UsageError("predict: no images given; name files or folders after the model");
  if (options.is_json && options.is_csv) throw UsageError("predict: --json and --csv exclude each other; give one");
  TrainSettings settings = options.settings.resolve();
  if (options.settings.is_given("train.batch")) job.batch = settings.batch;
  job.threads = settings.threads, job.size = settings.size;

  Session session = open_session(settings);
  ProgressDisplay progress(options.is_quiet, session.heading);
  const PredictResult result = predict(*session.context, job, progress);
  if (result.images.empty() && !result.unreadable.empty()) refuse_unreadable(result);
  print_result(options.is_json  ? json_text(result, options)
               : options.is_csv ? csv_text(result, options)
                                : plain_text(result, options));
  if (!result.unreadable.empty()) refuse_unreadable(result);
  return 0;
}

}  // namespace

void add_predict_verb(Command& program) {
  Command verb = program.verb("predict", "Classify images");
  auto options = std::make_shared<PredictOptions>();
  verb.argument("MODEL", "Run directory or model file", options->job.model);
  verb.arguments("IMAGE", "Files and folders, searched to the bottom", options->job.images);
  verb.option({.flag = "--top",
               .group = "Output",
               .help = "classes to show per image; of a model for several labels at least those above 0.5, "
                       "marked with *",
               .min = 1},
              options->top);
  verb.option({.flag = "--logits", .group = "Output", .help = "add the logits"}, options->shows_logits);
  verb.output_options(options->is_json, options->is_quiet);
  verb.option({.flag = "--csv", .group = "Output", .help = "print path,rank,index,label,probability"}, options->is_csv);
  options->settings.add_to(verb, {"train.batch", "train.size", "train.device", "train.threads", "train.seed",
                                  "train.precision", "train.winograd"});
  verb.example("  graft predict resnet50.h5 photo.jpg photos/ --top 3 --json");
  verb.run([options] { return run_predict(*options); });
}

}  // namespace graft
