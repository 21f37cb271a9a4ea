// The page's section on one network and data set.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/page.h"
#include "apps/report/report_page.h"
#include "apps/report/report_tables.h"
#include "apps/report/report_words.h"

namespace graft {
namespace {

std::string legend(const ReportGroup& group) {
  std::string html = "<ul class=\"key\">";
  for (std::size_t i = 0; i < group.entries.size(); ++i)
    if (group.entries[i].has_scores())
      html +=
          fmt::format("<li><i class=\"{}\"></i>{}</li>", strategy_style(i), escaped_markup(group.entries[i].strategy));
  return html + "</ul>\n";
}

/// One row of a table with a column per strategy; `cell_of` gives markup.
template <class CellOf>
std::string strategy_row(const ReportGroup& group, std::string_view heading, const CellOf& cell_of) {
  std::string row = fmt::format("<tr><th scope=\"row\" class=\"left\">{}</th>", heading);
  for (const ReportEntry& entry : group.entries)
    if (entry.has_scores()) row += "<td>" + cell_of(entry) + "</td>";
  return row + "</tr>\n";
}

std::string strategy_heads(const ReportGroup& group) {
  std::string heads;
  for (const ReportEntry& entry : group.entries)
    if (entry.has_scores()) heads += fmt::format("<th scope=\"col\">{}</th>", escaped_markup(entry.strategy));
  return heads;
}

std::string rates_text(const ReportEntry& entry) {
  return entry.lr_min < entry.lr_max ? rate_text(entry.lr_min) + " to " + rate_text(entry.lr_max)
                                     : rate_text(entry.lr_min);
}

/// Every score of every strategy: the table behind the curves.
std::string score_table(const StudyReport& report, const ReportGroup& group) {
  std::string rows;
  for (Score score : kScores)
    rows += strategy_row(group, words_of(score), [&](const ReportEntry& entry) {
      const Interval& i = entry.interval(score);
      return fmt::format("<b>{}</b><small>{}{}</small>", number_text(i.estimate), range_text(i.low, i.high),
                         entry.has_scores() && i.is_doubtful ? " !" : "");
    });
  rows += strategy_row(group, "sd between seeds", [](const auto& e) { return number_text(seed_deviation(e)); });
  rows += strategy_row(group, "sd from images", [](const auto& e) { return number_text(std::sqrt(e.variance.cases)); });
  rows += strategy_row(group, "training time of a seed", [](const auto& e) { return time_text(e.train_seconds); });
  rows += strategy_row(group, "learning rate", rates_text);
  return fmt::format(
      "<details><summary>All scores with intervals, spread, time and learning rate</summary>\n<p "
      "class=\"soft\">Standard "
      "deviations (sd) are of the {}: between seeds, of one; and of the mean over seeds, from the choice of test "
      "images. {}</p>\n<div class=\"scroll\"><table class=\"map\"><thead><tr><th "
      "scope=\"col\">score</th>{}</tr></thead>"
      "<tbody>\n{}</tbody></table></div></details>\n",
      words_of(report.score), kCalibrationNote, strategy_heads(group), rows);
}

std::string learning_curves(const ReportGroup& group, const PageMaterial& material) {
  std::string html = fmt::format(
      "<h3>Learning curves</h3>\n<p class=\"soft\">Line: mean over seeds (of those still training), band: lowest to "
      "highest seed; strong: validation ({}, loss), dashed: training.</p>\n<div class=\"panels\">\n",
      group.is_multi_label() ? "share of right answers" : "macro accuracy");
  const std::int64_t epochs = most_epochs(group);
  const auto panels = [&](const CurvePanel& panel) {
    const Axis y = curve_axis(group, panel);
    for (std::size_t i = 0; i < group.entries.size(); ++i)
      html += "<div>" + learning_curve_svg(group.entries[i], i, panel, y, epochs) + "</div>";
  };
  panels(group.is_multi_label() ? kAnswersPanel : kAccuracyPanel);
  if (material.is_brief) return html + "</div>\n";
  html += "</div>\n";
  if (const Axis y = curve_axis(group, kLossPanel); is_cut(group, kLossPanel, y))
    html += fmt::format(
        "<p class=\"soft\">Losses above {:.3g} are cut off, so that the others can be told apart; a panel's heading "
        "says how far they go.</p>\n",
        y.high);
  html += "<div class=\"panels\">\n";
  panels(kLossPanel);
  return html + "</div>\n";
}

std::string curves(const StudyReport& report, const ReportGroup& group, const PageMaterial& material) {
  const ChartSize size{.width = 380, .height = 300, .font = 12};
  const std::string of_classes = group.is_multi_label() ? "Means over classes and seeds. "
                                 : group.classes() > 2 ? "Means of one class against the rest, over classes and seeds. "
                                 : group.classes() == 2
                                     ? fmt::format("Of class {}. ", escaped_markup(group.class_names[1]))
                                     : std::string();
  std::string html = "<h3>ROC, precision and recall, time</h3>\n<p class=\"soft\">" + of_classes +
                     "Numbers are in the table of all scores. " + escaped_markup(time_note(report)) +
                     "</p>\n<div class=\"pair\"><div>" + unit_chart_svg(group, UnitChart::roc, size) + "</div><div>" +
                     unit_chart_svg(group, UnitChart::precision_recall, size) + "</div><div>" +
                     time_score_svg(report, group, size) + "</div></div>\n" + legend(group);
  html +=
      "<h3>Reliability</h3>\n<p class=\"soft\">Share of right answers over the probability that the network gave them, "
      "in 15 bins; a dot's area grows with its answers. On the dotted line probabilities mean what they say.</p>\n<div "
      "class=\"panels small\">\n";
  for (std::size_t i = 0; i < group.entries.size(); ++i)
    if (group.entries[i].has_scores() && (!material.is_brief || group.best == i))
      html += "<div>" + reliability_svg(group, i) + "</div>";
  return html + "</div>\n";
}

/// Sum over the seeds.
std::vector<std::vector<std::int64_t>> confusion_of(const ReportGroup& group, const ReportEntry& entry) {
  const auto classes = std::size_t(group.classes());
  std::vector<std::vector<std::int64_t>> sum(classes, std::vector<std::int64_t>(classes, 0));
  for (const SeedAnswers& seed : entry.seeds) {
    const std::vector<std::int32_t> predicted = predicted_classes(seed.probabilities, group.classes());
    for (std::size_t i = 0; i < predicted.size(); ++i) ++sum[std::size_t(group.labels[i])][std::size_t(predicted[i])];
  }
  return sum;
}

/// Columns are headed by class names if these are few or short, else by the numbers that the rows begin with.
bool has_named_columns(const ReportGroup& group) {
  constexpr std::size_t kFew = 4, kShort = 6;
  return group.class_names.size() <= kFew ||
         std::ranges::all_of(group.class_names, [](const std::string& name) { return name.size() <= kShort; });
}

std::string confusion_table(const ReportGroup& group, const ReportEntry& entry) {
  const std::vector<std::vector<std::int64_t>> counts = confusion_of(group, entry);
  std::string html = fmt::format(
      "<div><p><b>{}</b></p><div class=\"scroll\"><table class=\"map confusion\"><thead><tr><th scope=\"col\">label \\ "
      "answer</th>",
      escaped_markup(entry.strategy));
  const bool is_named = has_named_columns(group);
  for (std::size_t c = 0; c < counts.size(); ++c) {
    const std::string name = escaped_markup(group.class_names[c]);
    html += is_named ? fmt::format("<th scope=\"col\" class=\"name\">{}</th>", name)
                     : fmt::format("<th scope=\"col\" title=\"{}\">{}</th>", name, c + 1);
  }
  html += "</tr></thead><tbody>\n";
  for (std::size_t row = 0; row < counts.size(); ++row) {
    const std::int64_t all = group.class_counts[row] * std::ssize(entry.seeds);
    html += fmt::format("<tr><th scope=\"row\">{}{}</th>", is_named ? std::string() : fmt::format("{} ", row + 1),
                        escaped_markup(group.class_names[row]));
    for (std::size_t column = 0; column < counts.size(); ++column) {
      const std::int64_t n = counts[row][column];
      const int shade = all > 0 && n > 0 ? 1 + std::min(4, int(4.999 * double(n) / double(all))) : 0;
      html += fmt::format("<td class=\"h{}{}\">{}</td>", shade, row == column ? " right" : "", n);
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div></div>\n";
}

/// Of several labels per image: each class by itself, means over seeds.
std::string class_score_table(const ReportGroup& group, const ReportEntry& entry) {
  std::vector<Metrics> of_seeds;
  for (const SeedAnswers& seed : entry.seeds)
    of_seeds.push_back(compute_metrics(seed.probabilities, group.labels, group.classes(), group.label_sets));
  std::string html = fmt::format(
      "<div><p><b>{}</b></p><div class=\"scroll\"><table class=\"map confusion\"><thead><tr><th "
      "scope=\"col\">class</th>",
      escaped_markup(entry.strategy));
  struct Column {
    const char* head;
    double ClassScores::*score;
  };
  constexpr Column kColumns[] = {{"AUC", &ClassScores::auc},
                                 {"average precision", &ClassScores::average_precision},
                                 {"sensitivity", &ClassScores::sensitivity},
                                 {"specificity", &ClassScores::specificity},
                                 {"F1", &ClassScores::f1}};
  for (const Column& column : kColumns) html += fmt::format("<th scope=\"col\">{}</th>", column.head);
  html += "</tr></thead><tbody>\n";
  for (std::size_t c = 0; c < group.class_names.size(); ++c) {
    html += fmt::format("<tr><th scope=\"row\">{}</th>", escaped_markup(group.class_names[c]));
    for (const Column& column : kColumns) {
      double sum = 0;
      for (const Metrics& m : of_seeds) sum += m.of_classes[c].*column.score / double(of_seeds.size());
      html += number_cell(sum, number_text(sum));
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div></div>\n";
}

std::string answers_by_class(const ReportGroup& group, const PageMaterial& material) {
  const auto table = group.is_multi_label() ? class_score_table : confusion_table;
  std::string others;
  for (std::size_t i = 0; i < group.entries.size(); ++i)
    if (group.entries[i].has_scores() && i != *group.best && !material.is_brief)
      others += table(group, group.entries[i]);
  std::string html =
      std::string(
          group.is_multi_label()
              ? "<h3>Each class by itself</h3>\n<p class=\"soft\">Decided at a probability of 0.5; means over "
                "seeds. Best strategy first.</p>\n"
              : "<h3>Confusion</h3>\n<p class=\"soft\">Test images, summed over seeds; shades: share of the row. "
                "Best strategy first.</p>\n") +
      "<div class=\"many\">" + table(group, group.entries[*group.best]) + "</div>\n";
  if (!others.empty())
    html += "<details><summary>The other strategies</summary>\n<div class=\"many\">" + others + "</div></details>\n";
  return html;
}

std::string recalls(const StudyReport& report, const ReportGroup& group) {
  std::string rows;
  for (std::int64_t c = 0; c < group.classes(); ++c) {
    const std::int64_t count = group.class_counts[std::size_t(c)];
    std::string cells;
    bool is_doubtful = count == 0;
    for (const ReportEntry& entry : group.entries) {
      if (!entry.has_scores()) continue;
      if (count == 0) {
        cells += number_cell(NAN, "–", "h0");
        continue;
      }
      const std::vector<Cases> runs = group.cases(entry);
      const Interval i = recall_interval(c, runs, report.bootstrap);
      is_doubtful = is_doubtful || i.is_doubtful;
      cells +=
          number_cell(i.estimate, fmt::format("<b>{:.2f}</b><small>{:.2f}–{:.2f}</small>", i.estimate, i.low, i.high),
                      fmt::format("h{}", std::isfinite(i.estimate) ? std::clamp(int(i.estimate * 5.999), 0, 5) : 0));
    }
    rows +=
        fmt::format("<tr><th scope=\"row\" class=\"left\">{}</th>", escaped_markup(group.class_names[std::size_t(c)])) +
        number_cell(double(count),
                    fmt::format("{}{}", count, is_doubtful ? " <span class=\"bad\" title=\"doubtful\">!</span>" : "")) +
        cells + "</tr>\n";
  }
  return fmt::format(
      "<h3>Recall of each class</h3>\n<p class=\"soft\">Share of a class's test images that were recognised, with "
      "Wilson's {:.4g} % interval. ! fewer than 10 independent cases.</p>\n<div class=\"scroll\"><table class=\"map "
      "sortable\"><thead><tr><th scope=\"col\">class</th><th "
      "scope=\"col\">images</th>{}</tr></thead><tbody>\n{}</tbody></table></div>\n",
      100 * report.bootstrap.level, strategy_heads(group), rows);
}

/// The first recorded cell of each strategy.
std::string internals(const ReportGroup& group, const PageMaterial& material) {
  std::vector<InternalsMap> maps;
  std::vector<std::string> names;
  for (const ReportEntry& entry : group.entries) {
    if (material.is_brief && group.best && &entry != &group.entries[*group.best]) continue;
    for (const CellResult* cell : entry.cells) {
      const auto found = material.internals.find(cell->cell.id());
      if (found == material.internals.end()) continue;
      maps.push_back(found->second);
      names.push_back(entry.strategy);
      break;
    }
  }
  std::string html = "<h3>Inside training</h3>\n";
  if (maps.empty())
    return html +
           "<p class=\"soft\">Not recorded; <code>record_every = 10</code> in the study's [train] records gradients "
           "and updates of every block.</p>\n";
  struct Quantity {
    std::vector<std::vector<double>> InternalsMap::*values;
    const char* words;
  };
  for (const Quantity& quantity : {Quantity{&InternalsMap::relative_gradient, "Relative gradient norm, ‖g‖ / ‖w‖"},
                                   Quantity{&InternalsMap::update_ratio, "Update ratio, ‖Δw‖ / ‖w‖"}}) {
    const Axis scale = internals_scale(maps, quantity.values);
    html += fmt::format(
        "<p>{}, mean of an epoch's recorded steps, block by block (first seed). Crossed out: frozen.</p>\n<div "
        "class=\"scale\">{} <svg viewBox=\"0 0 180 12\" role=\"img\"><title>scale of shades, logarithmic</title>",
        quantity.words, rate_text(scale.low));
    for (int q = 0; q < 9; ++q)
      html += fmt::format("<rect class=\"q{}\" x=\"{}\" y=\"0\" width=\"20\" height=\"12\"/>", q, 20 * q);
    html += fmt::format("</svg> {}, logarithmic</div>\n<div class=\"panels\">\n", rate_text(scale.high));
    for (std::size_t i = 0; i < maps.size(); ++i)
      html += "<div>" + internals_svg(maps[i], quantity.values, scale, names[i]) + "</div>";
    html += "</div>\n";
  }
  return html;
}

/// The file's name, with its folder (a class, say) where another picture of the sheet has the same; never more of the
/// path, which is of this machine.
std::string image_name(const ReportGroup& group, const ExampleSheet& sheet, std::size_t image) {
  const auto path = [&](std::size_t i) { return std::filesystem::path(group.paths[i]); };
  const std::filesystem::path name = path(image).filename(), folder = path(image).parent_path().filename();
  const bool is_unique = std::ranges::none_of(sheet.pictures, [&](const ExamplePicture& other) {
    return other.example.image != image && path(other.example.image).filename() == name;
  });
  return (is_unique || folder.empty() ? name : folder / name).string();
}

std::string picture(const ReportGroup& group, const ExampleSheet& sheet, const ExamplePicture& p) {
  const Example& e = p.example;
  const std::string& predicted = group.class_names[std::size_t(e.predicted)];
  std::vector<std::string> names;
  for (const std::int32_t c : group.label_sets.classes_of(std::int32_t(e.label)))
    names.push_back(group.class_names[std::size_t(c)]);
  const std::string label = names.empty() ? "no class" : fmt::format("{}", fmt::join(names, ", "));
  const std::string words = e.is_missed     ? fmt::format("{}; {} missed ({:.2f})", label, predicted, e.probability)
                            : e.is_error    ? fmt::format("{}, taken for {} ({:.2f})", label, predicted, e.probability)
                            : names.empty() ? fmt::format("{}; no {} found ({:.2f})", label, predicted, e.probability)
                            : names.size() > 1 ? fmt::format("{}; {} found ({:.2f})", label, predicted, e.probability)
                                               : fmt::format("{} ({:.2f})", label, e.probability);
  return fmt::format(
      "<figure><span><img src=\"{}\" alt=\"{}\"><img src=\"{}\" alt=\"the same with what speaks for {} "
      "marked\"></span><figcaption>{}<br><span class=\"soft\">{}</span></figcaption></figure>\n",
      p.input, escaped_markup("test image: " + words), p.overlay, escaped_markup(predicted), escaped_markup(words),
      escaped_markup(image_name(group, sheet, e.image)));
}

std::string examples(const ReportGroup& group, const ExampleSheet& sheet) {
  std::string html = "<h3>Errors and hits</h3>\n";
  if (sheet.pictures.empty())
    return html + "<p class=\"soft\">No pictures: " + escaped_markup(sheet.why_none) + ".</p>\n";
  std::string errors, hits;
  for (const ExamplePicture& p : sheet.pictures) (p.example.is_error ? errors : hits) += picture(group, sheet, p);
  html += fmt::format(
      "<p class=\"soft\">{}, seed {}. Right of each image Grad-CAM: where the network found what speaks for {}; red "
      "most, as coarse as its last convolutions. It shows where, not why.</p>\n",
      escaped_markup(sheet.strategy), sheet.seed,
      group.is_multi_label() ? "the class that is named last" : "its answer");
  if (!errors.empty()) html += "<p><b>Errors it was surest of</b></p><div class=\"many\">" + errors + "</div>\n";
  if (!hits.empty()) html += "<p><b>Right answers, as sure as usual</b></p><div class=\"many\">" + hits + "</div>\n";
  return html;
}

}  // namespace

std::string group_section(const StudyReport& report, std::size_t index, const PageMaterial& material) {
  const ReportGroup& group = report.groups[index];
  const std::string title = escaped_markup(place_text(report, group));
  std::string html = fmt::format("<section id=\"d{}\"><h2>{}</h2>\n", index, title);
  const bool has_curves = std::ranges::any_of(group.entries, [](const ReportEntry& e) {
    return std::ranges::any_of(e.cells, [](const CellResult* cell) { return !cell->curve.empty(); });
  });
  if (!group.best) html += "<p>Nothing to score yet.</p>\n";
  if (group.best) {
    std::vector<std::string> counts;
    for (std::size_t c = 0; c < group.class_names.size(); ++c)
      counts.push_back(fmt::format("{} {}", group.class_names[c], group.class_counts[c]));
    html += fmt::format("<p class=\"soft\">{}: {}.</p>\n", counted(group.images(), "test image", "test images"),
                        escaped_markup(listed(counts)));
    html += score_table(report, group) + pair_table(report, group);
  }
  if (has_curves) html += learning_curves(group, material);
  if (group.best) html += curves(report, group, material) + recalls(report, group) + answers_by_class(group, material);
  if (has_curves) html += internals(group, material);
  if (group.best && index < material.examples.size()) html += examples(group, material.examples[index]);
  return html + "</section>\n";
}

}  // namespace graft
