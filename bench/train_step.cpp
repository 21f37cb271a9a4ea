// One training step, or one inference, timed on demand: compare_torch.py and gpu_goals.py alternate this program with
// PyTorch. Reads a number of steps per line from standard input and answers each line with the mean seconds of a step
// and the peak memory, as JSON. The steps of a line are queued one after another; the device is waited for at their
// end.
//     graft_train_step --arch resnet50 --batch 16 [--job train|infer] [--size 224] [--device cpu] [--threads 0]
//                      [--precision f32] [--winograd]
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <optional>

#include "bench/device_options.h"
#include "models/initialise.h"
#include "models/network.h"
#include "nn/losses.h"
#include "optim/optimizer.h"

namespace {

using namespace graft;

struct StepJob {
  std::string architecture = "resnet50", kind = "train";
  std::int64_t batch = 16, size = 224;
  DeviceOptions device;
};

/// Most memory that was in use, and most that was taken from the system, in bytes: of the GPU, or of this process.
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

/// Network, images and labels; `step` trains or evaluates once and returns what must be finite.
class Bench {
 public:
  explicit Bench(const StepJob& job) : context_(job.device.open()) {
    ModelInfo info;
    info.architecture = job.architecture;
    info.num_classes = 1000;
    network_ = make_network(context_, info);
    initialise_from_scratch(*network_, 0);
    network_->set_dropout(0);
    make_batch(job);
    context_.set_training(job.kind == "train");
    if (job.kind == "infer") return;
    network_->parameters().prepare_gradients();
    optimizer_.emplace(network_->parameters(), spec());
    optimizer_->prepare();
  }

  Backend& backend() { return context_.backend(); }

  Tensor step() { return optimizer_ ? train() : infer(); }

 private:
  OptimizerSpec spec() const {
    OptimizerSpec spec{.kind = OptimizerKind::sgd, .momentum = 0.9};
    if (context_.activation_type() == DType::f16) spec.loss_scaling = LossScaling{};
    return spec;
  }

  void make_batch(const StepJob& job) {
    std::vector<double> pixels(std::size_t(job.batch * 3 * job.size * job.size));
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = double(i * 2654435761U % 1000) / 500 - 1;
    x_ = converted(from_host(context_, {job.batch, 3, job.size, job.size}, pixels), context_.activation_type());
    std::vector<std::int32_t> classes(static_cast<std::size_t>(job.batch));
    for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = std::int32_t(i * 37 % 1000);
    labels_ = labels_to_device(context_, classes, 1000);
  }

  Tensor train() {
    network_->parameters().clear_gradients();
    const Tensor loss = softmax_cross_entropy(network_->forward(x_), labels_).loss;
    context_.tape().backward(loss, 1, optimizer_->loss_scale());
    optimizer_->step(0.001);
    return loss;
  }

  Tensor infer() {
    const Inference inference(context_);
    return network_->forward(x_);
  }

  Context context_;
  std::unique_ptr<Network> network_;
  Tensor x_, labels_;
  std::optional<Optimizer> optimizer_;
};

double seconds_per_step(Bench& bench, int steps) {
  const auto begin = std::chrono::steady_clock::now();
  Tensor last;
  for (int i = 0; i < steps; ++i) last = bench.step();
  if (!std::isfinite(last.to_host()[0])) throw Error("train_step: the result is not a number");
  bench.backend().synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / steps;
}

void run(const StepJob& job) {
  Bench bench(job);
  fmt::print("{{\"name\": \"graft, {}\"}}\n", bench.backend().description());
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const double seconds = seconds_per_step(bench, std::max(1, std::stoi(line)));
    const Peak peak = peak_memory(bench.backend());
    fmt::print("{{\"seconds\": [{:.9f}], \"peak_bytes\": {}, \"reserved_bytes\": {}}}\n", seconds, peak.used,
               peak.reserved);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  StepJob job;
  CLI::App app("Times training steps or inferences on demand: steps per line on standard input");
  app.add_option("--arch", job.architecture)->check(CLI::IsMember({"resnet50", "densenet121", "vgg19"}));
  app.add_option("--job", job.kind)->check(CLI::IsMember({"train", "infer"}));
  app.add_option("--batch", job.batch)->check(CLI::PositiveNumber);
  app.add_option("--size", job.size)->check(CLI::PositiveNumber);
  add_to(app, job.device);
  app.add_flag("--winograd", job.device.backend.allows_winograd);
  CLI11_PARSE(app, argc, argv);
  try {
    run(job);
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
