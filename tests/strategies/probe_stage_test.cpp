// A linear probe that is the first stage of another run: the same bits as the run that probes by itself, or a refusal
// that says why.
#include "strategies/training/probe_stage.h"

#include "data/csv.h"
#include "strategies/training/checkpoint.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::contains;
using testing::differing_tensors;
using testing::error_of;
using testing::Ran;
using testing::short_run;
using testing::TemporaryFolder;
using testing::Workshop;

/// config.toml as the program writes it.
std::string config_of(const TrainSettings& settings) {
  const auto line = [](std::string_view key, const SettingValue& value) {
    const std::string text = to_string(value);
    const bool is_text = std::holds_alternative<std::string>(value);
    return std::string(key) + " = " + (is_text ? nlohmann::json(text).dump() : text) + "\n";
  };
  std::string train = "[train]\n", strategy = "[strategy]\n" + line("name", settings.strategy);
  for (const Setting<TrainSettings>& s : settings_table())
    if (s.is_recorded && s.key.starts_with("train.")) train += line(s.key.substr(6), s.get(settings));
  for (const auto& [key, value] : settings.strategy_settings) strategy += line(key, value);
  return train + strategy;
}

Ran run_with_config(const TrainSettings& settings, const std::function<bool(const PassProgress&)>& stops = {}) {
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  Ran ran;
  std::atomic<bool> stop = false;
  if (stops) ran.sink.on_advance = [&](const PassProgress& p) { stop = stop || stops(p); };
  ran.result = train(context, settings,
                     {.config_toml = config_of(settings), .command_line = "graft train", .stop = &stop}, ran.sink);
  ran.sink.on_advance = {};
  return ran;
}

void expect_same_run(const std::filesystem::path& a, const std::filesystem::path& b) {
  for (const char* file : {"last.h5", "best.h5"})
    EXPECT_EQ(differing_tensors(a / file, b / file), std::vector<std::string>{}) << file;
  const Checkpoint first = read_checkpoint(a / "last.h5"), second = read_checkpoint(b / "last.h5");
  EXPECT_EQ(first.optimizer.arrays, second.optimizer.arrays);
  const TrainState x = read_state(first), y = read_state(second);
  EXPECT_EQ(x.strategy, y.strategy);
  EXPECT_EQ(x.best_epoch, y.best_epoch);
  EXPECT_EQ(x.best_value, y.best_value);
  EXPECT_EQ(x.epochs_without_better, y.epochs_without_better);
  for (const char* file : {"steps.csv", "predictions.csv"}) EXPECT_EQ(read_text(a / file), read_text(b / file)) << file;
  const CsvTable epochs = parse_csv(read_text(a / "epochs.csv"), "a"),
                 others = parse_csv(read_text(b / "epochs.csv"), "b");
  ASSERT_EQ(epochs.rows.size(), others.rows.size());
  for (std::size_t i = 0; i < epochs.rows.size(); ++i)
    for (std::size_t c = 0; c < epochs.header.size(); ++c) {
      if (epochs.header[c] == "seconds" || epochs.header[c] == "images_per_second") continue;
      EXPECT_EQ(epochs.rows[i][c], others.rows[i][c]) << "epoch " << i + 1 << ", " << epochs.header[c];
    }
}

/// `s` by itself against the same run that starts from a linear probe of `epochs` epochs.
void expect_same_from_probe(TrainSettings s, std::int64_t epochs) {
  TemporaryFolder folder;
  TrainSettings probe = s;
  probe.strategy = "linear-probe", probe.strategy_settings.clear(), probe.epochs = epochs, probe.patience = 50;
  probe.output = (folder / "probe").string();
  run_with_config(probe);
  s.output = (folder / "alone").string();
  const Ran alone = run_with_config(s);
  s.output = (folder / "from").string(), s.probe_from = probe.output;
  const Ran from = run_with_config(s);
  EXPECT_TRUE(contains(from.sink.notes, "epochs 1 to " + std::to_string(epochs) + " are those of " + probe.output))
      << from.sink.notes;
  EXPECT_EQ(std::int64_t(from.sink.epochs.size()), s.epochs - epochs) << "the probe's epochs are not trained again";
  EXPECT_EQ(from.result.steps, alone.result.steps);
  expect_same_run(folder / "alone", folder / "from");

  s.output = (folder / "broken").string();
  const auto is_next_epoch = [&](const PassProgress& p) { return p.pass == "train" && p.epoch == epochs + 1; };
  ASSERT_TRUE(run_with_config(s, is_next_epoch).result.was_interrupted);
  s.resume = true;
  run_with_config(s);
  expect_same_run(folder / "alone", folder / "broken");
}

TEST(ProbeStage, LpFtFromALinearProbeEqualsTheRunThatProbesItself) {
  TrainSettings s = short_run("", "lp-ft");
  s.epochs = 5, s.lr = 0.02, s.class_weights = "balanced", s.strategy_settings["probe_epochs"] = std::int64_t{3};
  expect_same_from_probe(s, 3);
}

TEST(ProbeStage, LpFtProbesOnFromAShorterProbeOfTheSameRates) {
  TrainSettings s = short_run("", "lp-ft");
  s.epochs = 4, s.schedule = "constant", s.strategy_settings["probe_epochs"] = std::int64_t{3};
  expect_same_from_probe(s, 1);
}

