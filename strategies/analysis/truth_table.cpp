#include "strategies/analysis/truth_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>

namespace graft {
namespace {

/// What holds in one block.
struct Row {
  std::int64_t trained = 0, all = 0;               // elements
  std::int64_t frozen_channels = 0, channels = 0;  // of the parameters that train
  std::int64_t norms = 0, batch = 0, moving = 0;   // batch norms
  std::set<double> rates, shares;                  // shares: of the channels that use the batch's statistics
  std::set<std::string> penalties;
};

std::int64_t frozen_channels(const Parameter& p, const std::vector<std::uint32_t>& mask) {
  std::int64_t trained = 0;
  for (std::uint32_t word : mask) trained += std::popcount(word);
  return mask.empty() ? 0 : p.rows() - trained;
}

void add_penalty(std::set<std::string>& texts, const PenaltySpec& p) {
  if (p.kind == PenaltyKind::none) return;
  texts.insert(fmt::format("{} {:g} to {}", p.kind == PenaltyKind::l1 ? "l1" : "l2", p.strength,
                           p.to_anchor ? "start" : "zero"));
}

std::vector<Row> rows_of(const TruthTableInput& in) {
  std::vector<Row> rows(in.block_names.size());
  std::int64_t i = 0;
  for (const Parameter& p : in.parameters.parameters()) {
    Row& row = rows.at(std::size_t(p.block));
    row.all += p.shape.size();
    if (in.plan.freeze.trains(i)) {
      const std::int64_t frozen = frozen_channels(p, in.plan.freeze.channel_mask(i));
      row.frozen_channels += frozen, row.channels += p.rows();
      row.trained += p.shape.size() / p.rows() * (p.rows() - frozen);
      row.rates.insert(in.lr * in.plan.lr_factor * in.plan.rate_factor(i, p.block));
      if (!in.plan.penalties.empty()) add_penalty(row.penalties, in.plan.penalties.at(std::size_t(i)));
    }
    ++i;
  }
  for (std::size_t s = 0; s < in.parameters.statistics().size(); ++s) {
    Row& row = rows.at(std::size_t(in.parameters.statistics()[s].block));
    const NormSwitches norm = in.plan.freeze.norm(std::int64_t(s));
    ++row.norms;
    row.batch += norm.uses_batch_statistics;
    row.moving += norm.updates_running;
    if (norm.uses_batch_statistics) row.shares.insert(norm.batch_share);
  }
  return rows;
}

std::string share(std::int64_t some, std::int64_t all, const char* yes, const char* no) {
  return some == all ? std::string(yes) : some == 0 ? std::string(no) : fmt::format("{}/{} {}", some, all, yes);
}

std::string norm_text(const Row& r) {
  if (r.norms == 0) return "-";
  const bool is_mixed = r.shares.size() == 1 && *r.shares.begin() < 1;
  const std::string batch = is_mixed ? fmt::format("batch {:g}", *r.shares.begin()) : "batch";
  return share(r.batch, r.norms, batch.c_str(), "running") + ", " + share(r.moving, r.norms, "updated", "fixed");
}

std::string range_text(const std::set<double>& values) {
  if (values.empty()) return "-";
  if (values.size() == 1) return fmt::format("{:.4g}", *values.begin());
  return fmt::format("{:.2g}..{:.2g}", *values.begin(), *values.rbegin());
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  for (std::size_t end; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1))
    lines.push_back(text.substr(0, end));
  return lines;
}

}  // namespace

std::string truth_table(const TruthTableInput& in) {
  const std::vector<Row> rows = rows_of(in);
  const bool has_penalties = !in.plan.penalties.empty();
  const bool has_masks = std::ranges::any_of(rows, [](const Row& r) { return r.frozen_channels > 0; });
  std::string text =
      fmt::format("{:<14} {:>12} {:>12}  {:<24} {:>10} {:>10}{}{}\n", "block", "trainable", "of", "batch norm", "lr",
                  "decay", has_masks ? "  frozen channels" : "", has_penalties ? "  penalty" : "");
  for (std::size_t b = 0; b < rows.size(); ++b) {
    const Row& r = rows[b];
    text += fmt::format("{:<14} {:>12} {:>12}  {:<24} {:>10} {:>10}", in.block_names[b], r.trained, r.all, norm_text(r),
                        range_text(r.rates), r.trained > 0 ? fmt::format("{:g}", in.weight_decay) : "-");
    if (has_masks)
      text += fmt::format("  {:>15}", r.channels > 0 ? fmt::format("{} of {}", r.frozen_channels, r.channels) : "-");
    if (has_penalties) text += "  " + (r.penalties.empty() ? "-" : fmt::format("{}", fmt::join(r.penalties, ", ")));
    text += "\n";
  }
  return text;
}

std::string block_rates(const TruthTableInput& in) {
  const std::vector<Row> rows = rows_of(in);
  std::string text;
  for (std::size_t b = 0; b < rows.size(); ++b)
    text += fmt::format("{}{} {}", b == 0 ? "" : ", ", in.block_names[b], range_text(rows[b].rates));
  return text;
}

std::string changed_lines(std::string_view table, std::string_view before) {
  const std::vector<std::string_view> lines = lines_of(table), known = lines_of(before);
  std::string text;
  for (std::size_t i = 0; i < lines.size(); ++i)
    if (i == 0 || i >= known.size() || lines[i] != known[i]) text += std::string(lines[i]) + "\n";
  return text;
}

}  // namespace graft
