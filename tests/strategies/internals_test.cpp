// The recorder against norms computed from the weights that whole runs leave behind, and its file over interruptions.
#include <cmath>

#include "strategies/analysis/internals_recorder.h"
#include "tests/strategies/strategies_testing.h"

namespace graft {
namespace {

using testing::run;
using testing::short_run;
using testing::TemporaryFolder;
using testing::Workshop;

std::vector<double> values_of(const WeightTable& weights, const std::string& name) {
  const WeightTensor& t = weights.at(name);
  return t.exact.empty() ? std::vector<double>(t.values.begin(), t.values.end()) : t.exact;
}

double norm(const std::vector<double>& values) {
  double squares = 0;
  for (double v : values) squares += v * v;
  return std::sqrt(squares);
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> difference(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return norm(difference);
}

TEST(InternalsRecorder, RecordsTheNormsOfTheWeightsThatRunsLeave) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "0", "full");
  // Plain gradient descent: the update is lr times the gradient.
  s.optimizer = "sgd", s.momentum = 0, s.schedule = "constant", s.lr = 0.05, s.batch = 2, s.record_every = 1;
  std::vector<WeightTable> after;  // as many steps
  for (std::int64_t steps : {0, 1, 2}) {
    s.output = (folder / std::to_string(steps)).string(), s.max_steps = steps;
    run(s, DeviceKind::reference);
    after.push_back(read_model_file(folder / std::to_string(steps) / "last.h5").weights);
  }
  const Internals internals = read_internals(folder / "2" / "internals.h5");
  const InternalsHeader& header = internals.header;
  const InternalsRecords& records = internals.records;
  ASSERT_EQ(records.step, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(records.lr, (std::vector<double>{0.05, 0.05}));
  EXPECT_EQ(header.architecture, "densenet121");
  ASSERT_EQ(header.parameters.size(), 364u);
  ASSERT_EQ(header.norms.size(), 121u);
  const auto recorded = [&](ParameterNorm which, std::size_t step, std::size_t i) {
    return records.norms[std::size_t(which)].at(step * header.parameters.size() + i);
  };
  for (std::size_t i = 0; i < header.parameters.size(); ++i) {
    const std::string& name = header.parameters[i].name;
    for (std::size_t step = 0; step < 2; ++step) {
      const std::vector<double> start = values_of(after[0], name), before = values_of(after[step], name);
      const double update = distance(values_of(after[step + 1], name), before);
      const double rounding = 1e-12 * (norm(before) + update);  // of differences between weights
      EXPECT_NEAR(recorded(ParameterNorm::weight, step, i), norm(before), rounding) << name;
      EXPECT_NEAR(recorded(ParameterNorm::update, step, i), update, rounding) << name;
      EXPECT_NEAR(recorded(ParameterNorm::gradient, step, i), update / s.lr, rounding / s.lr) << name;
      EXPECT_NEAR(recorded(ParameterNorm::anchor_distance, step, i), distance(before, start), rounding) << name;
    }
    EXPECT_GT(recorded(ParameterNorm::gradient, 1, i), 0) << name;
  }
  for (std::size_t b = 0; b < header.norms.size(); ++b) {
    const std::string& name = header.norms[b].name;
    const std::vector<double> m0 = values_of(after[0], name + ".running_mean"),
                              v0 = values_of(after[0], name + ".running_var"),
                              m = values_of(after[2], name + ".running_mean"),
                              v = values_of(after[2], name + ".running_var");
    double mean = 0, variance = 0;
    for (std::size_t c = 0; c < m.size(); ++c) {
      mean += std::abs(m[c] - m0[c]) / std::sqrt(v0[c] + 1e-5);
      variance += std::abs(std::log(v[c] + 1e-5) - std::log(v0[c] + 1e-5));
    }
    EXPECT_NEAR(records.mean_drift[header.norms.size() + b], mean / double(m.size()), 1e-10) << name;
    EXPECT_NEAR(records.variance_drift[header.norms.size() + b], variance / double(m.size()), 1e-10) << name;
    EXPECT_GT(variance, 0) << name;
  }
}

void expect_same(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) << i;
}

/// A run in two stages, stopped and continued after every batch that `stops` chooses, against the same run in one go.
void expect_same_file_after_resuming(const std::function<bool(const PassProgress&)>& stops) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "straight", "lp-ft");
  s.epochs = 4, s.lr = 0.01, s.record_every = 3, s.strategy_settings["probe_epochs"] = std::int64_t{2};
  run(s);
  s.output = (folder / "broken").string();
  ASSERT_TRUE(testing::run_until(s, stops).was_interrupted);
  s.resume = true;
  run(s);
  const InternalsRecords a = read_internals(folder / "straight" / "internals.h5").records;
  const InternalsRecords b = read_internals(folder / "broken" / "internals.h5").records;
  EXPECT_EQ(a.step, (std::vector<std::int64_t>{1, 4, 7, 10, 13, 16}));
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.epoch, b.epoch);
  expect_same(a.lr, b.lr), expect_same(a.loss, b.loss);
  for (std::size_t n = 0; n < a.norms.size(); ++n) expect_same(a.norms[n], b.norms[n]);
  expect_same(a.mean_drift, b.mean_drift), expect_same(a.variance_drift, b.variance_drift);
}

