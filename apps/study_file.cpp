#include "apps/study_file.h"

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <filesystem>

#include "data/files.h"
#include "strategies/monitor.h"
#include "strategies/strategy.h"
#include "strategies/study/settings.h"
#include "strategies/study/splits.h"

namespace graft {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string_view>;

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), folder_(fs::absolute(path).parent_path()) {}
  StudySpec read(const toml::table& file);

 private:
  [[noreturn]] void fail(const toml::node& at, const std::string& what) const {
    const toml::source_region& place = at.source();
    throw UsageError(fmt::format("{}:{}:{}: {}", path_, place.begin.line, place.begin.column, what));
  }
  void check_keys(const toml::table& table, const std::string& prefix, const Names& known) const;
  const toml::table& table_at(const toml::node& node, const std::string& key) const;
  std::string text(const toml::node& node, const std::string& key) const;
  std::int64_t integer(const toml::node& node, const std::string& key, std::int64_t min = 0) const;
  std::vector<std::string> texts(const toml::node& node, const std::string& key) const;
  std::pair<double, double> range(const toml::node& node, const std::string& key) const;
  SettingValue value(const toml::node& node, const std::string& key) const;
  std::string absolute(const std::string& path) const { return (folder_ / path).lexically_normal().string(); }

  void read_study(const toml::table& table, StudySpec& spec) const;
  void read_tuning(const toml::table& table, StudyTuning& tuning) const;
  StudyDataset dataset(const std::string& name, const toml::node& node) const;
  void add_setting(TrainSettings& settings, KeyedSettings& into, const std::string& key, const toml::node& node) const;
  void add_own(TrainSettings& settings, StudyStrategy& entry, const std::string& key, const toml::node& node) const;
  StudyStrategy strategy(const std::string& name, const toml::table* table) const;

  std::string path_;
  fs::path folder_;
};

void Reader::check_keys(const toml::table& table, const std::string& prefix, const Names& known) const {
  for (const auto& [name, node] : table) {
    if (std::ranges::find(known, name.str()) != known.end()) continue;
    const std::string near = nearest_name(name.str(), known);
    fail(node, fmt::format("unknown key '{}{}'{}", prefix, name.str(),
                           near.empty() ? fmt::format("; there are {}", fmt::join(known, ", "))
                                        : fmt::format(", did you mean '{}{}'?", prefix, near)));
  }
}

const toml::table& Reader::table_at(const toml::node& node, const std::string& key) const {
  if (const toml::table* table = node.as_table()) return *table;
  fail(node, key + ": expects a table");
}

std::string Reader::text(const toml::node& node, const std::string& key) const {
  if (const auto* value = node.as_string()) return value->get();
  fail(node, key + ": expects a text in quotes");
}

std::int64_t Reader::integer(const toml::node& node, const std::string& key, std::int64_t min) const {
  const auto* value = node.as_integer();
  if (!value) fail(node, key + ": expects a whole number");
  if (value->get() < min) fail(node, fmt::format("{}: expects at least {}, got {}", key, min, value->get()));
  return value->get();
}

std::vector<std::string> Reader::texts(const toml::node& node, const std::string& key) const {
  const toml::array* list = node.as_array();
  if (!list) fail(node, key + R"(: expects a list of texts, as ["one", "two"])");
  std::vector<std::string> all;
  for (const toml::node& one : *list) all.push_back(text(one, key));
  return all;
}

/// [low, high], both above 0.
std::pair<double, double> Reader::range(const toml::node& node, const std::string& key) const {
  const toml::array* list = node.as_array();
  const auto at = [&](std::size_t i) { return list->get(i)->value<double>().value_or(0); };
  if (!list || list->size() != 2 || !(at(0) > 0) || !(at(1) >= at(0)))
    fail(node, key + ": expects two rates, the smaller first, as [1e-5, 1e-1]");
  return {at(0), at(1)};
}

SettingValue Reader::value(const toml::node& node, const std::string& key) const {
  if (const auto* v = node.as_string()) return v->get();
  if (const auto* v = node.as_integer()) return v->get();
  if (const auto* v = node.as_floating_point()) return v->get();
  if (const auto* v = node.as_boolean()) return v->get();
  fail(node, key + ": expects a text, a number, true or false");
}