TEST(ProbeStage, GradualUnfreezingGoesOnWithTheHeadsMoments) {
  for (const char* name : {"gradual-last-first", "gradual-first-last"}) {
    SCOPED_TRACE(name);
    TrainSettings s = short_run("", name);
    s.epochs = 9, s.batch = 7, s.lr = 1e-3, s.schedule = "constant", s.weight_decay = 0.01;
    expect_same_from_probe(s, 1);
  }
}

TEST(ProbeStage, AProbeOfAnotherCourseIsRefusedWithTheFirstDifference) {
  TemporaryFolder folder;
  TrainSettings probe = short_run(folder / "probe");
  probe.epochs = 3;
  run_with_config(probe);
  TrainSettings s = probe;
  s.strategy = "lp-ft", s.epochs = 6, s.strategy_settings["probe_epochs"] = std::int64_t{3};
  s.output = (folder / "run").string(), s.probe_from = probe.output;
  const auto expect_refused = [&](const TrainSettings& settings, std::string_view why) {
    const std::string message = error_of([&] { run_with_config(settings); });
    EXPECT_TRUE(contains(message, why)) << message;
    EXPECT_TRUE(message.starts_with("train.probe_from: ")) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_FALSE(std::filesystem::exists(folder / "run"));
  };
  const auto with = [&](auto&& change) {
    TrainSettings changed = s;
    change(changed);
    return changed;
  };
  expect_refused(with([](auto& t) { t.lr = 0.5; }), "train.lr is 0.5, but 0.01 in ");
  expect_refused(with([](auto& t) { t.seed = 1; }), "train.seed is 1, but 0 in ");
  expect_refused(with([](auto& t) { t.feature_cache = false; }), "train.feature_cache is false, but true in ");
  expect_refused(with([](auto& t) { t.freeze_channels = "classifier.*=1"; }), "train.freeze_channels is ");
  expect_refused(with([](auto& t) { t.max_steps = 12; }), "train.max_steps is 12, and ");
  expect_refused(with([](auto& t) { t.record_every = 1; }), "--record-internals");
  expect_refused(with([](auto& t) { t.strategy_settings["probe_epochs"] = std::int64_t{2}; }),
                 "the rate in epoch 2 is 0.005, but 0.0075 in ");
  expect_refused(with([](auto& t) { t.strategy = "full", t.strategy_settings.clear(); }), "does not begin as ");
  expect_refused(with([](auto& t) { t.strategy = "lora", t.strategy_settings.clear(); }), "does not begin as ");
  expect_refused(with([](auto& t) { t.strategy = "gradual-last-first", t.strategy_settings.clear(), t.epochs = 27; }),
                 "the rate in epoch 2 is ");
  expect_refused(with([&](auto& t) { t.probe_from = (folder / "none").string(); }), "holds no config.toml");
  expect_refused(with([](auto& t) { t.output = t.probe_from, t.overwrite = true; }), "is the run directory itself");

  // Other images under the same settings, other weights under the same name.
  const auto expect_other_file_refused = [&](const char* name, const std::string& text, std::string_view why) {
    const std::filesystem::path file = folder / "probe" / name;
    const std::string before = read_text(file);
    write_atomically(file, std::string_view(text));
    expect_refused(s, why);
    write_atomically(file, std::string_view(before));
  };
  expect_other_file_refused("split.csv", read_text(folder / "probe" / "split.csv") + "train/a/x.png,train,a,\n",
                            "the images or their splits are not those of ");
  auto environment = nlohmann::json::parse(read_text(folder / "probe" / "environment.json"));
  environment["model_sha256"] = "0";
  expect_other_file_refused("environment.json", environment.dump(), "started from other weights");
  environment = nlohmann::json::parse(read_text(folder / "probe" / "environment.json"));
  environment["onednn"] = "1.0";
  expect_other_file_refused("environment.json", environment.dump(), "was made with onednn \"1.0\"");
  expect_refused(with([&](auto& t) {
                   TrainSettings full = probe;
                   full.strategy = "full", full.output = (folder / "full").string(), full.epochs = 1;
                   run_with_config(full);
                   t.probe_from = full.output;
                 }),
                 "is a run of full; name one of linear-probe");
  expect_refused(with([&](auto& t) {
                   TrainSettings stopped = probe;
                   stopped.output = (folder / "stopped").string(), stopped.patience = 1, stopped.lr = t.lr = 1e-12;
                   stopped.epochs = 8;
                   run_with_config(stopped);
                   t.probe_from = stopped.output;
                 }),
                 "stopped early after 2 of 8 epochs");
  expect_refused(with([&](auto& t) {
                   TrainSettings cut = probe;
                   cut.output = (folder / "cut").string(), cut.max_steps = 6;
                   run_with_config(cut);
                   t.probe_from = cut.output;
                 }),
                 "is not finished, it has 1 of 3 epochs");
}

TEST(ProbeStage, AStageThatIsShorterThanTheProbeIsRefused) {
  TemporaryFolder folder;
  TrainSettings probe = short_run(folder / "probe");
  probe.epochs = 3, probe.schedule = "constant";
  run_with_config(probe);
  TrainSettings s = probe;
  s.strategy = "lp-ft", s.epochs = 6, s.strategy_settings["probe_epochs"] = std::int64_t{2};
  s.output = (folder / "run").string(), s.probe_from = probe.output;
  EXPECT_TRUE(contains(error_of([&] { run_with_config(s); }), "lp-ft trains the head alone for 2 epochs, "));
}

}  // namespace
}  // namespace graft