TEST(InternalsRecorder, ContinuesAfterAStopInTheFirstStage) {
  expect_same_file_after_resuming(
      [](const PassProgress& p) { return p.pass == "train" && p.epoch == 1 && p.done >= 8; });
}

TEST(InternalsRecorder, ContinuesAfterAStopInTheSecondStage) {
  expect_same_file_after_resuming(
      [](const PassProgress& p) { return p.pass == "train" && p.epoch == 3 && p.done >= 8; });
}

TEST(InternalsRecorder, FrozenParametersHaveNoNormsAndFixedStatisticsNoDrift) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.record_every = 2;
  run(s);
  const Internals internals = read_internals(folder / "run" / "internals.h5");
  ASSERT_EQ(internals.records.step, (std::vector<std::int64_t>{1, 3, 5, 7}));
  for (const InternalsSeries& series : member_series(internals)) {
    for (std::size_t r = 0; r < 4; ++r) {
      const bool trains = series.name.starts_with("classifier.");
      if (series.level == "parameter") {
        EXPECT_EQ(!std::isnan(series.gradient_norm[r]), trains) << series.name;
        EXPECT_EQ(!std::isnan(series.anchor_distance[r]), trains) << series.name;
      } else {
        EXPECT_EQ(series.mean_drift[r], 0) << series.name;
        EXPECT_EQ(series.variance_drift[r], 0) << series.name;
      }
      if (trains) {
        EXPECT_EQ(series.anchor_distance[r] == 0, r == 0) << series.name;
      }
    }
  }
}

TEST(InternalsRecorder, IsOffUnlessAskedForAndReplacedWithTheRun) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.record_every = 1, s.epochs = 1;
  run(s);
  ASSERT_TRUE(std::filesystem::exists(folder / "run" / "internals.h5"));
  s.record_every = 0, s.overwrite = true;
  run(s);
  EXPECT_FALSE(std::filesystem::exists(folder / "run" / "internals.h5"));
}

TEST(InternalsRecorder, ADamagedFileIsNamedWhenARunContinues) {
  TemporaryFolder folder;
  TrainSettings s = short_run(folder / "run");
  s.record_every = 1, s.epochs = 1;
  run(s);
  const std::filesystem::path file = folder / "run" / "internals.h5";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  s.resume = true, s.epochs = 2;
  const std::string message = testing::error_of([&] { run(s); });
  EXPECT_TRUE(testing::contains(message, "internals.h5")) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

// Every flush copies the file, so a long file is added to in longer parts, in a run that continues as well.
TEST(InternalsRecorder, ALongFileIsAddedToInLongPartsAfterAStopToo) {
  constexpr std::int64_t kBefore = 800, kMore = 90;  // fewer than an eighth, more than are kept at first
  TemporaryFolder folder;
  Context context(make_backend({DeviceKind::cpu}, {.threads = 2}));
  const std::unique_ptr<Network> network = load_network(context, Workshop::get().model());
  ParameterSet& parameters = network->parameters();
  for (Parameter& p : parameters.parameters()) p.is_trainable = network->is_head(p);
  parameters.prepare_gradients();
  Optimizer optimizer(parameters, {.kind = OptimizerKind::sgd});
  optimizer.prepare();
  for (Parameter& p : parameters.parameters())
    if (p.is_trainable) p.gradient().from_host(std::vector<double>(std::size_t(p.shape.size()), 0.5));
  for (Parameter& p : parameters.parameters()) p.value.variable()->grad_written = p.is_trainable;
  optimizer.step({.lr = 1e-3, .records = true});

  InternalsRecorder::Spec spec{.network = *network, .strategy = "full", .path = folder / "internals.h5"};
  InternalsRecorder{spec};
  InternalsRecords records;
  for (std::int64_t step = 1; step <= kBefore; ++step) records.step.push_back(step), records.epoch.push_back(1);
  records.lr = records.loss = std::vector<double>(kBefore);
  for (std::vector<double>& norms : records.norms) norms.resize(kBefore * parameters.parameters().size());
  records.mean_drift = records.variance_drift = std::vector<double>(kBefore * parameters.statistics().size());
  append_internals(spec.path, records);

  spec.last_step = kBefore;
  InternalsRecorder recorder(spec);
  for (std::int64_t step = kBefore + 1; step <= kBefore + kMore; ++step) recorder.record({.step = step}, optimizer, {});
  EXPECT_EQ(read_internals(spec.path).records.count(), kBefore);
  recorder.flush();
  EXPECT_EQ(read_internals(spec.path).records.count(), kBefore + kMore);
}

TEST(NormDriftOf, IsInInitialDeviationsAndLogarithms) {
  const NormDrift drift =
      norm_drift(std::vector<double>{1, -2, 4, 9 * std::exp(1)}, std::vector<double>{0, 1, 4, 9}, 0);
  EXPECT_DOUBLE_EQ(drift.mean, (1.0 / 2 + 3.0 / 3) / 2);
  EXPECT_DOUBLE_EQ(drift.variance, 0.5);
  // A channel that never varied: epsilon keeps it finite.
  const NormDrift silent = norm_drift(std::vector<double>{0.1, 0.03}, std::vector<double>{0, 0}, 0.01);
  EXPECT_DOUBLE_EQ(silent.mean, 1);
  EXPECT_DOUBLE_EQ(silent.variance, std::log(4));
}

}  // namespace
}  // namespace graft
