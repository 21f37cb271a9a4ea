// Optimizer steps over the parameters of a network, timed on demand: compare_torch_update.py alternates this program
// with PyTorch. Reads a number of steps per line from standard input and answers each line with the mean seconds of a
// step, as JSON. The steps of a line are queued one after another; the device is waited for at their end.
//     graft_update_step [--arch resnet50] [--rule auto-rgn|adam] [--device cpu] [--threads 0]
#include <fmt/format.h>

#include <chrono>
#include <iostream>

#include "bench/device_options.h"
#include "models/network.h"
#include "optim/optimizer.h"

namespace {

using namespace graft;

struct UpdateJob {
  std::string architecture = "resnet50", rule = "auto-rgn";
  DeviceOptions device;
};

void run(const UpdateJob& job) {
  Context context(job.device.open());
  ModelInfo info;
  info.architecture = job.architecture;
  info.num_classes = 1000;
  const std::unique_ptr<Network> network = make_network(context, info);
  network->parameters().prepare_gradients();
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
  if (job.rule == "auto-rgn") step.relative_rates = RelativeRates{.epsilon = 1e-8};

  fmt::print("{{\"name\": \"graft\"}}\n");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const int steps = std::max(1, std::stoi(line));
    const auto start = std::chrono::steady_clock::now();
    for (int n = 0; n < steps; ++n) optimizer.step(step);
    context.backend().synchronize();
    const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("{{\"seconds\": [{:.9f}]}}\n", elapsed / steps);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  UpdateJob job;
  CLI::App app("Times optimizer steps on demand: steps per line on standard input");
  app.add_option("--arch", job.architecture)
      ->check(CLI::IsMember(std::vector<std::string>(architecture_names().begin(), architecture_names().end())));
  app.add_option("--rule", job.rule)->check(CLI::IsMember({"adam", "auto-rgn"}));
  add_to(app, job.device);
  CLI11_PARSE(app, argc, argv);
  try {
    run(job);
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 1;
  }
}
