#include "apps/session.h"

#include <fmt/format.h>

#include "apps/terminal.h"

namespace graft {

Session open_session(const TrainSettings& settings) {
  if (settings.precision != "f32") {
    throw UsageError("train.precision: " + settings.precision + " is not offered by this device; use f32");
  }
  std::string why;
  const Device device = parse_device(settings.device, &why);
  if (settings.winograd && device.kind != DeviceKind::cpu) {
    throw UsageError("train.winograd: an algorithm of the cpu device; leave it out or use --device cpu");
  }
  auto context = std::make_unique<Context>(
      make_backend(device, {.threads = static_cast<int>(settings.threads), .allows_winograd = settings.winograd}));
  std::string heading = fmt::format("device: {}", context->backend().description());
  if (!why.empty()) heading += fmt::format(" ({})", why);
  return {std::move(context), std::move(heading)};
}

std::string evaluation_text(const EvaluationResult& r) {
  std::string text = emphasised(fmt::format("{}: {} images", r.split, r.n), Emphasis::bold, stdout) + "\n";
  const std::pair<const char*, double> scores[] = {
      {"loss", r.loss},   {"accuracy", r.accuracy}, {"macro accuracy", r.macro_accuracy},      {"macro F1", r.macro_f1},
      {"kappa", r.kappa}, {"AUC", r.auc},           {"average precision", r.average_precision}};
  for (const auto& [name, value] : scores) text += fmt::format("  {:<18} {:>7}\n", name, score_text(value));

  std::vector<std::string> heading{"label \\ predicted"};
  for (const std::string& name : r.class_names) heading.push_back(name);
  TextTable table(heading);
  for (std::size_t label = 0; label < r.confusion.size(); ++label) {
    std::vector<std::string> row{label < r.class_names.size() ? r.class_names[label] : std::to_string(label)};
    for (std::int64_t count : r.confusion[label]) row.push_back(std::to_string(count));
    table.add(std::move(row));
  }
  constexpr std::size_t kWidestMatrix = 20;  // more classes do not fit a terminal; --json has them
  if (r.confusion.size() <= kWidestMatrix) text += "\n" + table.text();
  return text;
}

}  // namespace graft
