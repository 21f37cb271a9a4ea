// One training step, timed on demand: compare_torch.py alternates this program with PyTorch. Reads a number of steps
// per line from standard input and answers each line with their seconds and the process's peak memory, as JSON.
//     graft_train_step ARCHITECTURE BATCH SIZE THREADS winograd|direct
#include <fmt/format.h>

#include <chrono>
#include <fstream>
#include <iostream>

#include "kernels/backend.h"
#include "models/initialise.h"
#include "models/network.h"
#include "nn/losses.h"
#include "optim/optimizer.h"

namespace {

using namespace graft;

std::int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  throw Error("train_step: no VmHWM in /proc/self/status");
}

void run(const std::string& architecture, std::int64_t batch, std::int64_t size, const BackendOptions& options) {
  Context context(make_backend({DeviceKind::cpu, 0}, options));
  ModelInfo info;
  info.architecture = architecture;
  info.num_classes = 1000;
  const auto network = make_network(context, info);
  initialise_from_scratch(*network, 0);
  network->set_dropout(0);
  network->parameters().prepare_gradients();
  Optimizer optimizer(network->parameters(), {.kind = OptimizerKind::sgd, .momentum = 0.9});
  optimizer.prepare();

  std::vector<double> pixels(std::size_t(batch * 3 * size * size));
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = double(i * 2654435761U % 1000) / 500 - 1;
  const Tensor x = from_host(context, {batch, 3, size, size}, pixels);
  std::vector<std::int32_t> classes(static_cast<std::size_t>(batch));
  for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = std::int32_t(i * 37 % 1000);
  const Tensor labels = labels_to_device(context, classes, 1000);
  pixels = {};

  const auto step = [&] {
    network->parameters().clear_gradients();
    const Tensor loss = softmax_cross_entropy(network->forward(x), labels).loss;
    const double value = loss.to_host()[0];
    context.tape().backward(loss);
    optimizer.step(0.001);
    return value;
  };

  fmt::print("{{\"name\": \"graft, {}\"}}\n", context.backend().description());
  std::cout.flush();
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::string seconds;
    for (int i = 0; i < std::stoi(line); ++i) {
      const auto start = std::chrono::steady_clock::now();
      if (!(step() > 0)) throw Error("train_step: the loss is not a number");
      const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      seconds += fmt::format("{}{:.6f}", seconds.empty() ? "" : ", ", elapsed);
    }
    fmt::print("{{\"seconds\": [{}], \"peak_bytes\": {}}}\n", seconds, peak_bytes());
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 6) throw graft::Error("train_step: needs ARCHITECTURE BATCH SIZE THREADS winograd|direct");
    run(argv[1], std::stoll(argv[2]), std::stoll(argv[3]),
        {.threads = std::stoi(argv[4]), .allows_winograd = std::string_view(argv[5]) == "winograd"});
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
