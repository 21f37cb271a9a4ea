// A program outside graft's tree, built by package_test.cmake against an installed graft: it trains a ResNet-50 on one
// batch and checks that the loss falls.
#include <iostream>

#include "models/initialise.h"
#include "models/network.h"
#include "nn/losses.h"
#include "optim/optimizer.h"

int main() try {
  graft::Context context(graft::make_backend(graft::parse_device("cpu")));
  const auto network = graft::make_network(context, {.architecture = "resnet50", .num_classes = 2});
  graft::initialise_from_scratch(*network, 7);
  network->parameters().prepare_gradients();
  graft::Optimizer optimizer(network->parameters(), {.kind = graft::OptimizerKind::sgd});
  optimizer.prepare();

  const graft::Shape shape{4, 3, 64, 64};
  std::vector<double> pixels(std::size_t(shape.size()));
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = double(i * 2654435761U % 1000) / 500 - 1;
  const graft::Tensor x = graft::from_host(context, shape, pixels);
  const graft::Tensor labels = graft::labels_to_device(context, std::vector<std::int32_t>{0, 1, 1, 0}, 2);
  const graft::TaskLoss task_loss(context, {.num_classes = 2});

  double losses[3];
  for (double& value : losses) {
    network->parameters().clear_gradients();
    const graft::Tensor loss = task_loss(network->forward(x), labels).loss;
    value = loss.to_host()[0];
    context.tape().backward(loss);
    optimizer.step(0.01);
  }
  std::cout << context.backend().description() << ": losses " << losses[0] << ", " << losses[2] << "\n";
  return losses[2] < losses[0] ? 0 : 1;
} catch (const graft::Error& error) {
  std::cerr << error.what() << "\n";
  return 2;
}
