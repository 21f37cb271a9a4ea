// Whole runs on drawn images: what the run directory holds, which tensors move, and that caching and accumulation
// change nothing. Runs that are stopped and go on are in resume_test.cpp.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "data/csv.h"
#include "strategies/training/checkpoint.h"
#include "strategies/training/evaluate.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::column;
using testing::contains;
using testing::csv;
using testing::differing_tensors;
using testing::error_of;
using testing::Ran;
using testing::run;
using testing::short_run;
using testing::TemporaryFolder;
using testing::Workshop;

double largest_difference(const std::filesystem::path& a, const std::filesystem::path& b, const std::string& tensor) {
  const WeightTable first = read_model_file(a).weights, second = read_model_file(b).weights;
  const auto &x = first.at(tensor), &y = second.at(tensor);
  double most = 0;
  for (std::size_t i = 0; i < x.values.size(); ++i) {
    const double u = x.exact.empty() ? x.values[i] : x.exact[i], v = y.exact.empty() ? y.values[i] : y.exact[i];
    most = std::max(most, std::abs(u - v));
  }
  return most;
}

TEST(Train, LinearProbeMovesTheHeadAloneAndWritesTheRun) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.optimizer = "sgd", s.weight_decay = 0.1, s.feature_cache = false;  // nothing frozen may feel decay or momentum
  const Ran ran = run(s);
  for (const char* name : {"config.toml", "environment.json", "split.csv", "epochs.csv", "steps.csv", "predictions.csv",
                           "summary.json", "best.h5", "last.h5"})
    EXPECT_TRUE(std::filesystem::exists(folder / "run" / name)) << name;
  std::vector<std::string> moved = differing_tensors(Workshop::get().model(), folder / "run" / "last.h5");
  EXPECT_EQ(moved, (std::vector<std::string>{"classifier.weight", "classifier.bias"}));
  EXPECT_TRUE(contains(ran.sink.notes, "new head: 2 classes (a, b)"));
  EXPECT_TRUE(contains(ran.sink.notes, "denseblock1"));
  EXPECT_TRUE(contains(ran.sink.notes, "unchanged, bit for bit"));
  EXPECT_EQ(ran.result.steps, 8);  // 13 training images in batches of 4, two epochs
  EXPECT_EQ(ran.sink.epochs.size(), 2u);
  ASSERT_TRUE(ran.result.has_test);
  EXPECT_EQ(ran.result.test.n, 6);
  const auto summary = nlohmann::json::parse(read_text(folder / "run" / "summary.json"));
  for (const char* key : {"n", "loss", "accuracy", "macro_accuracy", "macro_f1", "kappa", "auc", "average_precision",
                          "confusion", "weighted_f1", "sensitivity", "specificity", "brier", "calibration_error"})
    EXPECT_TRUE(summary.at("test").contains(key)) << key;
  EXPECT_EQ(csv(folder / "run" / "split.csv").rows.size(), 25u);
  EXPECT_EQ(csv(folder / "run" / "predictions.csv").rows.size(), 12u);  // val and test
  EXPECT_EQ(csv(folder / "run" / "predictions.csv").header,
            (std::vector<std::string>{"path", "split", "label", "predicted", "p_a", "p_b"}));
  EXPECT_EQ(read_model_info(folder / "run" / "best.h5").class_names, (std::vector<std::string>{"a", "b"}));
}

