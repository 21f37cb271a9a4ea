#include "apps/report/examples.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>

#include "data/image.h"
#include "data/resize.h"
#include "strategies/analysis/grad_cam.h"
#include "strategies/study/splits.h"

namespace graft {
namespace {

constexpr std::int64_t kSide = 128;  // pixels of a picture
constexpr int kQuality = 82;
constexpr std::size_t kErrors = 6, kHits = 6;  // of a group at most

std::string base64(std::span<const std::uint8_t> bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t triple = 0;
    for (std::size_t k = 0; k < 3; ++k) triple = triple << 8 | (k < count ? bytes[i + k] : 0u);
    for (std::size_t k = 0; k < 4; ++k) text += k <= count ? kDigits[triple >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

/// Of several labels per image.
Example answer_of(const LabelSets& sets, std::size_t image, std::int32_t label, std::span<const double> row) {
  Example wrong{.image = image, .label = label, .is_error = true}, right{.image = image, .label = label};
  for (std::size_t c = 0; c < row.size(); ++c) {
    const bool holds = sets.has(label, std::int64_t(c)), is_predicted = row[c] > 0.5;
    const double certainty = std::max(row[c], 1 - row[c]);
    Example& kind = holds == is_predicted ? right : wrong;
    if ((holds != is_predicted || holds) && certainty > kind.probability)
      kind.predicted = std::int64_t(c), kind.probability = certainty, kind.is_missed = holds && !is_predicted;
  }
  if (wrong.probability > 0) return wrong;
  if (right.probability > 0) return right;
  const auto top = std::ranges::max_element(row) - row.begin();  // an image without any class, and none was found
  return {.image = image, .label = label, .predicted = top, .probability = 1 - row[std::size_t(top)]};
}

/// What the first seed of a strategy answered, image by image.
std::vector<Example> answers(const ReportGroup& group, const ReportEntry& entry) {
  const std::vector<double>& p = entry.seeds.front().probabilities;
  const auto classes = std::size_t(group.classes());
  std::vector<Example> all;
  for (std::size_t i = 0; i < group.labels.size(); ++i) {
    const auto row = std::span(p).subspan(i * classes, classes);
    const std::int32_t label = group.labels[i];
    const auto top = std::ranges::max_element(row) - row.begin();
    all.push_back(group.is_multi_label() ? answer_of(group.label_sets, i, label, row)
                                         : Example{i, label, top, row[std::size_t(top)], label != top});
  }
  return all;
}

/// The run that answered the image, and its file.
struct Source {
  std::filesystem::path run;
  std::string image;
};

Source source_of(const ReportGroup& group, const ReportEntry& entry, std::size_t image) {
  std::size_t before = 0;
  for (const CellResult* cell : entry.seeds.front().cells) {
    if (image < before + cell->predictions.paths.size()) return {cell->directory, group.paths[image]};
    before += cell->predictions.paths.size();
  }
  throw Error("study report: an image without a run");
}

/// Grad-CAM of each example, in their order.
std::vector<GradCam> explained(Context& context, const ReportGroup& group, const ReportEntry& entry,
                               const std::vector<Example>& examples) {
  std::map<std::filesystem::path, std::vector<std::size_t>> by_run;  // with folds each image has a network of its own
  for (std::size_t i = 0; i < examples.size(); ++i) by_run[source_of(group, entry, examples[i].image).run].push_back(i);
  std::vector<GradCam> all(examples.size());
  for (const auto& [run, indices] : by_run) {
    std::vector<std::string> files;
    std::vector<std::int64_t> classes;
    for (std::size_t i : indices)
      files.push_back(group.paths[examples[i].image]), classes.push_back(examples[i].predicted);
    std::vector<GradCam> maps = grad_cam(context, run, files, classes);
    for (std::size_t k = 0; k < indices.size(); ++k) all[indices[k]] = std::move(maps[k]);
  }
  return all;
}

/// Why no pictures can be made; empty if they can.
std::string obstacle(const StudyReport& report, const ReportGroup& group, const ReportEntry& entry) {
  const std::vector<StudyDataset>& datasets = report.results->spec.datasets;
  if (is_npz(*std::ranges::find(datasets, group.dataset, &StudyDataset::name)))
    return "they are shown of image files only, and this data set is an .npz";
  for (const CellResult* cell : entry.seeds.front().cells)
    if (!std::filesystem::exists(cell->directory / "best.h5")) return cell->cell.id() + " has no best.h5";
  const std::string& first = group.paths.front();
  if (!std::filesystem::exists(first)) return "the image files are not where they were";
  return {};
}

void add_pictures(Context& context, const ReportGroup& group, const ReportEntry& entry, std::int64_t bytes,
                  ExampleSheet& sheet) {
  const std::vector<Example> examples = choose_examples(group, kErrors, kHits);
  const std::vector<GradCam> maps = explained(context, group, entry, examples);
  // Errors and hits take turns, so that a small share still shows both.
  std::vector<std::size_t> order;
  const auto errors = std::size_t(std::ranges::count_if(examples, &Example::is_error));
  for (std::size_t k = 0; k < std::max(errors, examples.size() - errors); ++k) {
    if (k < errors) order.push_back(k);
    if (errors + k < examples.size()) order.push_back(errors + k);
  }
  std::int64_t taken = 0;
  for (std::size_t i : order) {
    ExamplePicture picture{examples[i], jpeg_uri(resize(maps[i].input, {kSide, kSide})),
                           jpeg_uri(resize(overlay(maps[i]), {kSide, kSide}))};
    taken += std::ssize(picture.input) + std::ssize(picture.overlay);
    if (taken > bytes) break;
    sheet.pictures.push_back(std::move(picture));
  }
  if (sheet.pictures.empty()) sheet.why_none = "the page would become too large";
}

}  // namespace

std::string jpeg_uri(const Image& image) { return "data:image/jpeg;base64," + base64(encode_jpeg(image, kQuality)); }

std::vector<Example> choose_examples(const ReportGroup& group, std::size_t errors, std::size_t hits) {
  if (!group.best) return {};
  std::vector<Example> wrong, right;
  for (const Example& e : answers(group, group.entries[*group.best])) (e.is_error ? wrong : right).push_back(e);
  std::ranges::stable_sort(wrong, std::greater{}, &Example::probability);
  if (wrong.size() > errors) wrong.resize(errors);
  if (right.empty()) return wrong;
  std::ranges::stable_sort(right, {}, &Example::probability);
  const double median = right[right.size() / 2].probability;
  std::ranges::stable_sort(right, {}, [&](const Example& e) { return std::abs(e.probability - median); });
  // Round by round one of each class.
  std::vector<Example> chosen;
  std::map<std::int64_t, std::size_t> of_class;
  std::vector<std::pair<std::size_t, std::size_t>> order;  // how many of its class come before, place
  for (std::size_t i = 0; i < right.size(); ++i) order.emplace_back(of_class[right[i].label]++, i);
  std::ranges::sort(order);
  for (const auto& [round, i] : order)
    if (chosen.size() < hits) chosen.push_back(right[i]);
  wrong.insert(wrong.end(), chosen.begin(), chosen.end());
  return wrong;
}

std::vector<ExampleSheet> example_sheets(Context& context, const StudyReport& report, std::int64_t bytes,
                                         ProgressSink& progress) {
  std::vector<ExampleSheet> sheets;
  const auto with_best = std::ranges::count_if(report.groups, [](const ReportGroup& g) { return g.best.has_value(); });
  for (const ReportGroup& group : report.groups) {
    ExampleSheet& sheet = sheets.emplace_back();
    if (!group.best) continue;
    const ReportEntry& entry = group.entries[*group.best];
    sheet.strategy = entry.strategy;
    sheet.seed = entry.seeds.front().seed;
    sheet.why_none = obstacle(report, group, entry);
    if (!sheet.why_none.empty()) continue;
    try {
      add_pictures(context, group, entry, bytes / with_best, sheet);
    } catch (const Error& error) {
      sheet.why_none = "they cannot be computed";  // the page may be published: no path of this machine in it
      progress.note(error.what());
    }
  }
  return sheets;
}

}  // namespace graft
