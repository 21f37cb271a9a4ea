#include "apps/report/report_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/page.h"
#include "apps/report/report_tables.h"
#include "apps/report/report_words.h"

namespace graft {
namespace {

// Strategies: Okabe and Ito's colours, darkened or lightened until each has a contrast of 3 and more with its card.
// h0 to h5: shades of the score map, text on them has a contrast of 5 and more. q0 to q8: cividis.
constexpr const char* kReportStyle = R"css(
:root { --s0: #0072b2; --s1: #c04a00; --s2: #00805d; --s3: #a8508a; --s4: #3182bd; --s5: #946200; --s6: #1c2430;
  --s7: #6b6bb5; --h0: #fff; --h1: #eaf3fb; --h2: #d3e5f4; --h3: #b8d6eb; --h4: #9ac6e2; --h5: #79b4d9; --bad: #a3282a;
  --band: .16; }
@media (prefers-color-scheme: dark) { :root { --s0: #56b4e9; --s1: #f0803c; --s2: #35c99b; --s3: #e39ac6; --s4: #9ad0f5;
  --s5: #f0b429; --s6: #e6eaf0; --s7: #a9a9f0; --h0: #1d232b; --h1: #1c2f44; --h2: #1b3b5c; --h3: #1b4775; --h4: #1d548d;
  --h5: #2362a3; --bad: #ff9d94; --band: .22; } }
h3 { font-size: 14.5px; margin: 22px 0 6px; }
.verdict { font-size: 18px; line-height: 1.4; margin: 0; max-width: 60em; text-wrap: pretty; }
.notice { border-left: 4px solid var(--s1); }
nav { margin-top: 14px; font-size: 14px; line-height: 1.9; display: flex; flex-wrap: wrap; column-gap: 14px; } a { color: var(--focus); }
ul.notes { margin: 4px 0; padding-left: 20px; } ul.notes li { margin: 4px 0; max-width: 75em; overflow-wrap: anywhere; }
.map td { text-align: center; border: 2px solid var(--card); padding: 5px 8px; }
.map thead th { text-align: center; } .map thead th:first-child { text-align: left; }
.map small { display: block; font-size: 12px; } .map b { font-size: 15px; } tbody tr:hover td[class] { background: inherit; }
.map td.h0, .map tr:hover td.h0 { background: var(--h0); } .map td.h1, .map tr:hover td.h1 { background: var(--h1); }
.map td.h2, .map tr:hover td.h2 { background: var(--h2); } .map td.h3, .map tr:hover td.h3 { background: var(--h3); }
.map td.h4, .map tr:hover td.h4 { background: var(--h4); } .map td.h5, .map tr:hover td.h5 { background: var(--h5); }
.map td.none { color: var(--soft); font-style: italic; border: 1px dashed var(--line); }
.map { width: auto; min-width: min(100%, 420px); }
.confusion { width: auto; font-size: 12.5px; } .confusion td { text-align: center; padding: 2px 5px; min-width: 2em; }
.confusion th { padding: 2px 6px; font-weight: 400; } .confusion thead th { text-align: center; border-bottom: 0; }
.confusion td.right { outline: 1px solid var(--soft); outline-offset: -2px; }
.left { text-align: left; } .bad { color: var(--bad); }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(235px, 1fr)); gap: 10px 16px; }
.panels.small { grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 10px 24px; }
.many { display: flex; flex-wrap: wrap; gap: 12px 28px; align-items: flex-start; } .many > div { max-width: 100%; }
.many .scroll { margin: 0; padding: 0 0 4px; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--focus); font-size: 14px; }
figure { margin: 0; width: 236px; font-size: 12.5px; } figure img { width: 116px; height: 116px; border-radius: 4px; }
figure span { display: flex; gap: 4px; } figcaption { overflow-wrap: anywhere; } figcaption .soft { font-size: inherit; }
.panels + .panels, .panels + p { margin-top: 16px; }
pre { overflow-x: auto; font-size: 12.5px; background: var(--page); padding: 10px 12px; border-radius: 6px; margin: 8px 0; }
svg .strong { fill: var(--ink); font-weight: 600; } svg .axis { stroke: var(--ink); stroke-width: 1.4; fill: none; }
svg .leader { stroke: var(--soft); fill: none; } svg .clique { stroke: var(--ink); stroke-width: 4.5; }
svg .chance { stroke: var(--soft); stroke-dasharray: 2 4; fill: none; } svg .line { fill: none; stroke-width: 1.9; }
svg .thin { fill: none; stroke-width: 1; opacity: .7; } svg .band { stroke: none; fill-opacity: var(--band); }
svg .line.train { stroke: var(--soft); stroke-dasharray: 4 3; stroke-width: 1.3; } svg .band.train { fill: var(--soft); }
svg .dashed { stroke-dasharray: 7 3; } svg .frozen { fill: var(--line); }
svg .cross { stroke: var(--soft); stroke-width: .8; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); } .s4 { --c: var(--s4); }
.s5 { --c: var(--s5); } .s6 { --c: var(--s6); } .s7 { --c: var(--s7); }
svg .line, svg .thin { stroke: var(--c); } svg .band { fill: var(--c); } svg .mark { fill: var(--c); stroke: var(--c); }
.key i { background: var(--c); } .key i.dashed { background: repeating-linear-gradient(90deg, var(--c) 0, var(--c) 4px, transparent 4px, transparent 7px); }
.q0 { fill: #00224e; } .q1 { fill: #1f3a6b; } .q2 { fill: #434e6c; } .q3 { fill: #5f636e; } .q4 { fill: #7b7a77; }
.q5 { fill: #999078; } .q6 { fill: #b9a96d; } .q7 { fill: #dbc45a; } .q8 { fill: #fee838; }
.scale { display: flex; align-items: center; gap: 8px; font-size: 13px; color: var(--soft); } .scale svg { width: 180px; }
.scroll.more { mask-image: linear-gradient(to left, transparent, #000 40px); }
.confusion thead th.name { white-space: normal; overflow-wrap: anywhere; min-width: 3.5em; max-width: 8em; }
@media (max-width: 640px) { th[scope=row] { white-space: normal; overflow-wrap: anywhere; min-width: 8.5em; max-width: 11em; }
  .verdict { font-size: 16px; } .panels.small { grid-template-columns: repeat(2, 1fr); }
  figure { width: calc(50% - 14px); min-width: 150px; } figure img { width: 49%; height: auto; } .many { gap: 12px 14px; } }
@media print { nav { display: none; } .scroll.more { mask-image: none; } p.soft { break-after: avoid; } .panels { grid-template-columns: repeat(3, 1fr); } .panels.small { grid-template-columns: repeat(4, 1fr); }
  .many > div { break-inside: avoid; } pre { white-space: pre-wrap; } }
)css";

// A table that goes on to the right fades out there. Nothing but the hint is lost without the script.
constexpr const char* kReportScript = R"js(
for (const box of document.querySelectorAll('.scroll')) {
  const mark = () => box.classList.toggle('more', box.scrollWidth - box.clientWidth - box.scrollLeft > 2);
  box.addEventListener('scroll', mark, { passive: true });
  new ResizeObserver(mark).observe(box);
}
)js";

std::string list_of(const std::vector<std::string>& lines) {
  std::string html = "<ul class=\"notes\">\n";
  for (const std::string& line : lines) html += "<li>" + escaped_markup(line) + "</li>\n";
  return html + "</ul>\n";
}

std::string anchor(std::size_t group) { return "d" + std::to_string(group); }

/// Training and validation; starting, computing features beforehand and testing are in no epoch.
double epoch_seconds(const std::vector<EpochReport>& curve) {
  double sum = 0;
  for (const EpochReport& row : curve)
    if (std::isfinite(row.seconds)) sum += row.seconds;
  return sum;
}

std::string figures(const StudyReport& report) {
  double seconds = 0;
  for (const CellResult& cell : report.results->cells) seconds += epoch_seconds(cell.curve);
  for (const TrialResult& trial : report.results->trials) seconds += epoch_seconds(trial.curve);
  const StudySpec& spec = report.results->spec;
  std::string html =
      "<div class=\"figures\">\n" +
      figure_box(fmt::format("{} / {}", report.finished, report.cells), "trainings finished") +
      figure_box(std::to_string(spec.strategies.size()), "strategies") +
      figure_box(std::to_string(spec.datasets.size()), spec.datasets.size() == 1 ? "data set" : "data sets");
  if (spec.networks.size() > 1) html += figure_box(std::to_string(spec.networks.size()), "networks");
  html += figure_box(std::to_string(spec.seeds.size()), spec.seeds.size() == 1 ? "seed" : "seeds");
  if (spec.folds > 0) html += figure_box(std::to_string(spec.folds), "folds");
  html += figure_box(std::to_string(report.results->trials.size()), "tuning trials");
  const char* what = report.results->trials.empty()
                         ? "training and validation; start-up and tests are not included"
                         : "training and validation, with trials; start-up and tests are not included";
  return html + figure_box(time_text(seconds), what) + "</div>\n";
}

std::string navigation(const StudyReport& report) {
  std::string html =
      "<nav aria-label=\"Sections\"><a href=\"#scores\">Scores</a><a href=\"#care\">To be read with care</a>";
  for (std::size_t g = 0; g < report.groups.size(); ++g)
    html += fmt::format("<a href=\"#{}\">{}</a>", anchor(g), escaped_markup(place_text(report, report.groups[g])));
  return html + "<a href=\"#tuning\">Tuning</a><a href=\"#configuration\">Configuration</a></nav>\n";
}

std::string unfinished(const StudyReport& report) {
  const std::vector<std::string> lines = missing(report);
  if (lines.empty()) return {};
  return fmt::format(
      "<section class=\"notice\"><h2>Missing</h2>\n<p>{} of {} trainings have not finished{}. <code>graft study "
      "run</code> goes on with them.</p>\n{}</section>\n",
      report.cells - report.finished, report.cells, report.results->is_running ? "; the study is running now" : "",
      list_of(lines));
}

/// How far below the best, as a shade: 5 is the best, each step a fifth of the study's largest distance.
int shade(double distance, double largest) {
  return distance <= 0 ? 5 : std::max(0, 4 - int(std::min(4.0, std::floor(5 * distance / largest))));
}

/// Strategies that lack a data set, as a sentence.
std::string unranked(const StudyReport& report, const ReportRanks& ranks) {
  std::vector<std::string> names;
  for (const StudyStrategy& strategy : report.results->spec.strategies)
    if (std::ranges::find(ranks.strategies, strategy.name) == ranks.strategies.end()) names.push_back(strategy.name);
  return names.empty() ? "" : "Not ranked, because a data set is missing: " + escaped_markup(listed(names)) + ". ";
}

/// What the table of scores marks.
std::string score_legend(const StudyReport& report) {
  return fmt::format(
      "<p class=\"soft\">With {:.4g} % intervals. Shades: distance from the best of the same data set. ★ best; ≈ not "
      "distinguishable from it: p ≥ {:.2g} after Holm's correction for all pairs of strategies on all data sets. ! "
      "doubtful: {}.{}</p>\n",
      100 * report.bootstrap.level, 1 - report.bootstrap.level, doubt_text(report),
      higher_is_better(report.score) ? "" : " Lower is better.");
}

std::string scores(const StudyReport& report) {
  std::string html = fmt::format("<section id=\"scores\"><h2>{} on test images</h2>\n", heading_of(report.score));
  if (std::ranges::any_of(report.groups, [](const ReportGroup& group) { return group.best.has_value(); }))
    html += score_legend(report);
  const bool has_networks = report.results->spec.networks.size() > 1;
  for (const StudyNetwork& network : report.results->spec.networks) {
    if (has_networks) html += "<h3>" + escaped_markup(network.name) + "</h3>\n";
    html += score_map(report, network.name);
  }
  for (const ReportRanks& ranks : report.ranks) {
    html += fmt::format(
        "<h3>Ranks over {} data sets{}</h3>\n<p class=\"soft\">Friedman's test of \"all strategies are alike\": p {} "
        "(F = {}). {}Strategies under one bar are not distinguishable by Nemenyi's test.</p>\n",
        ranks.datasets.size(), has_networks ? ", " + escaped_markup(ranks.network) : "",
        ranks.test.p < 0.001 ? "&lt; 0.001" : "= " + p_text(ranks.test.p),
        std::isfinite(ranks.test.statistic) ? fmt::format("{:.2f}", ranks.test.statistic) : "∞",
        unranked(report, ranks));
    html += "<div class=\"wide\">" + critical_difference_svg(ranks, {.width = 900, .font = 13}) +
            "</div><div class=\"narrow\">" + critical_difference_svg(ranks, {.width = 380, .font = 10.5}) + "</div>\n";
  }
  return html + "</section>\n";
}

std::string configuration(const StudyReport& report, const PageMaterial& material) {
  const char* left_out = material.is_brief
                             ? "<p>This study is large: curves of the loss, and reliability, confusion and internals "
                               "of all but the best strategies, are left out of this page.</p>\n"
                             : "";
  return fmt::format(
      "<section id=\"configuration\"><h2>Configuration</h2>\n{}<p class=\"soft\">{}. Intervals are over test images, "
      "those of a patient or group as a whole; {} resamples, seed {}. Comparisons are paired, on the same images, by "
      "random signs of what each image (patient, group) contributes, drawn {} times; p values of {} of strategies, on "
      "all data sets{}, are corrected together by Holm's method. The study's file:</p>\n<pre>{}</pre></section>\n",
      left_out, escaped_markup(material.program), report.bootstrap.resamples, report.bootstrap.seed,
      report.comparison_resamples, counted(report.pairs(), "pair", "pairs"),
      report.results->spec.networks.size() > 1 ? " and networks" : "", escaped_markup(material.configuration));
}

}  // namespace

std::string score_map(const StudyReport& report, const std::string& network) {
  std::vector<std::size_t> groups;
  double largest = 0.05;  // smaller distances do not get the full range of shades
  for (std::size_t g = 0; g < report.groups.size(); ++g) {
    const ReportGroup& group = report.groups[g];
    if (group.network != network) continue;
    groups.push_back(g);
    for (const ReportEntry& entry : group.entries)
      if (const double v = entry.interval(report.score).estimate; group.best && std::isfinite(v))
        largest = std::max(largest, std::abs(v - group.entries[*group.best].interval(report.score).estimate));
  }
  std::string html = "<div class=\"scroll\"><table class=\"map sortable\"><thead><tr><th scope=\"col\">strategy</th>";
  for (std::size_t g : groups)
    html += fmt::format("<th scope=\"col\">{}</th>", escaped_markup(report.groups[g].dataset));
  html += "</tr></thead><tbody>\n";
  for (std::size_t i = 0; i < report.results->spec.strategies.size(); ++i) {
    html += fmt::format("<tr><th scope=\"row\" class=\"left\">{}</th>",
                        escaped_markup(report.results->spec.strategies[i].name));
    for (std::size_t g : groups) {
      const ReportGroup& group = report.groups[g];
      const ReportEntry& entry = group.entries[i];
      const Interval& interval = entry.interval(report.score);
      if (!entry.has_scores()) {
        html += number_cell(NAN, entry.failed > 0 ? "failed" : "missing", "none");
        continue;
      }
      const bool is_best = group.is_best(i, report.score);
      const bool is_tied = entry.to_best && !entry.to_best->is_distinguishable;
      const double distance =
          is_best      ? 0
          : group.best ? std::abs(group.entries[*group.best].interval(report.score).estimate - interval.estimate)
                       : NAN;
      const std::int64_t lacking = std::ssize(report.results->spec.seeds) - std::ssize(entry.seeds);
      html += number_cell(interval.estimate,
                          fmt::format("<b>{}</b>{}<small>{}</small>{}", number_text(interval.estimate),
                                      is_best   ? " <span title=\"best\">★</span>"
                                      : is_tied ? " <span title=\"not distinguishable from the best\">≈</span>"
                                                : "",
                                      range_text(interval.low, interval.high) + (interval.is_doubtful ? " !" : ""),
                                      lacking > 0 ? fmt::format("<small>{} of {} seeds</small>", entry.seeds.size(),
                                                                entry.seeds.size() + std::size_t(lacking))
                                                  : ""),
                          std::isfinite(distance) ? fmt::format("h{}", shade(distance, largest)) : std::string("none"));
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string pair_table(const StudyReport& report, const ReportGroup& group) {
  if (group.pairs.empty()) return "<p class=\"soft\">Nothing to compare.</p>\n";
  std::string rows;
  for (const PairComparison& pair : group.pairs) {
    const Comparison& c = pair.result;
    rows += fmt::format("<tr><td>{}</td><td class=\"left\">{}</td>", escaped_markup(group.entries[pair.a].strategy),
                        escaped_markup(group.entries[pair.b].strategy)) +
            number_cell(c.difference, signed_text(c.difference)) +
            number_cell(c.low, range_text(std::min(c.low, -0.0), c.high) == "–"
                                   ? "–"
                                   : fmt::format("{} to {}", signed_text(c.low), signed_text(c.high))) +
            number_cell(c.p, escaped_markup(p_text(c.p))) + number_cell(c.p_holm, escaped_markup(p_text(c.p_holm))) +
            fmt::format("<td class=\"left\">{}</td></tr>\n",
                        c.is_distinguishable ? "distinguishable" : "not distinguishable");
  }
  return fmt::format(
      "<details><summary>All {} pairs of strategies: differences, p values</summary>\n<div class=\"scroll\"><table "
      "class=\"sortable\"><thead><tr><th scope=\"col\">strategy</th><th scope=\"col\" class=\"left\">minus</th><th "
      "scope=\"col\">difference in {}</th><th scope=\"col\">{:.4g} % interval, uncorrected</th><th "
      "scope=\"col\">p</th><th "
      "scope=\"col\">p, Holm</th><th scope=\"col\" "
      "class=\"left\">verdict</th></tr></thead><tbody>\n{}</tbody></table></div></details>\n",
      group.pairs.size(), words_of(report.score), 100 * report.bootstrap.level, rows);
}

std::string trial_table(const StudyReport& report) {
  std::string rows;
  for (const TrialResult& t : report.results->trials) {
    const StudyCell& cell = t.trial.cell;
    const std::string result = t.diverged                       ? "diverged"
                               : t.state == CellState::finished ? number_text(t.score)
                               : t.state == CellState::failed   ? "failed: " + without_folders(report, t.error)
                                                                : std::string(to_string(t.state));
    rows += fmt::format("<tr><td>{}</td><td class=\"left\">{}</td><td class=\"left\">{}{}</td>",
                        escaped_markup(cell.strategy), escaped_markup(cell.dataset), escaped_markup(cell.network),
                        cell.fold >= 0 ? fmt::format(", fold {}", cell.fold) : "") +
            number_cell(t.trial.lr, rate_text(t.trial.lr)) +
            number_cell(t.diverged ? NAN : t.score, escaped_markup(result)) +
            fmt::format("<td class=\"left\">{}</td></tr>\n", t.is_chosen ? "★ chosen" : "");
  }
  const StudySpec& spec = report.results->spec;
  double lowest = INFINITY, highest = 0;  // tried; strategies may have ranges of their own
  for (const TrialResult& t : report.results->trials)
    lowest = std::min(lowest, t.trial.lr), highest = std::max(highest, t.trial.lr);
  if (rows.empty())
    return "<p class=\"soft\">Nothing was tuned: the learning rates are those of the study's file or the "
           "defaults.</p>\n";
  return fmt::format(
      "<p class=\"soft\">{} for each tuned strategy on each data set, seed {}, learning rates from {} to {}; chosen "
      "by {} on validation images.</p>\n<details><summary>All {} trials</summary>\n<div class=\"scroll\"><table "
      "class=\"sortable\"><thead><tr><th scope=\"col\">strategy</th><th scope=\"col\" class=\"left\">data set</th><th "
      "scope=\"col\" class=\"left\">network</th><th scope=\"col\">learning rate</th><th scope=\"col\">validation "
      "score</th><th scope=\"col\" class=\"left\"></th></tr></thead><tbody>\n{}</tbody></table></div></details>\n",
      counted(spec.tuning.trials, "trial", "trials"), report.results->trials.front().trial.cell.seed, rate_text(lowest),
      rate_text(highest), selection_words(spec), report.results->trials.size(), rows);
}

std::string report_page(const StudyReport& report, const PageMaterial& material) {
  const StudySpec& spec = report.results->spec;
  std::vector<std::string> networks;
  for (const StudyNetwork& network : spec.networks) networks.push_back(network.name);
  std::string body = "<section><h2>Verdict</h2>\n<p class=\"verdict\">" + escaped_markup(verdict(report)) +
                     "</p></section>\n" + figures(report) + navigation(report) + unfinished(report) + scores(report) +
                     "<section id=\"care\"><h2>To be read with care</h2>\n" + list_of(caveats(report)) + "</section>\n";
  for (std::size_t g = 0; g < report.groups.size(); ++g) body += group_section(report, g, material);
  body += "<section id=\"tuning\"><h2>Tuning</h2>\n" + trial_table(report) + "</section>\n" +
          configuration(report, material);
  return html_page({.title = title_text(report),
                    .subtitle = fmt::format("{} on {}", counted(std::ssize(spec.strategies), "strategy", "strategies"),
                                            counted(std::ssize(spec.datasets), "data set", "data sets")) +
                                ": " + listed(networks),
                    .style = kReportStyle,
                    .body = body,
                    .script = kReportScript});
}

}  // namespace graft