TEST(Train, CachedFeaturesGiveTheSameRunToRounding) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "cached");
  s.label_smoothing = 0.1, s.class_weights = "balanced", s.epochs = 3;
  const Ran cached = run(s);
  s.output = (folder / "plain").string(), s.feature_cache = false;
  const Ran plain = run(s);
  EXPECT_TRUE(contains(cached.sink.notes, "computed once and kept"));
  EXPECT_TRUE(contains(plain.sink.notes, "not kept: train.feature_cache is off"));
  const auto a = column(csv(folder / "cached" / "steps.csv"), "loss"),
             b = column(csv(folder / "plain" / "steps.csv"), "loss");
  ASSERT_EQ(a.size(), b.size());
  // Batches group the images differently while features are computed, which may change a float's last bits.
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5 * std::abs(a[i])) << i;
  EXPECT_LT(largest_difference(folder / "cached" / "last.h5", folder / "plain" / "last.h5", "classifier.weight"), 1e-4);
  ASSERT_EQ(cached.sink.epochs.size(), 3u);
  for (std::size_t e = 0; e < 3; ++e) EXPECT_NEAR(cached.sink.epochs[e].val_loss, plain.sink.epochs[e].val_loss, 1e-4);
}

TEST(Train, AugmentationKeepsFeaturesFromBeingKept) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.augment = "light", s.epochs = 1;
  EXPECT_TRUE(contains(run(s).sink.notes, "not kept: augmentation"));
}

TEST(Train, AccumulationEqualsABiggerBatch) {
  TemporaryFolder folder;
  // Unequal classes with weights: the mean over a batch is weighted, and so must be the mean over its parts.
  TrainSettings s = short_run(folder / "big");
  s.optimizer = "sgd", s.class_weights = "balanced", s.batch = 8;
  run(s, DeviceKind::reference);
  s.output = (folder / "small").string(), s.batch = 2, s.accumulate = 4;
  run(s, DeviceKind::reference);
  const auto a = column(csv(folder / "big" / "steps.csv"), "loss"),
             b = column(csv(folder / "small" / "steps.csv"), "loss");
  ASSERT_EQ(a.size(), 4u);
  ASSERT_EQ(b.size(), 4u);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-10);
  EXPECT_LT(largest_difference(folder / "big" / "last.h5", folder / "small" / "last.h5", "classifier.weight"), 1e-13);
}

TEST(Train, AProbeChangesNothingButRates) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "a", "auto-rgn");
  s.lr = 1e-30, s.strategy_settings["batch_norm"] = std::string("batch"), s.epochs = 1, s.max_steps = 1,
  s.dropout = 0.3;
  run(s);
  s.output = (folder / "b").string(), s.strategy = "full", s.strategy_settings.clear();
  run(s);
  // The first loss and the running statistics after one step are those of a run without a probe.
  EXPECT_EQ(column(csv(folder / "a" / "steps.csv"), "loss"), column(csv(folder / "b" / "steps.csv"), "loss"));
  for (const char* name : {"features.norm0.running_mean", "features.norm5.running_var"})
    EXPECT_EQ(largest_difference(folder / "a" / "last.h5", folder / "b" / "last.h5", name), 0) << name;
}

TEST(Train, GradientsAreClipped) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.optimizer = "sgd", s.momentum = 0, s.lr = 1, s.schedule = "constant", s.max_steps = 0;
  run(s);
  const std::filesystem::path start = folder / "start.h5";
  std::filesystem::copy_file(folder / "run" / "last.h5", start);
  s.clip_norm = 1e-3, s.max_steps = 1, s.overwrite = true;
  run(s);
  double squares = 0;
  for (const char* name : {"classifier.weight", "classifier.bias"}) {
    const WeightTable before = read_model_file(start).weights,
                      after = read_model_file(folder / "run" / "last.h5").weights;
    for (std::size_t i = 0; i < before.at(name).values.size(); ++i)
      squares += std::pow(double(after.at(name).values[i]) - before.at(name).values[i], 2);
  }
  EXPECT_NEAR(std::sqrt(squares), 1e-3, 1e-5);  // the gradient's norm is far above it
}

