// Optimizer steps over the parameters of a network, timed on demand: compare_torch_update.py alternates this program
// with PyTorch. Reads a number of steps per line from standard input and answers each line with their seconds, as JSON.
//     graft_update_step ARCHITECTURE adam|auto-rgn THREADS
#include <fmt/format.h>

#include <chrono>
#include <iostream>

#include "models/network.h"
#include "optim/optimizer.h"

namespace {

using namespace graft;

void run(const std::string& architecture, const std::string& rule, int threads) {
  if (rule != "adam" && rule != "auto-rgn") throw Error("update_step: the rule must be adam or auto-rgn, got " + rule);
  Context context(make_backend({DeviceKind::cpu, 0}, {.threads = threads}));
  ModelInfo info;
  info.architecture = architecture;
  info.num_classes = 1000;
  const std::unique_ptr<Network> network = make_network(context, info);
  Optimizer optimizer(network->parameters(), {.kind = OptimizerKind::adam});
  std::size_t i = 0;
  std::vector<float> numbers;
  for (Parameter& p : network->parameters().parameters()) {
    numbers.resize(std::size_t(p.shape.size()));
    for (std::size_t k = 0; k < numbers.size(); ++k) numbers[k] = float(k * 2654435761U % 1999) / 1e5f - 0.01f;
    p.value.from_host(std::span<const float>(numbers));
    p.value.variable()->grad.from_host(std::span<const float>(numbers));
    p.value.variable()->grad_written = true;
    optimizer.set_group(i, {.decay = 1e-4, .rate_group = int(i)});
    ++i;
  }
  StepSpec step{.lr = 1e-6};
  if (rule == "auto-rgn") step.relative_rates = RelativeRates{.epsilon = 1e-8};

  fmt::print("{{\"name\": \"graft\"}}\n");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::string seconds;
    for (int n = 0; n < std::stoi(line); ++n) {
      const auto start = std::chrono::steady_clock::now();
      optimizer.step(step);
      const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      seconds += fmt::format("{}{:.6f}", seconds.empty() ? "" : ", ", elapsed);
    }
    fmt::print("{{\"seconds\": [{}]}}\n", seconds);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw graft::Error("update_step: needs ARCHITECTURE adam|auto-rgn THREADS");
    run(argv[1], argv[2], std::stoi(argv[3]));
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
