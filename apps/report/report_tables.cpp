#include "apps/report/report_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/report/report_words.h"
#include "apps/terminal.h"
#include "data/csv.h"

namespace graft {
namespace {

std::string doubt_note(const StudyReport& report) { return "interval doubtful, since " + doubt_text(report); }

std::string csv_number(double value) { return std::isfinite(value) ? fmt::format("{:.9g}", value) : std::string(); }
const char* csv_bool(bool value) { return value ? "1" : "0"; }

std::vector<const ReportGroup*> groups_of(const StudyReport& report, const std::string& network) {
  std::vector<const ReportGroup*> groups;
  for (const ReportGroup& group : report.groups)
    if (group.network == network) groups.push_back(&group);
  return groups;
}

bool is_tied(const ReportEntry& entry) { return entry.to_best && !entry.to_best->is_distinguishable; }

bool has_doubtful(const StudyReport& report, const std::string& network) {
  return std::ranges::any_of(groups_of(report, network), [&](const ReportGroup* group) {
    return std::ranges::any_of(group->entries, [&](const ReportEntry& entry) {
      return entry.has_scores() && entry.interval(report.score).is_doubtful;
    });
  });
}

/// Seeds of a score whose strategy lacks some: "[1/3]"; empty if it has them all, or none.
std::string seeds_mark(const StudyReport& report, const ReportEntry& entry) {
  const std::size_t planned = report.results->spec.seeds.size();
  return entry.has_scores() && entry.seeds.size() < planned ? fmt::format("[{}/{}]", entry.seeds.size(), planned)
                                                            : std::string();
}

/// What these marks of a table of the network mean; empty if it has none.
std::string seeds_legend(const StudyReport& report, const std::string& network, const char* colon = "") {
  const bool has_marks = std::ranges::any_of(groups_of(report, network), [&](const ReportGroup* group) {
    return std::ranges::any_of(group->entries, [&](const ReportEntry& e) { return !seeds_mark(report, e).empty(); });
  });
  return has_marks ? fmt::format("[n/{0}]{1} n of {0} seeds", report.results->spec.seeds.size(), colon) : std::string();
}

/// Whether a table of the network marks a best strategy.
bool has_best(const StudyReport& report, const std::string& network) {
  return std::ranges::any_of(groups_of(report, network),
                             [](const ReportGroup* group) { return group->best && group->entries.size() > 1; });
}

/// What the marks of a table mean, without those that it does not have.
std::string legend(std::string_view begin, const std::vector<std::string>& marks) {
  std::string text;
  for (const std::string& mark : marks)
    if (!mark.empty()) text += std::string(text.empty() ? begin : ", ") + mark;
  return text;
}

/// How a table shows one strategy on one data set.
struct Cell {
  const ReportGroup& group;
  std::size_t index;
  Score score;
  const ReportEntry& entry() const { return group.entries[index]; }
  bool is_best() const { return group.entries.size() > 1 && group.is_best(index, score); }
  std::string unfinished() const {
    return entry().failed > 0 ? fmt::format("{} failed", entry().failed) : std::string("missing");
  }
};

/// Rows of one network's table: a strategy and its cells, in the form that `form` gives them.
template <class Form>
std::vector<std::vector<std::string>> rows_of(const StudyReport& report, const std::string& network, const Form& form) {
  const std::vector<const ReportGroup*> groups = groups_of(report, network);
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = 0; i < report.results->spec.strategies.size(); ++i) {
    std::vector<std::string> row{report.results->spec.strategies[i].name};
    for (const ReportGroup* group : groups) row.push_back(form(Cell{*group, i, report.score}));
    rows.push_back(std::move(row));
  }
  return rows;
}

/// "Macro accuracy of resnet50, mean over 3 seeds, 95 % intervals over test images, 56 of 120 trainings finished"
std::string table_title(const StudyReport& report, const std::string& network) {
  const std::size_t seeds = report.results->spec.seeds.size();
  std::int64_t finished = 0, planned = 0;
  for (const ReportGroup* group : groups_of(report, network))
    for (const ReportEntry& entry : group->entries) finished += entry.finished, planned += std::ssize(entry.cells);
  return fmt::format("{} of {}{}, {:.4g} % intervals over test images{}", heading_of(report.score), network,
                     seeds > 1 ? fmt::format(", mean over {} seeds", seeds) : "", 100 * report.bootstrap.level,
                     finished < planned ? fmt::format(", {} of {} trainings finished", finished, planned) : "");
}

std::string markdown_escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\n' || c == '\r')
      out += ' ';
    else if (c == '<')
      out += "&lt;";
    else if (std::string_view("\\`*_|[]").find(c) != std::string_view::npos)
      out += {'\\', c};
    else
      out += c;
  }
  return out;
}

