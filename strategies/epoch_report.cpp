#include "strategies/epoch_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>

namespace graft {
namespace {

/// One that holds a real number, and how it is written.
struct Column {
  std::string_view name, format;
  double EpochReport::*value;
};
/// In the order of the file, but for `epoch`, the first, and `is_best`, which follows the first validation scores.
constexpr Column kColumns[] = {{"lr", "{:.12g}", &EpochReport::lr},
                               {"train_loss", "{:.12g}", &EpochReport::train_loss},
                               {"penalty", "{:.12g}", &EpochReport::penalty},
                               {"train_accuracy", "{:.9g}", &EpochReport::train_accuracy},
                               {"val_loss", "{:.9g}", &EpochReport::val_loss},
                               {"val_accuracy", "{:.9g}", &EpochReport::val_accuracy},
                               {"val_macro_accuracy", "{:.9g}", &EpochReport::val_macro_accuracy},
                               {"seconds", "{:.3f}", &EpochReport::seconds},
                               {"images_per_second", "{:.2f}", &EpochReport::images_per_second},
                               {"val_macro_f1", "{:.9g}", &EpochReport::val_macro_f1},
                               {"val_kappa", "{:.9g}", &EpochReport::val_kappa},
                               {"val_auc", "{:.9g}", &EpochReport::val_auc},
                               {"val_average_precision", "{:.9g}", &EpochReport::val_average_precision}};
constexpr std::string_view kBehindBest = "seconds";

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream text(line);
  for (std::string field; std::getline(text, field, ',');) fields.push_back(field);
  if (line.ends_with(',')) fields.emplace_back();
  return fields;
}

void set_field(EpochReport& report, std::string_view name, const std::string& field) {
  if (name == "epoch") report.epoch = std::strtoll(field.c_str(), nullptr, 10);
  if (name == "is_best") report.is_best = field == "1";
  const auto column = std::ranges::find(kColumns, name, &Column::name);
  if (column != std::end(kColumns))
    report.*column->value = field.empty() ? EpochReport::kNone : std::strtod(field.c_str(), nullptr);
}

}  // namespace

std::string epochs_csv_header() {
  std::string line = "epoch";
  for (const Column& c : kColumns) line += fmt::format("{},{}", c.name == kBehindBest ? ",is_best" : "", c.name);
  return line;
}

std::string epochs_csv_line(const EpochReport& report) {
  std::string line = std::to_string(report.epoch);
  for (const Column& c : kColumns) {
    if (c.name == kBehindBest) line += report.is_best ? ",1" : ",0";
    const double value = report.*c.value;
    line += ',';
    if (!std::isnan(value)) line += fmt::format(fmt::runtime(c.format), value);
  }
  return line;
}

std::vector<EpochReport> parse_epochs_csv(std::string_view text) {
  std::vector<EpochReport> reports;
  std::istringstream lines{std::string(text)};
  std::string line;
  std::getline(lines, line);
  const std::vector<std::string> names = fields_of(line);
  while (std::getline(lines, line) && !lines.eof()) {
    const std::vector<std::string> fields = fields_of(line);
    if (fields.size() != names.size()) continue;
    EpochReport& report = reports.emplace_back();
    for (std::size_t i = 0; i < fields.size(); ++i) set_field(report, names[i], fields[i]);
  }
  return reports;
}

}  // namespace graft
