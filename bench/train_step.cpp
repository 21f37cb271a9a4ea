// One training step as `graft train` takes it, or one inference, timed on demand: compare_torch.py and gpu_goals.py
// alternate this program with PyTorch. Reads a number of steps per line from standard input and answers each line with
// the mean seconds of a step and the peak memory meanwhile, as JSON. The steps of a line are queued one after another,
// captured and replayed where the device can; the device is waited for at their end.
//     graft_train_step --arch resnet50 --batch 16 [--job train|infer] [--size 224] [--device cpu] [--threads 0]
//                      [--precision f32] [--deterministic on] [--no-graph] [--recompute none|norms]
//                      [--fused-norms auto|on|off] [--own-growth auto|on|off] [--winograd]
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <deque>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/device_options.h"
#include "models/initialise.h"
#include "strategies/training/predictor.h"
#include "strategies/training/train_step.h"

namespace {

using namespace graft;

constexpr std::int64_t kClasses = 1000;

struct StepJob {
  std::string architecture = "resnet50", kind = "train", recompute = "none";
  std::int64_t batch = 16, size = 224;
  bool uses_graph = true;
  DeviceOptions device;
};

/// Of the choices between cuDNN and kernels of graft's own: what was taken and what both need, as JSON.
std::string own_kernels(const Backend& backend) {
  nlohmann::json lines = nlohmann::json::array();
  for (const std::string& plan : backend.plans())
    if (plan.find(" growth ") != plan.npos || plan.starts_with("norm+")) lines.push_back(plan);
  return lines.dump();
}

/// Most memory that was in use, and most that was taken from the system, in bytes: of the GPU since the last reset, or
/// of this process since its start.
struct Peak {
  std::int64_t used = 0, reserved = 0;
};

Peak peak_memory(const Backend& backend) {
  if (backend.device().kind == DeviceKind::cuda) {
    const MemoryUse use = backend.memory();
    return {use.peak_bytes, use.reserved_bytes};
  }
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return {std::stoll(line.substr(6)) * 1024, std::stoll(line.substr(6)) * 1024};
  throw Error("train_step: no VmHWM in /proc/self/status");
}

void check_finite(double value) {
  if (!std::isfinite(value)) throw Error("train_step: the result is not a number");
}

Tensor images(Context& context, const StepJob& job) {
  std::vector<double> pixels(std::size_t(job.batch * 3 * job.size * job.size));
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = double(i * 2654435761U % 1000) / 500 - 1;
  return converted(from_host(context, {job.batch, 3, job.size, job.size}, pixels), context.activation_type());
}

/// Steps that are repeated; `finish` reads what has not been read.
class Work {
 public:
  virtual ~Work() = default;
  virtual void step() = 0;
  virtual void finish() = 0;
  virtual std::int64_t replays() const { return 0; }
};

/// Everything trains, by SGD with momentum, on one batch that stays on the device.
class Training final : public Work {
 public:
  Training(Network& network, const StepJob& job)
      : backend_(network.context().backend()),
        settings_(settings_of(job)),
        strategy_(make_strategy(settings_)),
        optimizer_(network.parameters(), spec(network.context())),
        loss_(network.context(), {.num_classes = kClasses}),
        step_({.network = network,
               .strategy = *strategy_,
               .optimizer = optimizer_,
               .loss = loss_,
               .settings = settings_,
               .captures = resolved_graph(settings_, backend_) == "on"}),
        batch_(step_.inputs(job.batch)) {
    const EpochPlan plan =
        plan_epoch(*strategy_, settings_,
                   {.epochs = settings_.epochs, .parameters = network.parameters(), .blocks = network.blocks()});
    if (plan.freeze.apply(network.parameters())) optimizer_.prepare();
    step_.follow(plan, 0);
    network.context().set_training(true);
    batch_.x = images(network.context(), job);
    for (std::int64_t i = 0; i < job.batch; ++i) batch_.labels.push_back(std::int32_t(i * 37 % kClasses));
  }

