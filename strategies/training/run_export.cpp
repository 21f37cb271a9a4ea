#include "strategies/training/run_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>

#include "data/csv.h"
#include "data/files.h"
#include "data/metrics.h"
#include "kernels/core.h"
#include "strategies/training/resume_check.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// The run's text of that name; empty where there is none.
std::string text_of(const fs::path& run, const char* name) {
  return fs::exists(run / name) ? read_text(run / name) : std::string();
}

std::string needed_text(const fs::path& run, const char* name) {
  if (!fs::exists(run / name))
    throw Error(fmt::format("export: {} holds no {}; name the directory of a finished run", run.string(), name));
  return read_text(run / name);
}

/// The run's JSON object of that name; null where there is none.
Json object_of(const fs::path& run, const char* name) {
  if (!fs::exists(run / name)) return {};
  Json object = Json::parse(read_text(run / name), nullptr, false);
  if (!object.is_object())
    throw Error(
        fmt::format("export: {} is damaged, it holds no JSON object; restore it, or remove it to export the "
                    "run without it",
                    (run / name).string()));
  return object;
}

/// A TOML value as plain text.
std::string plain(const std::string& value) {
  const Json json = Json::parse(value, nullptr, false);  // a TOML basic string has JSON's escapes
  return json.is_string() ? json.get<std::string>() : value;
}

