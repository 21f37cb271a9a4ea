// What recording internals adds to a training step of ResNet-50: the sums that the update takes beside its work, and
// reading them, computing drifts and writing the file.
#include <benchmark/benchmark.h>

#include <filesystem>

#include "models/initialise.h"
#include "nn/losses.h"
#include "strategies/analysis/internals_recorder.h"

namespace graft {
namespace {

/// ResNet-50 whose parameters have gradients, as after a backward pass.
struct Trained {
  Context context{make_backend({DeviceKind::cpu}, {})};
  std::unique_ptr<Network> network;
  std::unique_ptr<Optimizer> optimizer;

  Trained() {
    ModelInfo info;
    info.architecture = "resnet50";
    network = make_network(context, info);
    initialise_from_scratch(*network, 0);
    network->parameters().prepare_gradients();
    optimizer = std::make_unique<Optimizer>(network->parameters(), OptimizerSpec{.kind = OptimizerKind::adam});
    optimizer->keep_anchors();
    std::vector<double> pixels(2 * 3 * 32 * 32);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = double(i * 2654435761U % 1000) / 500 - 1;
    const Tensor x = from_host(context, {2, 3, 32, 32}, pixels);
    const Tensor labels = labels_to_device(context, std::vector<std::int32_t>{1, 2}, info.num_classes);
    context.tape().backward(softmax_cross_entropy(network->forward(x), labels).loss);
  }
};

void BM_Step(benchmark::State& state, bool records) {
  Trained trained;
  for (auto _ : state) trained.optimizer->step({.lr = 1e-6, .records = records});
}

void BM_Record(benchmark::State& state) {
  Trained trained;
  const std::filesystem::path path = std::filesystem::temp_directory_path() / "graft-recorder-bench.h5";
  InternalsRecorder recorder({.network = *trained.network, .strategy = "full", .path = path});
  trained.optimizer->step({.lr = 1e-6, .records = true});
  std::int64_t step = 0;
  for (auto _ : state) recorder.record({.step = ++step, .epoch = 1, .lr = 1e-6, .loss = 1}, *trained.optimizer, {});
  std::filesystem::remove(path);
}

BENCHMARK_CAPTURE(BM_Step, resnet50, false)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(BM_Step, resnet50_with_sums, true)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(BM_Record)->Unit(benchmark::kMillisecond)->UseRealTime();  // flushes, every 64 records, included

}  // namespace
}  // namespace graft