void Reader::read_tuning(const toml::table& table, StudyTuning& tuning) const {
  check_keys(table, "study.tuning.", {"trials", "epochs", "lr", "seed"});
  for (const auto& [name, node] : table) {
    const std::string key = "study.tuning." + std::string(name.str());
    if (name == "trials") tuning.trials = integer(node, key);
    if (name == "epochs") tuning.epochs = integer(node, key);
    if (name == "seed") tuning.seed = integer(node, key);
    if (name == "lr") std::tie(tuning.lr_min, tuning.lr_max) = range(node, key);
  }
}

StudyDataset Reader::dataset(const std::string& name, const toml::node& node) const {
  const std::string key = "study.datasets." + name;
  if (node.is_string()) return {name, absolute(text(node, key)), {}};
  const toml::table& table = table_at(node, key);
  check_keys(table, key + ".", {"path", "allow", "intensity_window"});
  if (!table.contains("path")) fail(node, key + ": has no path");
  StudyDataset dataset{name, absolute(text(*table.get("path"), key + ".path")), {}};
  if (const toml::node* window = table.get("intensity_window")) {
    const std::string given = text(*window, key + ".intensity_window");
    if (!given.empty() && !intensity_window_of(given))
      fail(*window,
           fmt::format("{}.intensity_window: '{}' is no window; give the numbers that become black and white, as "
                       "\"0,4095\", or \"\" for none",
                       key, given));
    dataset.intensity_window = given;
  }
  if (const toml::node* allow = table.get("allow")) {
    const Names known{"duplicates", "near-duplicates", "groups"};
    dataset.allow = texts(*allow, key + ".allow");
    for (const std::string& leak : dataset.allow)
      if (std::ranges::find(known, leak) == known.end())
        fail(*allow, fmt::format("{}.allow: '{}' is unknown; choose from {}", key, leak, fmt::join(known, ", ")));
  }
  return dataset;
}

void Reader::read_study(const toml::table& table, StudySpec& spec) const {
  check_keys(table, "study.",
             {"title", "networks", "strategies", "seeds", "tuning", "weights", "datasets", "folds", "train_per_class",
              "val_per_class", "test_per_class", "split_seed", "selection", "score", "from_scratch"});
  std::map<std::string, std::string> weights;
  bool from_scratch = false;
  const toml::node* networks = nullptr;
  for (const auto& [name, node] : table) {
    const std::string key = "study." + std::string(name.str());
    if (name == "title") spec.title = text(node, key);
    if (name == "networks") networks = &node;
    if (name == "tuning") read_tuning(table_at(node, key), spec.tuning);
    if (name == "folds") spec.folds = integer(node, key);
    if (name == "train_per_class") spec.train_per_class = integer(node, key);
    if (name == "val_per_class") spec.val_per_class = integer(node, key);
    if (name == "test_per_class") spec.test_per_class = integer(node, key);
    if (name == "split_seed") spec.split_seed = integer(node, key);
    if (name == "selection") spec.selection = text(node, key);
    if (name == "score") spec.score = text(node, key);
    if (name == "from_scratch") from_scratch = node.value<bool>().value_or(false);
    if (name == "seeds") {
      if (!node.is_array()) fail(node, key + ": expects a list of whole numbers, as [1, 2, 3]");
      for (const toml::node& seed : *node.as_array()) spec.seeds.push_back(integer(seed, key));
    }
    if (name == "weights")
      for (const auto& [network, file] : table_at(node, key))
        weights[std::string(network.str())] = absolute(text(file, key + "." + std::string(network.str())));
    if (name == "datasets")
      for (const auto& [dataset_name, at] : table_at(node, key))
        spec.datasets.push_back(dataset(std::string(dataset_name.str()), at));
  }
  if (!networks) return;
  for (const std::string& name : texts(*networks, "study.networks")) {
    const auto file = weights.find(name);
    if (file == weights.end() && !from_scratch)
      fail(*networks, fmt::format("study.networks: {0} has no weights; add [study.weights] {0} = \"MODEL.h5\", or "
                                  "study.from_scratch = true",
                                  name));
    spec.networks.push_back({name, file == weights.end() ? "" : file->second});
  }
  for (const auto& [name, file] : weights)
    if (std::ranges::find(spec.networks, name, &StudyNetwork::name) == spec.networks.end())
      fail(*networks, fmt::format("study.weights: {} is none of study.networks", name));
}

/// Sets it, so that its type and range are checked, and remembers it.
void Reader::add_setting(TrainSettings& settings, KeyedSettings& into, const std::string& key,
                         const toml::node& node) const {
  if (is_of_study(key)) fail(node, key + ": a study chooses it by itself; leave it out");
  if (key == "train.allow_leaks")
    fail(node, key +
                   ": a study allows leaks by data set; write [study.datasets] NAME = { path = \"DATA\", allow = "
                   "[\"near-duplicates\"] }");
  const SettingValue given = value(node, key);
  try {
    set_by_key(settings, key, given);
  } catch (const UsageError& error) {
    fail(node, error.what());
  }
  into.emplace_back(key, given);
}

