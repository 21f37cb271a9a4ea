#include "strategies/study/json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace graft {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const KeyedSettings& settings) {
  Json all = Json::array();
  for (const auto& [key, value] : settings)
    all.push_back({key, std::visit([](const auto& v) { return Json(v); }, value)});
  return all;
}

SettingValue value_of(const Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number()) return json.get<double>();
  return json.get<std::string>();
}

KeyedSettings settings_of(const Json& json) {
  KeyedSettings settings;
  for (const Json& pair : json) settings.emplace_back(pair.at(0).get<std::string>(), value_of(pair.at(1)));
  return settings;
}

StudySpec spec_of(const Json& j) {
  StudySpec spec;
  j.at("title").get_to(spec.title);
  for (const Json& n : j.at("networks")) spec.networks.push_back({n.at("name"), n.at("weights")});
  for (const Json& d : j.at("datasets")) {
    StudyDataset& dataset = spec.datasets.emplace_back(StudyDataset{d.at("name"), d.at("path"), d.at("allow")});
    if (d.contains("intensity_window")) dataset.intensity_window = d["intensity_window"].get<std::string>();
  }
  for (const Json& s : j.at("strategies"))
    spec.strategies.push_back({s.at("name"), s.at("strategy"), settings_of(s.at("settings")), s.at("tuning_lr").at(0),
                               s.at("tuning_lr").at(1)});
  j.at("seeds").get_to(spec.seeds);
  j.at("folds").get_to(spec.folds);
  j.at("train_per_class").get_to(spec.train_per_class);
  j.at("val_per_class").get_to(spec.val_per_class);
  j.at("test_per_class").get_to(spec.test_per_class);
  j.at("split_seed").get_to(spec.split_seed);
  const Json& t = j.at("tuning");
  spec.tuning = {t.at("trials"), t.at("epochs"), t.at("lr").at(0), t.at("lr").at(1), t.at("seed")};
  j.at("selection").get_to(spec.selection);
  j.at("score").get_to(spec.score);
  spec.train = settings_of(j.at("train"));
  return spec;
}

}  // namespace

std::string to_json(const StudySpec& spec) {
  Json networks = Json::array(), datasets = Json::array(), strategies = Json::array();
  for (const StudyNetwork& n : spec.networks) networks.push_back({{"name", n.name}, {"weights", n.weights}});
  for (const StudyDataset& d : spec.datasets) {
    Json& dataset = datasets.emplace_back(Json{{"name", d.name}, {"path", d.path}, {"allow", d.allow}});
    if (d.intensity_window) dataset["intensity_window"] = *d.intensity_window;
  }
  for (const StudyStrategy& s : spec.strategies)
    strategies.push_back({{"name", s.name},
                          {"strategy", s.strategy},
                          {"settings", json_of(s.settings)},
                          {"tuning_lr", {s.lr_min, s.lr_max}}});
  const Json all{{"title", spec.title},
                 {"networks", networks},
                 {"datasets", datasets},
                 {"strategies", strategies},
                 {"seeds", spec.seeds},
                 {"folds", spec.folds},
                 {"train_per_class", spec.train_per_class},
                 {"val_per_class", spec.val_per_class},
                 {"test_per_class", spec.test_per_class},
                 {"split_seed", spec.split_seed},
                 {"tuning",
                  {{"trials", spec.tuning.trials},
                   {"epochs", spec.tuning.epochs},
                   {"lr", {spec.tuning.lr_min, spec.tuning.lr_max}},
                   {"seed", spec.tuning.seed}}},
                 {"selection", spec.selection},
                 {"score", spec.score},
                 {"train", json_of(spec.train)}};
  return all.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

StudySpec study_from_json(std::string_view text, const std::string& name) {
  try {
    return spec_of(Json::parse(text));
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("{}: not a study that this program has written ({}); remove the file to begin anew", name,
                            error.what()));
  }
}

}  // namespace graft
