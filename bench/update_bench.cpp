// The optimizer's update over the parameters of the three networks, and a copy of as many bytes for comparison. A step
// counts what it must move: Adam reads values, gradients and two moments and writes all but the gradients; Auto-RGN
// also reads values and gradients once more for its norms. `share` is GB/s over that of the best copy in the same run.
//   graft_bench --benchmark_filter='cpu/(copy|update/)'
#include <benchmark/benchmark.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/network.h"
#include "optim/optimizer.h"

namespace graft {
namespace {

double best_copy_gb = 0;  // of all copies so far in this run

/// Every thread copies its part with the library's memcpy, which bypasses the caches for such sizes.
void time_copy(benchmark::State& state) {
  constexpr std::int64_t kBytes = 512 << 20;
  const std::unique_ptr<Backend> device = make_backend({DeviceKind::cpu, 0});
  char *from = static_cast<char*>(device->allocate(kBytes)), *to = static_cast<char*>(device->allocate(kBytes));
  device->zero(from, kBytes);
  device->zero(to, kBytes);
  const std::int64_t part = kBytes / omp_get_max_threads();
  double best_seconds = 1e9;
  for (auto _ : state) {
    const double begin = omp_get_wtime();
#pragma omp parallel
    std::memcpy(to + omp_get_thread_num() * part, from + omp_get_thread_num() * part, std::size_t(part));
    best_seconds = std::min(best_seconds, omp_get_wtime() - begin);
    benchmark::ClobberMemory();
  }
  best_copy_gb = std::max(best_copy_gb, 2 * double(kBytes) / 1e9 / best_seconds);
  state.counters["GB"] =
      benchmark::Counter(2 * double(kBytes) / 1e9 * double(state.iterations()), benchmark::Counter::kIsRate);
  device->release(from);
  device->release(to);
}

struct UpdateRule {
  const char* name;
  OptimizerSpec optimizer;
  StepSpec step;
  double floats;  // moved per parameter
  bool has_penalty = false;
};

void time_update(benchmark::State& state, const std::string& architecture, const UpdateRule& rule) {
  Context context(make_backend({DeviceKind::cpu, 0}));
  ModelInfo info;
  info.architecture = architecture;
  info.num_classes = 1000;
  const std::unique_ptr<Network> network = make_network(context, info);
  ParameterSet& set = network->parameters();
  // Small values, none zero or subnormal.
  std::vector<float> numbers;
  std::size_t i = 0;
  set.prepare_gradients();
  Optimizer optimizer(set, rule.optimizer);
  for (Parameter& p : set.parameters()) {
    numbers.resize(std::size_t(p.shape.size()));
    for (std::size_t k = 0; k < numbers.size(); ++k) numbers[k] = float(k * 2654435761U % 1999) / 1e5f - 0.01f;
    p.value.from_host(std::span<const float>(numbers));
    p.value.variable()->grad.from_host(std::span<const float>(numbers));
    p.value.variable()->grad_written = true;
    const PenaltySpec penalty{PenaltyKind::l2, PenaltyMode::coupled, true, 0.1};
    optimizer.set_group(i,
                        {.decay = 1e-4, .penalty = rule.has_penalty ? penalty : PenaltySpec{}, .rate_group = int(i)});
    ++i;
  }
  if (rule.has_penalty) optimizer.keep_anchors();
  optimizer.step(rule.step);
  double best_seconds = 1e9;
  for (auto _ : state) {
    const double begin = omp_get_wtime();
    optimizer.step(rule.step);
    best_seconds = std::min(best_seconds, omp_get_wtime() - begin);
  }
  double size = 0;
  for (const Parameter& p : set.parameters()) size += double(p.shape.size());
  const double gigabytes = 4 * rule.floats * size / 1e9;
  state.counters["GB"] = benchmark::Counter(gigabytes * double(state.iterations()), benchmark::Counter::kIsRate);
  if (best_copy_gb > 0) state.counters["share"] = gigabytes / best_seconds / best_copy_gb;
}

bool register_updates() {
  const OptimizerSpec sgd{.kind = OptimizerKind::sgd}, adam{.kind = OptimizerKind::adam},
      adamw{.kind = OptimizerKind::adamw};
  const StepSpec plain{.lr = 1e-6};
  StepSpec rates = plain, records = plain, clipped = plain;
  rates.relative_rates = RelativeRates{.epsilon = 1e-8};
  records.records = true;
  clipped.max_gradient_norm = 1;
  const std::vector<UpdateRule> rules{{"sgd", sgd, plain, 5},
                                      {"adam", adam, plain, 7},
                                      {"adamw", adamw, plain, 7},
                                      {"adam_l2_sp", adam, plain, 8, true},
                                      {"adam_clipped", adam, clipped, 8},
                                      {"adam_records", adam, records, 7},
                                      {"auto_rgn", adam, rates, 9}};
  const auto add = [](const std::string& name, auto run) {
    benchmark::RegisterBenchmark(name.c_str(), run)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime()
        ->Iterations(20);  // set up once
  };
  add("cpu/copy", time_copy);
  for (const char* architecture : {"resnet50", "densenet121", "vgg19"})
    for (const UpdateRule& rule : rules)
      add("cpu/update/" + std::string(architecture) + "/" + rule.name,
          [architecture, rule](benchmark::State& state) { time_update(state, architecture, rule); });
  return true;
}

const bool registered = register_updates();

}  // namespace
}  // namespace graft