TEST(Train, FrozenBlocksKeepEveryBitWhileOthersTrainWithDecayMomentumAndBatchNorm) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "gradual-last-first");
  s.optimizer = "sgd", s.momentum = 0.9, s.weight_decay = 0.1, s.lr = 1e-3;
  s.batch = 2, s.epochs = 27, s.max_steps = 50;  // stage 0: 21 steps, stage 1: 18, then stage 2
  const Ran ran = run(s);
  EXPECT_EQ(ran.result.steps, 50);
  std::set<std::string> moved, all;
  for (const std::string& name : differing_tensors(Workshop::get().model(), folder / "run" / "last.h5"))
    moved.insert(name);
  const ModelFile before = read_model_file(Workshop::get().model());
  for (const WeightTensor& t : before.weights.tensors()) all.insert(t.name);
  for (const std::string& name : all) {
    const bool trains = contains(name, "denseblock4") || contains(name, "transition3") || contains(name, "norm5") ||
                        contains(name, "classifier");
    EXPECT_EQ(moved.contains(name), trains) << name;
  }
  EXPECT_TRUE(contains(ran.sink.notes, "epoch 4: what changes")) << ran.sink.notes;
  EXPECT_TRUE(contains(ran.sink.notes, "unchanged, bit for bit (SHA-256, 3 comparisons)")) << ran.sink.notes;
  const auto frozen = nlohmann::json::parse(ran.result.summary_json).at("frozen");
  EXPECT_TRUE(frozen.at("unchanged").get<bool>());
  EXPECT_EQ(frozen.at("comparisons").get<int>(), 3);
  EXPECT_EQ(frozen.at("tensors").get<int>(), 362 + 121);  // stage 0: all but the head, and all statistics
}

TEST(Train, LpFtTunesFromTheBestHeadThatProbingFound) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "lp-ft");
  s.epochs = 5, s.strategy_settings["probe_epochs"] = std::int64_t{4};
  s.lr = 3, s.schedule = "constant";                  // wild steps: heads differ
  s.strategy_settings["finetune_lr_factor"] = 1e-30;  // so that phase 2 leaves in last.h5 what it started from
  const Ran ran = run(s);
  const auto better = [](const EpochReport& a, const EpochReport& b) {
    return a.val_macro_accuracy < b.val_macro_accuracy;
  };
  const auto best = std::max_element(ran.sink.epochs.begin(), ran.sink.epochs.begin() + 4, better);
  EXPECT_LT(best->epoch, 4) << "the test needs a best head that is not the last";
  EXPECT_EQ(ran.sink.epochs[4].val_loss, best->val_loss);
  // So the last epoch is no better, and the probe's is what is tested.
  EXPECT_TRUE(
      contains(ran.sink.notes, "the best epoch, " + std::to_string(best->epoch) + " of 5, came before the last stage"))
      << ran.sink.notes;
  EXPECT_TRUE(nlohmann::json::parse(ran.result.summary_json).at("best_is_of_earlier_stage").get<bool>());
}

TEST(Train, AnswersThatAreNotFiniteStopItAsALossWould) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "full");
  s.optimizer = "sgd", s.batch = 13, s.epochs = 1, s.lr = 1e30;  // one update, whose loss is that before it
  const std::string message = error_of([&] { run(s); });
  EXPECT_TRUE(contains(message, "training: the answers to validation images are not finite after step 1 (epoch 1); "))
      << message;
  EXPECT_TRUE(contains(message, "not finite: features.")) << message;
  EXPECT_TRUE(contains(message, "lower train.lr (now 1e+30)")) << message;
  EXPECT_TRUE(contains(message, "no epoch was completed, so there is no checkpoint")) << message;
}

TEST(Train, EarlyStoppingWaitsForTheLastStageAndItsPatienceBeginsThere) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "lp-ft");
  s.lr = 1e-12, s.epochs = 12, s.patience = 2;  // nothing ever improves; four epochs of probing
  const Ran ran = run(s);
  EXPECT_EQ(ran.result.epochs, 6);
  EXPECT_TRUE(contains(ran.sink.notes, "stopped early"));
}

