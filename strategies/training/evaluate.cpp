#include "strategies/training/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "data/csv.h"
#include "data/files.h"
#include "data/parallel.h"
#include "models/network_io.h"
#include "strategies/batches/split_batches.h"
#include "strategies/training/trained_model.h"

namespace graft {
namespace {

/// Where each class of the data is among the model's. Without names in the model the numbers must agree.
std::vector<std::int32_t> class_map(const ModelInfo& info, const std::vector<std::string>& data_classes) {
  std::vector<std::int32_t> map(data_classes.size());
  std::iota(map.begin(), map.end(), 0);
  if (info.class_names.empty()) {
    if (std::int64_t(data_classes.size()) > info.num_classes)
      throw Error(fmt::format("evaluate: the data has {} classes, the model {}; evaluate a model trained on this data",
                              data_classes.size(), info.num_classes));
    return map;
  }
  for (std::size_t c = 0; c < data_classes.size(); ++c) {
    const auto found = std::ranges::find(info.class_names, data_classes[c]);
    if (found == info.class_names.end())
      throw Error("evaluate: the model knows no class '" + data_classes[c] + "'; its classes are " +
                  fmt::format("{}", fmt::join(info.class_names.begin(),
                                              info.class_names.begin() +
                                                  std::min<std::ptrdiff_t>(8, std::ssize(info.class_names)),
                                              ", ")) +
                  (info.class_names.size() > 8 ? ", …" : ""));
    map[c] = std::int32_t(found - info.class_names.begin());
  }
  return map;
}

/// Errors: the model and the data do not agree whether an image may have several labels.
void check_same_task(const ModelInfo& info, const Dataset& dataset) {
  if (info.is_multi_label == dataset.is_multi_label()) return;
  throw Error(
      info.is_multi_label
          ? "evaluate: the model gives any number of classes per image, the data has one; give a CSV with a column "
            "labels, or an .npz with rows of 0 and 1"
          : "evaluate: the data has any number of labels per image, the model gives one class; evaluate a model "
            "trained on such data (weights of one without metadata are imported with --multi-label)");
}

using SplitNames = std::map<std::string, std::string>;  // by path

/// As split.csv of the run has them, or of the run directory that a model file lies in; empty if there is none.
SplitNames splits_of_run(const std::filesystem::path& run_or_model) {
  const bool is_file = !std::filesystem::is_directory(run_or_model);
  const std::filesystem::path run = is_file ? run_or_model.parent_path() : run_or_model;
  const std::filesystem::path listing = run / "split.csv";
  SplitNames split_of;
  if (!std::filesystem::exists(listing)) return split_of;
  if (is_file && !std::filesystem::exists(run / "config.toml")) return split_of;  // no run's
  const CsvTable table = parse_csv(read_text(listing), listing.string());
  const auto path = table.column("path"), split = table.column("split");
  if (path && split)
    for (const std::vector<std::string>& row : table.rows) split_of[row[*path]] = row[*split];
  return split_of;
}

bool lists_all(const SplitNames& split_of, const Dataset& dataset) {
  return std::ranges::all_of(dataset.samples(), [&](const Sample& x) { return split_of.contains(x.path); });
}

/// The data, held out from as training would if its split is to be known from the data; `split_of` is emptied if it is
/// of other images.
Dataset open_to_evaluate(const EvaluateSettings& s, const ModelInfo& info, SplitNames& split_of) {
  DatasetSpec spec{.path = s.data,
                   .val_fraction = s.val_fraction,
                   .test_fraction = s.test_fraction,
                   .seed = std::uint64_t(s.seed),
                   .skip_bad = s.skip_bad,
                   .decodes_all = s.skip_bad,
                   .for_training = false,
                   .needs_val = s.split == "train" || s.split == "val",
                   .threads = loader_threads(0, s.threads),
                   .window = info.window};
  if (split_of.empty() && s.split != "all") return Dataset::open(spec);
  DatasetSpec as_it_is = spec;
  as_it_is.val_fraction = as_it_is.test_fraction = 0;
  Dataset dataset = Dataset::open(as_it_is);
  if (s.split == "all" || lists_all(split_of, dataset)) return dataset;
  split_of.clear();
  return Dataset::open(spec);
}

/// As the run has it, or else the data.
std::string split_name(const Sample& sample, const SplitNames& split_of) {
  const auto listed = split_of.find(sample.path);
  return listed == split_of.end() ? std::string(to_string(sample.split)) : listed->second;
}

std::vector<std::int64_t> choose_samples(const Dataset& dataset, const SplitNames& split_of, const std::string& split) {
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < dataset.size(); ++i)
    if (split == "all" || split_name(dataset.samples()[std::size_t(i)], split_of) == split) chosen.push_back(i);
  return chosen;
}

/// A number for each group's images, and for each image without one; empty if no two belong together.
std::vector<std::int64_t> groups_of(const Predictions& predictions, const Dataset& dataset) {
  std::map<std::string, std::int64_t> numbers;
  std::vector<std::int64_t> groups;
  std::int64_t next = 0;
  for (const std::int64_t i : predictions.samples) {
    const std::string& group = dataset.samples()[std::size_t(i)].group;
    groups.push_back(group.empty() ? next : numbers.try_emplace(group, next).first->second);
    next += groups.back() == next;
  }
  return next == predictions.n() ? std::vector<std::int64_t>() : groups;
}

void add_intervals(EvaluationResult& result, const Predictions& predictions, const Dataset& dataset,
                   const EvaluateSettings& s) {
  const std::vector<std::int64_t> groups = groups_of(predictions, dataset);
  const Cases cases{predictions.probabilities, predictions.labels, groups, predictions.classes,
                    &predictions.label_sets};
  std::array<Interval, std::size(kScores)> found;
  parallel_for(std::ssize(found), loader_threads(0, s.threads), [&](std::int64_t i) {
    found[std::size_t(i)] = interval(kScores[i], cases, {.seed = std::uint64_t(s.seed)});
  });
  for (std::size_t i = 0; i < found.size(); ++i) result.intervals[kScores[i]] = found[i];
  if (!groups.empty()) result.groups = *std::ranges::max_element(groups) + 1;
}

}  // namespace