std::string latex_escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '\\':
        out += "\\textbackslash{}";
        break;
      case '~':
        out += "\\textasciitilde{}";
        break;
      case '^':
        out += "\\textasciicircum{}";
        break;
      case '<':
        out += "\\textless{}";
        break;
      case '>':
        out += "\\textgreater{}";
        break;
      case '&':
      case '%':
      case '$':
      case '#':
      case '_':
      case '{':
      case '}':
        out += {'\\', c};
        break;
      case '\n':
      case '\r':
        out += ' ';
        break;
      default:
        out += c;
    }
  }
  // Two characters of the report's own words that plain LaTeX does not read.
  for (auto [from, to] : {std::pair<std::string_view, std::string_view>{"κ", "$\\kappa$"}, {"–", "--"}})
    for (std::size_t at = 0; (at = out.find(from, at)) != std::string::npos; at += to.size())
      out.replace(at, from.size(), to);
  return out;
}

}  // namespace

double seed_deviation(const ReportEntry& entry) {
  const auto n = double(entry.seeds.size());
  if (n < 2) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0, squares = 0;
  for (const SeedAnswers& seed : entry.seeds) sum += seed.score;
  for (const SeedAnswers& seed : entry.seeds) squares += (seed.score - sum / n) * (seed.score - sum / n);
  return std::sqrt(squares / (n - 1));
}

std::string report_text(const StudyReport& report) {
  std::string text = verdict(report) + "\n";
  bool has_star = false, has_tied = false, has_doubt = false;
  std::string seeds;
  const std::size_t seeds_width = 3 + 2 * std::to_string(report.results->spec.seeds.size()).size();  // of "[2/10]"
  for (const StudyNetwork& network : report.results->spec.networks) {
    std::vector<std::string> heading{"strategy"};
    for (const ReportGroup* group : groups_of(report, network.name)) heading.push_back(group->dataset);
    const bool marks_doubt = has_doubtful(report, network.name);
    has_doubt = has_doubt || marks_doubt;
    const std::string marks_seeds = seeds_legend(report, network.name);
    if (!marks_seeds.empty()) seeds = marks_seeds;
    TextTable table(std::move(heading));
    for (std::vector<std::string>& row : rows_of(report, network.name, [&](const Cell& cell) {
           const Interval& i = cell.entry().interval(report.score);
           if (!cell.entry().has_scores()) return cell.unfinished();
           has_star = has_star || cell.is_best();
           has_tied = has_tied || is_tied(cell.entry());
           const std::string lacking = seeds_mark(report, cell.entry());
           return fmt::format("{} {} {}{}{}", number_text(i.estimate), range_text(i.low, i.high),
                              cell.is_best()          ? "*"
                              : is_tied(cell.entry()) ? "≈"
                                                      : " ",
                              i.is_doubtful ? "!"
                              : marks_doubt ? " "
                                            : "",
                              marks_seeds.empty() ? "" : fmt::format(" {:<{}}", lacking, seeds_width));
         }))
      table.add(std::move(row));
    text += "\n" + table_title(report, network.name) + "\n" + table.text();
  }
  const std::string marks = legend("\n", {has_star ? "* best" : "", has_tied ? "≈ not distinguishable from it" : "",
                                          has_doubt ? fmt::format("! {}", doubt_note(report)) : "", seeds});
  if (!marks.empty()) text += marks + "\n";
  const std::vector<std::string> lines = missing(report);
  if (!lines.empty()) text += "\nmissing:\n";
  for (const std::string& line : lines) text += "  " + line + "\n";
  return text;
}

std::string scores_csv(const StudyReport& report) {
  std::string csv =
      "network,dataset,strategy,seeds,planned,score,estimate,low,high,method,is_doubtful,seed_sd,is_best,p_holm_to_"
      "best,"
      "is_distinguishable_from_best,train_seconds\n";
  for (const ReportGroup& group : report.groups) {
    for (std::size_t e = 0; e < group.entries.size(); ++e) {
      const ReportEntry& entry = group.entries[e];
      for (Score score : kScores) {
        const Interval& i = entry.interval(score);
        const bool is_own = score == report.score;
        const bool has_comparison = is_own && entry.to_best;
        csv += csv_line(
            {group.network, group.dataset, entry.strategy, std::to_string(entry.seeds.size()),
             std::to_string(report.results->spec.seeds.size()), std::string(name(score)), csv_number(i.estimate),
             csv_number(i.low), csv_number(i.high), std::string(i.method),
             entry.has_scores() ? csv_bool(i.is_doubtful) : "", is_own ? csv_number(seed_deviation(entry)) : "",
             is_own ? csv_bool(group.is_best(e, score)) : "", has_comparison ? csv_number(entry.to_best->p_holm) : "",
             has_comparison ? csv_bool(entry.to_best->is_distinguishable) : "", csv_number(entry.train_seconds)});
      }
    }
  }
  return csv;
}

