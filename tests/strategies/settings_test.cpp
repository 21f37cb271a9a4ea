// The settings table: complete, checked, and helpful about mistakes.
#include <gtest/gtest.h>

#include <set>

#include "strategies/strategy.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::error_of;

TEST(SettingsTable, KeysAndFlagsAreUniqueAndEveryRowReadsItsOwnDefaultBack) {
  std::set<std::string_view> keys, flags;
  for (const Setting<TrainSettings>& row : settings_table()) {
    EXPECT_TRUE(keys.insert(row.key).second) << row.key;
    if (!row.flag.empty()) {
      EXPECT_TRUE(flags.insert(row.flag).second) << row.flag;
    }
    EXPECT_FALSE(row.help.empty()) << row.key;
    TrainSettings settings;
    const SettingValue before = row.get(settings);
    set(settings, row, SettingValue(to_string(before)));
    EXPECT_EQ(row.get(settings), before) << row.key;
  }
}

TEST(SettingsTable, TextsBecomeValues) {
  TrainSettings s;
  set_by_key(s, "train.lr", SettingValue(std::string("1e-4")));
  set_by_key(s, "train.epochs", SettingValue(std::string("7")));
  set_by_key(s, "train.shuffle", SettingValue(std::string("false")));
  set_by_key(s, "train.weight_decay", SettingValue(std::int64_t{1}));
  set_by_key(s, "strategy.name", SettingValue(std::string("linear-probe")));
  set_by_key(s, "strategy.head", SettingValue(std::string("all")));
  EXPECT_EQ(s.lr, 1e-4);
  EXPECT_EQ(s.epochs, 7);
  EXPECT_FALSE(s.shuffle);
  EXPECT_EQ(s.weight_decay, 1);
  EXPECT_EQ(std::get<std::string>(s.strategy_settings.at("head")), "all");
}

TEST(SettingsTable, MistakesNameTheNearestKeyOrWhatIsAllowed) {
  TrainSettings s;
  const auto message = [&](std::string_view key, const SettingValue& value) {
    return error_of([&] { set_by_key(s, key, value); });
  };
  EXPECT_TRUE(contains(message("train.epoch", std::int64_t{3}), "did you mean 'train.epochs'"));
  EXPECT_TRUE(contains(message("strategy.batchnorm", std::string("batch")), "did you mean 'strategy.batch_norm'"));
  EXPECT_TRUE(contains(message("train.optimizer", std::string("adm")), "did you mean 'adam'"));
  EXPECT_TRUE(contains(message("train.lr", 0.0), "more than 0, got 0"));
  EXPECT_TRUE(contains(message("train.lr", std::string("fast")), "expects a number"));
  EXPECT_TRUE(contains(message("train.epochs", 1.5), "whole number"));
  EXPECT_TRUE(contains(message("train.epochs", std::int64_t{0}), "at least 1"));
  EXPECT_TRUE(contains(message("train.momentum", std::string("nan")), "at least 0 and less than 1, got nan"));
  EXPECT_TRUE(contains(message("train.lr", std::string("inf")), "expects a finite number, got inf"));
  EXPECT_TRUE(contains(message("train.threads", std::int64_t{5000}), "at least 0 and at most 1024, got 5000"));
  EXPECT_TRUE(contains(message("train.nesterov", std::string("maybe")), "true or false"));
  EXPECT_TRUE(contains(message("strategy.name", std::string("linear-prob")), "did you mean 'linear-probe'"));
}

TEST(SettingsTable, AStrategyBringsDefaultsThatGoWithIt) {
  TrainSettings s;
  set_by_key(s, "strategy.name", SettingValue(std::string("discriminative")));
  EXPECT_EQ(s.schedule, "slanted-triangular");
  set_by_key(s, "strategy.name", SettingValue(std::string("full")));
  EXPECT_EQ(s.schedule, "cosine");
  set_by_key(s, "strategy.name", SettingValue(std::string("discriminative")));
  set_by_key(s, "train.schedule", SettingValue(std::string("step")));
  set_by_key(s, "strategy.name", SettingValue(std::string("full")));
  EXPECT_EQ(s.schedule, "step");
}

TEST(SettingsTable, ContradictionsAreErrors) {
  TrainSettings good;
  good.data = "d", good.output = "o", good.weights = "w";
  EXPECT_NO_THROW(check(good));
  const auto message = [&](auto change) {
    TrainSettings s = good;
    change(s);
    return error_of([&] { check(s); });
  };
  EXPECT_TRUE(contains(message([](auto& s) { s.weights = ""; }), "--weights"));
  EXPECT_TRUE(contains(message([](auto& s) { s.from_scratch = true; }), "exclude each other"));
  EXPECT_TRUE(contains(message([](auto& s) { s.resume = s.overwrite = true; }), "exclude each other"));
  EXPECT_TRUE(contains(message([](auto& s) { s.schedule = "one-cycle", s.warmup_epochs = 1; }), "warmup"));
  EXPECT_TRUE(contains(message([](auto& s) { s.strategy_settings["head"] = std::string("all"); }), "strategy.head"));
}

TEST(Precision, IsTheDevicesOwnUnlessAskedFor) {
  const Device cpu{DeviceKind::cpu}, gpu{DeviceKind::cuda}, reference{DeviceKind::reference};
  TrainSettings s;
  EXPECT_EQ(precision_on(s, cpu), Precision::f32);
  EXPECT_EQ(precision_on(s, reference), Precision::f32);
  EXPECT_EQ(precision_on(s, gpu), Precision::bf16);
  for (const auto& [name, precision] : {std::pair{"f32", Precision::f32},
                                        {"tf32", Precision::tf32},
                                        {"bf16", Precision::bf16},
                                        {"f16", Precision::f16},
                                        {"fp16", Precision::f16}}) {
    set_by_key(s, "train.precision", SettingValue(std::string(name)));
    EXPECT_EQ(precision_on(s, gpu), precision) << name;
    EXPECT_EQ(precision_on(s, cpu), precision) << name;  // refused when the device is opened
  }
  EXPECT_THROW(set_by_key(s, "train.precision", SettingValue(std::string("fp8"))), UsageError);
}

TEST(Strategies, AreListedWithSourcesAndFoundByName) {
  ASSERT_GE(strategies().size(), 2u);
  for (const StrategyInfo& s : strategies()) {
    EXPECT_FALSE(s.summary.empty());
    EXPECT_FALSE(s.source.empty());
    EXPECT_EQ(find_strategy(s.name).name, s.name);
    for (const StrategySetting& setting : s.settings)
      EXPECT_EQ(convert(setting, setting.default_value, setting.default_value), setting.default_value);
    TrainSettings settings;
    EXPECT_NO_THROW(choose_strategy(settings, s.name)) << s.name;
  }
  EXPECT_THROW(find_strategy("ful"), UsageError);
}

}  // namespace
}  // namespace graft