  void step() override {
    results_.push_back(step_.run(
        {.batch = batch_, .lr = 0.001, .random_step = steps_++, .images_in_update = std::int64_t(batch_.n())}));
    read_results(backend_.is_asynchronous() ? 1 : 0);  // as late as Fit reads them
  }
  void finish() override { read_results(0); }
  std::int64_t replays() const override { return step_.replays(); }

 private:
  static TrainSettings settings_of(const StepJob& job) {
    TrainSettings settings;
    settings.graph = job.uses_graph ? "auto" : "off";
    return settings;
  }
  static OptimizerSpec spec(const Context& context) {
    OptimizerSpec spec{.kind = OptimizerKind::sgd, .momentum = 0.9};
    if (context.activation_type() == DType::f16) spec.loss_scaling = LossScaling{};
    return spec;
  }
  void read_results(std::size_t pending) {
    for (; results_.size() > pending; results_.pop_front()) check_finite(results_.front().loss());
  }

  Backend& backend_;
  const TrainSettings settings_;
  std::unique_ptr<Strategy> strategy_;
  Optimizer optimizer_;
  TaskLoss loss_;
  TrainStep step_;
  DeviceBatch& batch_;
  std::deque<StepResult> results_;
  std::int64_t steps_ = 0;
};

/// Batches of one size through the network, norms folded, as `graft predict` has them.
class Prediction final : public Work {
 public:
  Prediction(const Network& network, const StepJob& job)
      : predictor_(network, job.uses_graph), x_(images(network.context(), job)) {}
  void step() override {
    logits_ = predictor_(x_);
    if (x_.shape().n == 1) finish();  // whoever asks for one answer waits for it
  }
  void finish() override { check_finite(logits_.to_host()[0]); }
  std::int64_t replays() const override { return predictor_.replays(); }

 private:
  Predictor predictor_;
  Tensor x_, logits_;
};

double seconds_per_step(Work& work, Backend& device, int steps) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < steps; ++i) work.step();
  work.finish();
  device.synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / steps;
}

void run(const StepJob& job) {
  Context context(job.device.open());
  const std::unique_ptr<Network> network =
      make_network(context, {.architecture = job.architecture, .num_classes = kClasses});
  initialise_from_scratch(*network, 0);
  network->set_dropout(0);
  context.set_recomputes_norms(job.recompute == "norms");
  std::unique_ptr<Work> work;
  if (job.kind == "train")
    work = std::make_unique<Training>(*network, job);
  else
    work = std::make_unique<Prediction>(*network, job);
  Backend& device = context.backend();
  fmt::print("{{\"name\": \"graft, {}\"}}\n", device.description());
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    device.reset_peak_memory();  // what choosing algorithms took in warm-up is no part of a step
    const std::int64_t replays = work->replays();
    const double seconds = seconds_per_step(*work, device, std::max(1, std::stoi(line)));
    const Peak peak = peak_memory(device);
    fmt::print(
        "{{\"seconds\": [{:.9f}], \"peak_bytes\": {}, \"reserved_bytes\": {}, \"replays\": {}, \"own_kernels\": {}}}\n",
        seconds, peak.used, peak.reserved, work->replays() - replays, own_kernels(device));
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  StepJob job;
  bool without_graph = false;
  CLI::App app("Times training steps or inferences on demand: steps per line on standard input");
  app.add_option("--arch", job.architecture)
      ->check(CLI::IsMember(std::vector<std::string>(architecture_names().begin(), architecture_names().end())));
  app.add_option("--job", job.kind)->check(CLI::IsMember({"train", "infer"}));
  app.add_option("--batch", job.batch)->check(CLI::PositiveNumber);
  app.add_option("--size", job.size)->check(CLI::PositiveNumber);
  add_to(app, job.device);
  app.add_flag("--no-graph", without_graph, "call by call where the device could capture and replay steps");
  app.add_option("--recompute", job.recompute, "what is computed again in backward")
      ->check(CLI::IsMember({"none", "norms"}));
  app.add_flag("--winograd", job.device.backend.allows_winograd);
  CLI11_PARSE(app, argc, argv);
  job.uses_graph = !without_graph;
  try {
    run(job);
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