TEST(Train, ARunThatCannotBePlannedWritesNothing) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "gradual-first-last");
  EXPECT_TRUE(contains(error_of([&] { run(s); }), "9 stages, which need at least 9 epochs, got 2"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(Train, WhatNeedsNoImagesFailsBeforeTheyAreRead) {
  TemporaryFolder folder;
  for (const char* name : {"images/train/a/1.png", "images/train/b/1.png"}) folder.write(name, "no image");
  TrainSettings s = short_run(folder / "run");
  s.data = (folder / "images").string();
  const auto refusal = [&](auto change) {
    TrainSettings changed = s;
    change(changed);
    return error_of([&] { run(changed); });
  };
  EXPECT_TRUE(contains(refusal([](TrainSettings&) {}), "unreadable"));
  EXPECT_TRUE(contains(refusal([](TrainSettings& t) { t.weights = "/nowhere/m.h5"; }), "/nowhere/m.h5 does not exist"));
  EXPECT_TRUE(contains(refusal([](TrainSettings& t) { t.output = "/dev/null/run"; }), "cannot create /dev/null/run"));
  EXPECT_TRUE(contains(refusal([](TrainSettings& t) { t.strategy = "gradual-last-first"; }), "need at least 9 epochs"));

  const std::filesystem::path other = folder / "other";
  std::filesystem::create_directories(other);
  const auto from_folder = [&] { return refusal([&](TrainSettings& t) { t.weights = other.string(); }); };
  EXPECT_TRUE(contains(from_folder(), "other is a folder; give a model file"));
  std::filesystem::copy_file(Workshop::get().model(), other / "last.h5");
  EXPECT_TRUE(contains(from_folder(), "other is a run directory; give " + (other / "last.h5").string()));
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(Train, AnExistingRunIsKeptUnlessAskedAndOtherSettingsDoNotContinueIt) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.epochs = 1;
  run(s);
  EXPECT_TRUE(contains(error_of([&] { run(s); }), "--resume to continue it or --overwrite"));
  TrainSettings other = s;
  other.resume = true, other.lr = 0.5;
  EXPECT_TRUE(contains(error_of([&] { run(other); }), "train.lr was 0.010000 and is now 0.500000"));
  write_atomically(folder / "run" / "notes.txt", std::string_view("mine"));
  s.overwrite = true;
  EXPECT_EQ(run(s).result.epochs, 1);
  EXPECT_EQ(read_text(folder / "run" / "notes.txt"), "mine");
}

TEST(Train, ALossThatIsNotFiniteNamesStepAndLayerAndKeepsTheCheckpoint) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "full");
  s.optimizer = "sgd", s.momentum = 0, s.schedule = "step", s.step_epochs = 1;
  s.lr = 1e-4, s.step_gamma = 1e25, s.epochs = 3;  // sane in epoch 1, absurd in epoch 2
  const std::string message = error_of([&] { run(s); });
  EXPECT_TRUE(contains(message, "at step ")) << message;
  EXPECT_TRUE(contains(message, "(epoch 2)")) << message;
  EXPECT_TRUE(contains(message, "not finite: features.")) << message;
  EXPECT_TRUE(contains(message, "lower train.lr (now 0.0001) and run again with --overwrite")) << message;
  EXPECT_FALSE(contains(message, "-nan")) << message;
  EXPECT_TRUE(contains(message, "last.h5")) << message;
  const ModelFile last = read_model_file(folder / "run" / "last.h5");
  for (const WeightTensor& t : last.weights.tensors())
    for (float v : t.values) ASSERT_TRUE(std::isfinite(v)) << t.name;
}

TEST(Train, ABadLayerIsNamed) {
  TemporaryFolder folder;
  {
    Context context(make_backend({DeviceKind::cpu}, {.threads = 1}));
    const auto network = load_network(context, Workshop::get().model());
    Parameter& p = network->parameters().find("features.denseblock2.denselayer3.conv1.weight");
    std::vector<double> values = p.value.to_host();
    values[5] = std::numeric_limits<double>::infinity();
    p.value.from_host(values);
    save_network(folder / "bad.h5", *network);
  }
  TrainSettings s = short_run(folder / "run", "full");
  s.weights = (folder / "bad.h5").string();
  const std::string message = error_of([&] { run(s); });
  EXPECT_TRUE(contains(message, "at step 1 (epoch 1)")) << message;
  EXPECT_TRUE(contains(message, "denseblock2.denselayer3.conv1")) << message;
  EXPECT_TRUE(contains(message, "no epoch was completed")) << message;
}

