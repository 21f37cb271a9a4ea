#include "apps/internals_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/terminal.h"
#include "data/csv.h"

namespace graft {
namespace {

constexpr std::int64_t kSparkColumns = 16;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double median(std::vector<double> values) {
  std::erase_if(values, [](double v) { return std::isnan(v); });
  if (values.empty()) return kNaN;
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2;
}

/// Of a parameter that was frozen again, when it last trained.
double last(const std::vector<double>& values) {
  const auto found = std::find_if(values.rbegin(), values.rend(), [](double v) { return !std::isnan(v); });
  return found == values.rend() ? kNaN : *found;
}

std::string scientific_text(double value) { return std::isnan(value) ? "-" : fmt::format("{:.1e}", value); }
std::string drift_text(double value) { return std::isnan(value) ? "-" : fmt::format("{:.3f}", value); }
std::string csv_value(double value) { return std::isnan(value) ? "" : fmt::format("{:.9g}", value); }

std::string heading_text(const Internals& internals) {
  const InternalsHeader& h = internals.header;
  const InternalsRecords& r = internals.records;
  const std::string of = r.count() == 0   ? "no record yet"
                         : r.count() == 1 ? fmt::format("1 record, of step {}", r.step[0])
                                          : fmt::format("{} records of steps {} to {}, one every {}", r.count(),
                                                        r.step.front(), r.step.back(), h.record_every);
  return emphasised(fmt::format("{}, {}: {}", h.architecture, h.strategy, of), Emphasis::bold, stdout) + "\n\n";
}

constexpr std::string_view kLegend =
    "‖g‖, ‖g‖/‖w‖ and ‖Δw‖/‖w‖ (gradient, weights, their change in a step) are medians over the records; bars show "
    "the\n"
    "course of ‖g‖/‖w‖, each row on a logarithmic scale of its own. The rest is at the last record: ‖w−w0‖ is the "
    "distance\n"
    "from the start, Δmean the move of batch norm's running means in initial standard deviations, Δvar the mean |ln "
    "v/v0|\n"
    "of its running variances. A dash: did not train, or has none.\n";

}  // namespace

std::string sparkline(std::span<const double> values, std::int64_t columns) {
  columns = std::min(columns, std::ssize(values));
  std::vector<double> heights;
  for (std::int64_t c = 0; c < columns; ++c) {
    double sum = 0, count = 0;
    for (std::int64_t i = c * std::ssize(values) / columns; i < (c + 1) * std::ssize(values) / columns; ++i) {
      const double value = values[std::size_t(i)];
      if (value > 0 && std::isfinite(value)) sum += std::log(value), ++count;
    }
    heights.push_back(count > 0 ? sum / count : kNaN);
  }
  double low = kNaN, high = kNaN;
  for (double h : heights) low = std::fmin(low, h), high = std::fmax(high, h);
  constexpr const char* kBars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string text;
  for (double h : heights) {
    const double share = high > low ? (h - low) / (high - low) : 0.5;
    text += std::isnan(h) ? " " : kBars[std::min(7, int(share * 8))];
  }
  return text;
}

std::string internals_table(const Internals& internals, const std::vector<InternalsSeries>& all) {
  if (internals.records.count() == 0) return heading_text(internals);
  std::string text = heading_text(internals);
  for (const std::string_view level : {"block", "parameter", "batch_norm"}) {
    TextTable table({level == "batch_norm" ? "batch norm" : std::string(level), "‖g‖", "‖w‖", "‖g‖/‖w‖",
                     "over the steps", "‖Δw‖/‖w‖", "‖w−w0‖", "Δmean", "Δvar"});
    table.align_left(4);
    bool has_rows = false;
    for (const InternalsSeries& s : all) {
      if (s.level != level) continue;
      table.add({s.name, scientific_text(median(s.gradient_norm)), scientific_text(last(s.weight_norm)),
                 scientific_text(median(s.relative_gradient_norm)), sparkline(s.relative_gradient_norm, kSparkColumns),
                 scientific_text(median(s.update_ratio)), scientific_text(last(s.anchor_distance)),
                 drift_text(last(s.mean_drift)), drift_text(last(s.variance_drift))});
      has_rows = true;
    }
    if (has_rows) text += table.text() + "\n";
  }
  return text + std::string(kLegend);
}

std::string internals_csv(const Internals& internals, const std::vector<InternalsSeries>& all) {
  std::string csv =
      "step,epoch,lr,loss,level,name,size,gradient_norm,weight_norm,relative_gradient_norm,update_ratio,"
      "anchor_distance,mean_drift,variance_drift\n";
  const InternalsRecords& records = internals.records;
  for (std::size_t r = 0; r < records.step.size(); ++r) {
    const std::string when =
        fmt::format("{},{},{:.9g},{:.9g}", records.step[r], records.epoch[r], records.lr[r], records.loss[r]);
    for (const InternalsSeries& s : all) {
      csv += fmt::format("{},{},{},{}", when, s.level, csv_field(s.name), s.size);
      for (const std::vector<double>* values : {&s.gradient_norm, &s.weight_norm, &s.relative_gradient_norm,
                                                &s.update_ratio, &s.anchor_distance, &s.mean_drift, &s.variance_drift})
        csv += "," + csv_value((*values)[r]);
      csv += "\n";
    }
  }
  return csv;
}

}  // namespace graft