std::string comparisons_csv(const StudyReport& report) {
  std::string csv = "network,dataset,a,b,score,difference,low,high,p,p_holm,is_distinguishable\n";
  for (const ReportGroup& group : report.groups)
    for (const PairComparison& pair : group.pairs) {
      const Comparison& c = pair.result;
      csv += csv_line({group.network, group.dataset, group.entries[pair.a].strategy, group.entries[pair.b].strategy,
                       std::string(name(report.score)), csv_number(c.difference), csv_number(c.low), csv_number(c.high),
                       csv_number(c.p), csv_number(c.p_holm), csv_bool(c.is_distinguishable)});
    }
  return csv;
}

std::string report_markdown(const StudyReport& report) {
  std::string text =
      fmt::format("# {}\n\n{}\n", markdown_escaped(title_text(report)), markdown_escaped(verdict(report)));
  for (const StudyNetwork& network : report.results->spec.networks) {
    std::string head = "| strategy |", rule = "|---|";
    for (const ReportGroup* group : groups_of(report, network.name))
      head += " " + markdown_escaped(group->dataset) + " |", rule += "---|";
    text += fmt::format("\n{}{}.\n\n{}\n{}\n", markdown_escaped(table_title(report, network.name)),
                        legend(": ", {has_best(report, network.name) ? "**best**, ≈ not distinguishable from it" : "",
                                      has_doubtful(report, network.name) ? fmt::format("! {}", doubt_note(report)) : "",
                                      seeds_legend(report, network.name)}),
                        head, rule);
    for (const std::vector<std::string>& row : rows_of(report, network.name, [&](const Cell& cell) {
           const Interval& i = cell.entry().interval(report.score);
           if (!cell.entry().has_scores()) return cell.unfinished();
           const std::string lacking = seeds_mark(report, cell.entry());
           return fmt::format("{0}{1}{0} ({2}){3}{4}{5}", cell.is_best() ? "**" : "", number_text(i.estimate),
                              range_text(i.low, i.high), i.is_doubtful ? " !" : "", is_tied(cell.entry()) ? " ≈" : "",
                              lacking.empty() ? "" : " " + lacking);
         })) {
      text += "| " + markdown_escaped(row.front()) + " |";
      for (std::size_t i = 1; i < row.size(); ++i) text += " " + row[i] + " |";
      text += "\n";
    }
  }
  for (const ReportRanks& ranks : report.ranks) {
    text += fmt::format(
        "\nMean ranks of {} over {} data sets (Friedman p {}, critical difference {:.2f}):\n\n| strategy | mean rank "
        "|\n|---|---|\n",
        markdown_escaped(ranks.network), ranks.datasets.size(), p_text(ranks.test.p), ranks.test.critical_difference);
    for (std::size_t i = 0; i < ranks.strategies.size(); ++i)
      text += fmt::format("| {} | {:.2f} |\n", markdown_escaped(ranks.strategies[i]), ranks.test.mean_ranks[i]);
  }
  text += "\nTo be read with care:\n\n";
  for (const std::string& caveat : caveats(report)) text += "- " + markdown_escaped(caveat) + "\n";
  return text;
}

std::string report_latex(const StudyReport& report) {
  std::string text;
  for (const StudyNetwork& network : report.results->spec.networks) {
    const std::vector<const ReportGroup*> groups = groups_of(report, network.name);
    std::string head = "strategy";
    for (const ReportGroup* group : groups) head += " & " + latex_escaped(group->dataset);
    text += fmt::format(
        "\\begin{{table}}\n\\centering\n\\caption{{{}{}.}}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n{} \\\\\n\\midrule\n",
        latex_escaped(table_title(report, network.name)),
        legend(
            "; ",
            {has_best(report, network.name) ? "bold: best of a data set, $\\dagger$: not distinguishable from it" : "",
             has_doubtful(report, network.name) ? fmt::format("!: {}", doubt_note(report)) : "",
             seeds_legend(report, network.name, ":")}),
        std::string(groups.size(), 'c'), head);
    for (const std::vector<std::string>& row : rows_of(report, network.name, [&](const Cell& cell) {
           const Interval& i = cell.entry().interval(report.score);
           if (!cell.entry().has_scores()) return cell.unfinished();
           const std::string number =
               cell.is_best() ? "\\textbf{" + number_text(i.estimate) + "}" : latex_escaped(number_text(i.estimate));
           const std::string lacking = seeds_mark(report, cell.entry());
           return fmt::format("{} ({}){}{}{}", number, latex_escaped(range_text(i.low, i.high)),
                              i.is_doubtful ? "!" : "", is_tied(cell.entry()) ? "$^\\dagger$" : "",
                              lacking.empty() ? "" : " " + lacking);
         })) {
      text += latex_escaped(row.front());
      for (std::size_t i = 1; i < row.size(); ++i) text += " & " + row[i];
      text += " \\\\\n";
    }
    text += "\\bottomrule\n\\end{tabular}\n\\end{table}\n";
  }
  return text;
}

}  // namespace graft