TEST(Train, StopsEarlyAndTestsTheBestWeights) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.lr = 1e-12, s.epochs = 9, s.patience = 2;  // nothing ever improves
  const Ran ran = run(s);
  EXPECT_EQ(ran.result.epochs, 3);
  EXPECT_EQ(ran.result.best_epoch, 1);
  EXPECT_TRUE(contains(ran.sink.notes, "stopped early"));
  EXPECT_EQ(read_state(read_checkpoint(folder / "run" / "last.h5")).epoch, 3) << "though no later epoch was the best";
  const auto summary = nlohmann::json::parse(ran.result.summary_json);
  EXPECT_TRUE(summary.at("stopped_early").get<bool>());
  EXPECT_FALSE(summary.at("best_is_of_earlier_stage").get<bool>()) << "there is one stage";
  EXPECT_FALSE(contains(ran.sink.notes, "came before the last stage"));
  EXPECT_EQ(summary.at("val").at("macro_accuracy").get<double>(), ran.sink.epochs[0].val_macro_accuracy);
}

TEST(Train, BestWeightsAreThoseTested) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.epochs = 4, s.lr = 3, s.schedule = "constant";  // wild steps: epochs differ
  const Ran ran = run(s);
  double best = -1;
  for (const EpochReport& e : ran.sink.epochs) best = std::max(best, e.val_macro_accuracy);
  EXPECT_EQ(ran.result.best_val_score, best);
  const auto summary = nlohmann::json::parse(ran.result.summary_json);
  EXPECT_EQ(summary.at("val").at("macro_accuracy").get<double>(), best);

  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  testing::RecordingSink sink;
  const EvaluationResult again =
      evaluate(context, {.model = s.output, .data = s.data, .split = "test", .batch = 4}, sink);
  EXPECT_EQ(again.n, ran.result.test.n);
  EXPECT_EQ(again.confusion, ran.result.test.confusion);
  EXPECT_NEAR(again.loss, ran.result.test.loss, 1e-6 * std::max(1.0, again.loss));
}

TEST(Train, StepsAreLimitedAndZeroStepsWriteTheInitialModel) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "none");
  s.max_steps = 0;
  run(s);
  EXPECT_TRUE(std::filesystem::exists(folder / "none" / "last.h5"));
  EXPECT_FALSE(std::filesystem::exists(folder / "none" / "best.h5"));
  s.output = (folder / "some").string(), s.max_steps = 6, s.epochs = 9;  // in the middle of epoch 2
  const Ran some = run(s);
  EXPECT_EQ(some.result.steps, 6);
  EXPECT_EQ(csv(folder / "some" / "steps.csv").rows.size(), 6u);
  EXPECT_EQ(csv(folder / "some" / "steps.csv").header, (std::vector<std::string>{"step", "loss", "penalty", "lr"}));
  EXPECT_EQ(differing_tensors(folder / "none" / "last.h5", folder / "some" / "last.h5").size(), 2u);
  EXPECT_TRUE(some.result.has_test);
}

