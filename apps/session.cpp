#include "apps/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/terminal.h"
#include "kernels/build_info.h"

namespace graft {

namespace {

/// "bf16, float32 masters".
std::string precision_text(const Backend& backend, Precision precision) {
  const bool is_double = backend.compute_type() == DType::f64;
  const std::string masters = is_double ? "float64 masters" : "float32 masters";
  switch (precision) {
    case Precision::f32:
      return is_double ? "f64" : "f32";
    case Precision::tf32:
      return "tf32: float32, products with 10 fraction bits";
    case Precision::bf16:
      return "bf16, " + masters;
    case Precision::f16:
      return "f16, " + masters + ", the loss is scaled";
  }
  throw Error("precision: unknown value");
}

/// Errors: make_backend's; where a run is to go on, a word on why no other precision helps.
std::unique_ptr<Backend> open_backend(const TrainSettings& settings, const Device& device, Precision precision) {
  try {
    return make_backend(device, {.threads = static_cast<int>(settings.threads),
                                 .allows_winograd = settings.winograd,
                                 .precision = precision,
                                 .plans = {.times = settings.cudnn_timing,
                                           .keeps_on_disk = settings.cudnn_plan_cache,
                                           .cache_file = {},
                                           .workspace_bytes = settings.cudnn_workspace_mb << 20,
                                           .deterministic = settings.deterministic,
                                           .norm_fusion = parse_own_kernels(settings.fused_norms),
                                           .growth = parse_own_kernels(settings.growth_kernels)}});
  } catch (const UsageError& error) {
    if (!settings.resume || !std::string_view(error.what()).starts_with("precision:")) throw;
    throw UsageError(
        fmt::format("{}; this run goes on where there is {}, with which it began", error.what(), to_string(precision)));
  }
}

/// Of several labels per image: each class by itself.
std::string classes_text(const EvaluationResult& r) {
  TextTable table({"class", "images", "AUC", "average precision", "sensitivity", "specificity", "F1"});
  for (std::size_t c = 0; c < r.of_classes.size(); ++c) {
    const ClassScores& s = r.of_classes[c];
    table.add({r.class_names[c], std::to_string(s.positives), score_text(s.auc), score_text(s.average_precision),
               score_text(s.sensitivity), score_text(s.specificity), score_text(s.f1)});
  }
  return "\n" + table.text();
}

/// Of one label per image. More classes than fit a terminal give none; --json has them.
std::string confusion_text(const EvaluationResult& r) {
  constexpr std::size_t kWidestMatrix = 20;
  if (r.confusion.size() > kWidestMatrix) return {};
  std::vector<std::string> heading{"label \\ predicted"};
  for (const std::string& name : r.class_names) heading.push_back(name);
  TextTable table(heading);
  for (std::size_t label = 0; label < r.confusion.size(); ++label) {
    std::vector<std::string> row{label < r.class_names.size() ? r.class_names[label] : std::to_string(label)};
    for (std::int64_t count : r.confusion[label]) row.push_back(std::to_string(count));
    table.add(std::move(row));
  }
  return "\n" + table.text();
}

/// Where the score lies; empty where that was not asked for, or is not known.
std::string interval_text(const EvaluationResult& r, Score score) {
  const auto found = r.intervals.find(score);
  if (found == r.intervals.end() || std::isnan(found->second.low)) return {};
  const Interval& i = found->second;
  return fmt::format("   {:>7} to {:>7}{}", score_text(i.low), score_text(i.high), i.is_doubtful ? " !" : "");
}

}  // namespace

Session open_session(TrainSettings& settings, DeviceObserver* observer) {
  std::string why;
  const Device device = parse_device(settings.device, &why);
  if (settings.winograd && device.kind != DeviceKind::cpu) {
    throw UsageError("train.winograd: an algorithm of the cpu device; leave it out or use --device cpu");
  }
  const Precision precision = precision_on(settings, device);
  if (settings.winograd && precision != Precision::f32) {
    throw UsageError("train.winograd: an algorithm for f32; leave it out or use --precision f32");
  }
  settings.precision = to_string(precision);
  std::unique_ptr<Backend> backend = open_backend(settings, device, precision);
  if (observer) backend = std::make_unique<ObservedBackend>(std::move(backend), *observer);
  auto context = std::make_unique<Context>(std::move(backend));
  std::string heading = fmt::format("device: {}", context->backend().description());
  if (!why.empty()) heading += fmt::format(" ({})", build_info().cuda_version.empty() ? "built without CUDA" : why);
  heading += fmt::format("\nprecision: {}", precision_text(context->backend(), precision));
  return {std::move(context), std::move(heading)};
}

std::string evaluation_text(const EvaluationResult& r) {
  std::string text = emphasised(fmt::format("{}: {} images", r.split, r.n), Emphasis::bold, stdout);
  if (!r.intervals.empty())
    text += fmt::format(", with 95 % intervals{}", r.groups > 0 ? fmt::format(" over {} groups", r.groups) : "");
  text += "\n";
  struct Line {
    const char* name;
    double value;
    Score score;
  };
  const Line scores[] = {{"loss", r.loss, Score::log_loss},
                         {"accuracy", r.accuracy, Score::accuracy},
                         {"macro accuracy", r.macro_accuracy, Score::macro_accuracy},
                         {"macro F1", r.macro_f1, Score::macro_f1},
                         {"weighted F1", r.weighted_f1, Score::weighted_f1},
                         {"kappa", r.kappa, Score::kappa},
                         {"AUC", r.auc, Score::auc},
                         {"average precision", r.average_precision, Score::average_precision},
                         {"sensitivity", r.sensitivity, Score::sensitivity},
                         {"specificity", r.specificity, Score::specificity},
                         {"Brier score", r.brier, Score::brier},
                         {"calibration error", r.calibration_error, Score::calibration_error}};
  for (const auto& [name, value, score] : scores)
    text += fmt::format("  {:<18} {:>7}{}\n", name, score_text(value), interval_text(r, score));
  if (r.is_multi_label()) text += fmt::format("  {:<18} {:>7}\n", "subset accuracy", score_text(r.subset_accuracy));
  if (std::ranges::any_of(r.intervals, [](const auto& entry) { return entry.second.is_doubtful; }))
    text += fmt::format("  ! fewer than 10 independent images {}: the interval may hold less often than it says\n",
                        r.is_multi_label() ? "have a class, or lack it" : "are of a class");
  return text + (r.is_multi_label() ? classes_text(r) : confusion_text(r));
}

}  // namespace graft
