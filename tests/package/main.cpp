// A program outside graft's tree, built by package_test.cmake against an installed graft: it trains a ResNet-50 on one
// batch and checks that the loss falls.
#include <cmath>
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
  const std::vector<std::int32_t> classes{0, 1, 1, 0};  // dark images and bright ones
  std::vector<double> pixels(std::size_t(shape.size()));
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = classes[i * 4 / pixels.size()] + std::sin(0.37 * double(i * i % 1009));
  const graft::Tensor x = graft::from_host(context, shape, pixels);
  const graft::Tensor labels = graft::labels_to_device(context, classes, 2);
  const graft::TaskLoss task_loss(context, {.num_classes = 2});

  double losses[3];
  for (double& value : losses) {
    network->parameters().clear_gradients();
    const graft::Tensor loss = task_loss(network->forward(x), labels).loss;
    value = loss.to_host()[0];
    context.tape().backward(loss);
    optimizer.step(1e-6);  // the gradient of fresh weights has a norm above 1000
  }
  std::cout << context.backend().description() << ": losses " << losses[0] << ", " << losses[2] << "\n";
  return losses[2] < losses[0] ? 0 : 1;
} catch (const graft::Error& error) {
  std::cerr << error.what() << "\n";
  return 2;
}