TEST(Train, AnEpochThatStepsCutShortIsTheBestOnlyWithoutAWholeOneAndIsForgottenWhenTheRunContinues) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "straight");
  s.lr = 3, s.schedule = "constant", s.epochs = 3;  // wild steps: the ends of epochs and their middles differ
  s.feature_cache = false;                          // so few steps do not keep features, and a whole run would
  run(s);
  for (std::int64_t steps : {2, 6, 7, 10}) {  // of four an epoch
    SCOPED_TRACE(steps);
    TrainSettings cut = s;
    cut.output = (folder / std::to_string(steps)).string(), cut.max_steps = steps;
    const Ran first = run(cut);
    const auto summary = nlohmann::json::parse(first.result.summary_json);
    const CsvTable epochs = csv(folder / std::to_string(steps) / "epochs.csv");
    ASSERT_EQ(std::int64_t(epochs.rows.size()), steps / 4 + 1);  // the cut epoch has a line
    // The summary, the log and best.h5 name the same epoch, a whole one if there is any.
    const std::int64_t best = summary.at("best_epoch").get<std::int64_t>();
    EXPECT_EQ(best, steps < 4 ? 1 : std::min<std::int64_t>(best, steps / 4));
    const std::vector<double> is_best = column(epochs, "is_best"), value = column(epochs, "val_macro_accuracy");
    EXPECT_EQ(is_best.at(std::size_t(best - 1)), 1);
    EXPECT_EQ(is_best.back(), steps < 4);
    EXPECT_NEAR(summary.at("best_val_macro_accuracy").get<double>(), value.at(std::size_t(best - 1)), 1e-8);
    EXPECT_NEAR(summary.at("val").at("macro_accuracy").get<double>(), value.at(std::size_t(best - 1)), 1e-8);
    // Continued, it is the run that was never cut.
    cut.resume = true, cut.max_steps = -1;
    run(cut);
    const std::filesystem::path a = folder / "straight", b = folder / std::to_string(steps);
    for (const char* file : {"last.h5", "best.h5"})
      EXPECT_EQ(differing_tensors(a / file, b / file), std::vector<std::string>{}) << file;
    for (const char* file : {"steps.csv", "predictions.csv"}) EXPECT_EQ(read_text(a / file), read_text(b / file));
    for (const char* name : {"is_best", "val_loss"})
      EXPECT_EQ(column(csv(a / "epochs.csv"), name), column(csv(b / "epochs.csv"), name)) << name;
    const auto was = nlohmann::json::parse(read_text(a / "summary.json")),
               now = nlohmann::json::parse(read_text(b / "summary.json"));
    EXPECT_EQ(was.at("best_epoch"), now.at("best_epoch"));
    EXPECT_EQ(was.at("best_val_macro_accuracy"), now.at("best_val_macro_accuracy"));
  }
}

TEST(Train, HeadStaysWhenClassNamesEqualAndIsNewWhenAsked) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "first");
  s.epochs = 1;
  run(s);
  s.weights = (folder / "first" / "best.h5").string(), s.output = (folder / "second").string(), s.max_steps = 0;
  EXPECT_TRUE(contains(run(s).sink.notes, "its head is kept"));
  EXPECT_EQ(differing_tensors(folder / "first" / "best.h5", folder / "second" / "last.h5").size(), 0u);
  s.output = (folder / "third").string(), s.new_head = true;
  run(s);
  EXPECT_EQ(differing_tensors(folder / "first" / "best.h5", folder / "third" / "last.h5").size(), 2u);
}

TEST(Train, ALoneLastImageIsLeftOutOnlyWithBatchStatistics) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "full", "full");  // 13 images in batches of 4 leave one
  s.epochs = 1;
  EXPECT_EQ(run(s).result.steps, 3);
  s.output = (folder / "fixed").string(), s.strategy_settings["batch_norm"] = std::string("running");
  EXPECT_EQ(run(s).result.steps, 4);
}

TEST(Train, FullFineTuningMovesEveryTensorAndLearns) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run", "full");
  s.lr = 1e-3, s.epochs = 4, s.schedule = "one-cycle";
  const Ran ran = run(s);
  const ModelFile before = read_model_file(Workshop::get().model());
  EXPECT_EQ(std::int64_t(differing_tensors(Workshop::get().model(), folder / "run" / "last.h5").size()),
            before.weights.size());
  EXPECT_LT(ran.sink.epochs.back().train_loss, ran.sink.epochs.front().train_loss);
  EXPECT_FALSE(contains(ran.sink.notes, "unchanged, bit for bit"));
}

}  // namespace
}  // namespace graft