std::string name_of(const fs::path& run) {
  const fs::path whole = fs::absolute(run).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

constexpr std::ptrdiff_t kFirstScore = 4;  // column of predictions.csv

/// One split's rows of predictions.csv.
struct Scores {
  std::vector<std::pair<std::int64_t, std::vector<std::string>>> rows;  // index in the .npz, scores as written
  std::vector<double> probabilities;
  std::vector<std::int32_t> labels;
};

/// The number of a class by its column. Errors: there is none.
std::int32_t class_of(const CsvTable& table, const std::string& name, const fs::path& run) {
  const auto found = std::ranges::find(table.header.begin() + kFirstScore, table.header.end(), "p_" + name);
  if (found == table.header.end())
    throw Error(
        fmt::format("export: {} names the class '{}' and has no column of it; it should be as graft train wrote it",
                    (run / "predictions.csv").string(), name));
  return std::int32_t(found - table.header.begin() - kFirstScore);
}

/// By split; `numbers` has all combinations of classes where the images may have several.
std::map<std::string, Scores> scores_of(const CsvTable& table, const fs::path& run, LabelNumbers& numbers) {
  const bool is_multi_label = table.column("labels").has_value();
  const auto path = table.column("path"), split = table.column("split"),
             label = table.column(is_multi_label ? "labels" : "label");
  if (!path || !split || !label || table.header.size() < 6)
    throw Error("export: " + (run / "predictions.csv").string() +
                " lacks columns; it should be as graft train wrote it");
  std::map<std::string, Scores> splits;
  for (const std::vector<std::string>& row : table.rows) {
    const std::string start = row[*split] + "/";
    const auto is_digit = [](unsigned char c) { return c >= '0' && c <= '9'; };
    const std::string index = row[*path].starts_with(start) ? row[*path].substr(start.size()) : "";
    if (index.empty() || !std::ranges::all_of(index, is_digit))
      throw Error("export: " + run.string() + " was not trained on a MedMNIST .npz (there is an image " + row[*path] +
                  "); only those have an official score file");
    Scores& s = splits[row[*split]];
    s.rows.emplace_back(std::stoll(index), std::vector(row.begin() + kFirstScore, row.end()));
    for (const std::string& score : s.rows.back().second)
      s.probabilities.push_back(number_field(score, "predictions.csv"));
    if (!is_multi_label) {
      s.labels.push_back(class_of(table, row[*label], run));
      continue;
    }
    std::vector<std::int32_t> classes;
    for (const std::string& name : LabelSets::split(row[*label])) classes.push_back(class_of(table, name, run));
    s.labels.push_back(numbers.label_of(std::move(classes)));
  }
  return splits;
}

/// The evaluator's accuracy of two classes asks whether class 1 has more than half.
double official_accuracy(const Scores& s, std::int64_t classes, const Metrics& metrics) {
  if (classes != 2 || metrics.is_multi_label()) return metrics.accuracy;
  std::int64_t right = 0;
  for (std::size_t i = 0; i < s.labels.size(); ++i) right += (s.probabilities[2 * i + 1] > 0.5) == (s.labels[i] == 1);
  return double(right) / double(s.labels.size());
}

// MLflow's file store.

std::int64_t milliseconds_of(const std::string& utc) {
  std::tm time{};
  return strptime(utc.c_str(), "%Y-%m-%dT%H:%M:%SZ", &time) ? std::int64_t(timegm(&time)) * 1000 : 0;
}

/// A YAML scalar: JSON's strings are YAML's double-quoted ones.
std::string yaml(const std::string& text) { return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string id_of(const std::string& text) {
  return sha256_hex({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}).substr(0, 32);
}

std::string uri_of(const fs::path& path) { return "file://" + fs::absolute(path).lexically_normal().string(); }

/// The id of the experiment "graft" in the store; makes it, and the default one that MLflow expects, where they lack.
std::string experiment_in(const fs::path& store, std::int64_t now) {
  const auto make = [&](const std::string& id, const std::string& name) {
    if (fs::exists(store / id / "meta.yaml")) return;
    write_atomically(store / id / "meta.yaml",
                     fmt::format("artifact_location: {}\ncreation_time: {}\nexperiment_id: {}\nlast_update_time: {}\n"
                                 "lifecycle_stage: active\nname: {}\n",
                                 yaml(uri_of(store / id)), now, yaml(id), now, yaml(name)));
  };
  const std::string id = "714238650194";  // any number that is not 0, the same in every store
  make("0", "Default");
  make(id, "graft");
  return id;
}

using Points = std::map<std::string, std::string>;  // "time value step" lines by the metric's name

void add_point(Points& points, const std::string& name, std::int64_t time, double value, std::int64_t step) {
  if (std::isfinite(value)) points[name] += fmt::format("{} {:.12g} {}\n", time, value, step);
}

/// Columns of a CSV whose first is the step. `time_of(row)` advances through the run.
template <class TimeOf>
void add_columns(Points& points, const std::string& csv, const std::string& prefix, const TimeOf& time_of) {
  if (csv.empty()) return;
  const CsvTable table = parse_csv(csv, "the run's log");
  for (const std::vector<std::string>& row : table.rows) {
    const std::int64_t time = time_of(table, row), step = std::stoll(row[0]);
    for (std::size_t c = 1; c < row.size(); ++c)
      if (!row[c].empty())
        add_point(points, prefix + table.header[c], time, number_field(row[c], "the run's log"), step);
  }
}

}  // namespace

std::vector<fs::path> export_medmnist(const fs::path& run, const fs::path& to) {
  const CsvTable table = parse_csv(needed_text(run, "predictions.csv"), (run / "predictions.csv").string());
  const std::map<std::string, std::string> settings = keys_of(needed_text(run, "config.toml"));
  const auto data = settings.find("train.data");
  const fs::path file = data == settings.end() ? fs::path() : fs::path(plain(data->second));
  if (file.extension() != ".npz")
    throw Error("export: " + run.string() + " was trained on " + file.string() +
                "; only runs on a MedMNIST .npz have an official score file");
  const std::int64_t classes = std::int64_t(table.header.size()) - 4;
  std::vector<fs::path> written;
  LabelNumbers numbers;
  const std::map<std::string, Scores> splits = scores_of(table, run, numbers);
  const LabelSets sets = table.column("labels") ? numbers.sets() : LabelSets();
  for (const auto& [split, scores] : splits) {
    const Metrics metrics = compute_metrics(scores.probabilities, scores.labels, classes, sets);
    for (std::int64_t c = 0; metrics.is_multi_label() && c < classes; ++c)
      if (std::isnan(metrics.of_classes[std::size_t(c)].auc))
        throw Error(fmt::format(
            "export: the AUC of {} is not defined for class {}, which all or none of its images have", split, c));
    if (std::isnan(metrics.auc))
      throw Error("export: the AUC of " + split + " is not defined; it needs images of more than one class");
    auto rows = scores.rows;
    std::ranges::sort(rows);
    std::string text;
    for (auto& [index, fields] : rows) text += fmt::format("{},{}\n", index, fmt::join(fields, ","));
    written.push_back(to / fmt::format("{}_{}_[AUC]{:.3f}_[ACC]{:.3f}@{}.csv", file.stem().string(), split, metrics.auc,
                                       official_accuracy(scores, classes, metrics), name_of(run)));
    write_atomically(written.back(), std::string_view(text));
  }
  return written;
}

fs::path export_mlflow(const fs::path& run, const fs::path& to) {
  const std::string config = needed_text(run, "config.toml");
  const Json about = object_of(run, "environment.json"), summary = object_of(run, "summary.json");
  const bool is_finished = summary.is_object();
  const auto text_in = [&](const char* key) {
    return about.is_object() && about.contains(key) && about[key].is_string() ? about[key].get<std::string>() : "";
  };
  const std::int64_t start = milliseconds_of(text_in("started"));

  Points metrics;
  std::int64_t elapsed = 0;
  add_columns(metrics, text_of(run, "epochs.csv"), "", [&](const CsvTable& table, const std::vector<std::string>& row) {
    if (const auto seconds = table.column("seconds"))
      elapsed += std::int64_t(1000 * number_field(row[*seconds], "epochs.csv"));
    return start + elapsed;
  });
  add_columns(metrics, text_of(run, "steps.csv"), "update/", [&](const CsvTable&, const auto&) { return start; });
  for (const char* split : {"val", "test"}) {
    if (!is_finished || !summary.contains(split)) continue;
    for (const auto& [name, value] : summary[split].items())
      if (value.is_number())
        add_point(metrics, fmt::format("{}/{}", split, name), start + elapsed, value.get<double>(),
                  summary.value("best_epoch", std::int64_t{0}));
  }

  const std::string experiment = experiment_in(to, start);
  const std::string id = id_of(fs::absolute(run).lexically_normal().string() + text_in("started"));
  const fs::path folder = to / experiment / id;
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  for (const char* part : {"params", "metrics", "tags", "artifacts"}) fs::create_directories(folder / part, ignored);
  for (const auto& [key, value] : keys_of(config))
    write_atomically(folder / "params" / key, std::string_view(plain(value)));
  for (const auto& [name, lines] : metrics) write_atomically(folder / "metrics" / name, std::string_view(lines));
  const std::pair<const char*, std::string> tags[] = {
      {"mlflow.runName", name_of(run)},    {"mlflow.source.name", text_in("command_line")},
      {"mlflow.source.type", "LOCAL"},     {"graft.version", text_in("graft")},
      {"graft.device", text_in("device")}, {"graft.run_directory", fs::absolute(run).lexically_normal().string()}};
  for (const auto& [key, value] : tags) write_atomically(folder / "tags" / key, std::string_view(value));
  for (const char* name :
       {"config.toml", "environment.json", "split.csv", "epochs.csv", "steps.csv", "predictions.csv", "summary.json"})
    if (fs::exists(run / name)) write_atomically(folder / "artifacts" / name, read_file(run / name));
  constexpr int kFinished = 3, kKilled = 5, kLocal = 4;  // RunStatus, SourceType
  write_atomically(
      folder / "meta.yaml",
      fmt::format("artifact_uri: {}\nend_time: {}\nentry_point_name: ''\nexperiment_id: {}\nlifecycle_stage: active\n"
                  "run_id: {}\nrun_name: {}\nrun_uuid: {}\nsource_name: ''\nsource_type: {}\nsource_version: ''\n"
                  "start_time: {}\nstatus: {}\ntags: []\nuser_id: ''\n",
                  yaml(uri_of(folder / "artifacts")), start + elapsed, yaml(experiment), yaml(id), yaml(name_of(run)),
                  yaml(id), kLocal, start, is_finished ? kFinished : kKilled));
  return folder;
}

}  // namespace graft