EvaluationResult evaluate(Context& context, const EvaluateSettings& s, ProgressSink& progress) {
  if (!s.predictions.empty()) check_writable(s.predictions);  // before the work is done
  const std::filesystem::path path = model_file_of(s.model);
  const std::unique_ptr<Network> network = trained_network(context, path, s.size);
  SplitNames split_of = splits_of_run(s.model);
  const Dataset dataset = open_to_evaluate(s, network->info(), split_of);
  for (const BadImage& bad : dataset.skipped()) progress.note("skipped " + bad.path + ": " + bad.reason);
  check_same_task(network->info(), dataset);
  const std::vector<std::int32_t> map = class_map(network->info(), dataset.class_names());
  const std::vector<std::int64_t> samples = choose_samples(dataset, split_of, s.split);
  if (samples.empty())
    throw Error("evaluate: " + s.data + " has no " + s.split + " images; choose another --split, or all");
  if (dataset.is_split_drawn())
    progress.note(fmt::format(
        "the split is drawn now (seed {}), since neither the data nor a run's split.csv names one: the model may have "
        "been trained on some of these images",
        s.seed));
  const std::unique_ptr<BatchSource> batches = image_batches(context, dataset,
                                                             {.indices = samples,
                                                              .batch = s.batch,
                                                              .transform = transform_of(network->info()),
                                                              .augmentation = {},
                                                              .threads = loader_threads(0, s.threads),
                                                              .cache_bytes = s.image_cache_mb << 20});
  Predictions predictions = predict_batches(
      *network, *batches,
      {.name = "evaluate", .count = std::int64_t(samples.size()), .label_sets = dataset.label_sets().renumbered(map)},
      progress);
  if (!dataset.is_multi_label())
    for (std::int32_t& label : predictions.labels) label = map[std::size_t(label)];
  std::vector<std::string> names = network->info().class_names;
  if (names.empty()) {  // the model may have more classes than the data
    names = dataset.class_names();
    for (std::int64_t c = std::ssize(names); c < predictions.classes; ++c) names.push_back(fmt::format("class {}", c));
  }
  if (!s.predictions.empty()) {
    const auto split_of_sample = [&](const Sample& sample) { return split_name(sample, split_of); };
    write_atomically(s.predictions, predictions_header(names, dataset.is_multi_label()) +
                                        predictions_lines(predictions, dataset, names, split_of_sample));
  }
  EvaluationResult result = evaluate_predictions(predictions, names, s.split);
  if (s.intervals) add_intervals(result, predictions, dataset, s);
  return result;
}

}  // namespace graft