/// A setting of `graft train` for one strategy; splits are the same for all.
void Reader::add_own(TrainSettings& settings, StudyStrategy& entry, const std::string& key,
                     const toml::node& node) const {
  if (is_of_splits("train." + key))
    fail(node, fmt::format("strategy.{}.{}: all strategies have the same images and splits; set {} in [train]",
                           entry.name, key, key));
  add_setting(settings, entry.settings, "train." + key, node);
}

StudyStrategy Reader::strategy(const std::string& name, const toml::table* table) const {
  StudyStrategy entry{.name = name, .strategy = name};
  if (table && table->contains("name")) entry.strategy = text(*table->get("name"), "strategy." + name + ".name");
  TrainSettings settings;
  choose_strategy(settings, entry.strategy);
  if (!table) return entry;
  const auto& own = find_strategy(entry.strategy).settings;
  for (const auto& [key_name, node] : *table) {
    const std::string key(key_name.str());
    if (key == "name") continue;
    if (key == "tuning_lr") {
      std::tie(entry.lr_min, entry.lr_max) = range(node, fmt::format("strategy.{}.tuning_lr", name));
    } else if (key == "train" && node.is_table()) {  // strategy.NAME.train.head, where the strategy has a head as well
      for (const auto& [inner, at] : *node.as_table()) add_own(settings, entry, std::string(inner.str()), at);
    } else if (std::ranges::find(own, key, &StrategySetting::key) != own.end()) {
      add_setting(settings, entry.settings, "strategy." + key, node);
    } else {
      Names all{"name", "tuning_lr"};
      for (const StrategySetting& setting : own) all.push_back(setting.key);
      for (const Setting<TrainSettings>& setting : settings_table())
        if (setting.key.starts_with("train.")) all.push_back(setting.key.substr(6));
      if (std::ranges::find(all, key) == all.end()) {
        const std::string near = nearest_name(key, all);
        fail(node, fmt::format("unknown key '{}' of strategy {}{}", key, name,
                               near.empty() ? fmt::format("; graft strategies {} lists its own, graft train "
                                                          "--print-config all others",
                                                          entry.strategy)
                                            : fmt::format(", did you mean '{}'?", near)));
      }
      add_own(settings, entry, key, node);
    }
  }
  return entry;
}

StudySpec Reader::read(const toml::table& file) {
  check_keys(file, "", {"study", "train", "strategy"});
  const toml::node* study = file.get("study");
  if (!study) throw UsageError(fmt::format("{}: expects a table [study]; see docs/study.md", path_));
  StudySpec spec;
  read_study(table_at(*study, "study"), spec);
  if (const toml::node* train = file.get("train")) {
    TrainSettings settings;
    for (const auto& [name, node] : table_at(*train, "train"))
      add_setting(settings, spec.train, "train." + std::string(name.str()), node);
    if (!table_at(*study, "study").contains("selection")) spec.selection = monitor_of(settings.monitor, false).name;
  }
  const toml::node* own = file.get("strategy");
  const toml::table* tables = own ? &table_at(*own, "strategy") : nullptr;
  std::vector<std::string> names;
  if (const toml::node* list = table_at(*study, "study").get("strategies")) names = texts(*list, "study.strategies");
  if (tables) {
    // Also of strategies that are not in the list now: one that is left out for a while keeps its settings.
    Names known{names.begin(), names.end()};
    for (const StrategyInfo& info : strategies()) known.push_back(info.name);
    check_keys(*tables, "strategy.", known);
  }
  for (const std::string& name : names) {
    const toml::node* table = tables ? tables->get(name) : nullptr;
    spec.strategies.push_back(strategy(name, table ? &table_at(*table, "strategy." + name) : nullptr));
  }
  return spec;
}

}  // namespace

StudyFile read_study_file(const std::string& path) {
  StudyFile file{.spec = {}, .text = read_text(path)};
  try {
    file.spec = Reader(path).read(toml::parse(file.text, path));
  } catch (const toml::parse_error& error) {
    throw UsageError(fmt::format("{}:{}:{}: not valid TOML: {}", path, error.source().begin.line,
                                 error.source().begin.column, error.description()));
  }
  return file;
}

}  // namespace graft
