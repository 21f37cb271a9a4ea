#include "models/adapters.h"

#include <cmath>

#include "kernels/philox.h"

namespace graft {

void add_adapters(Network& network, const AdapterSpec& spec) {
  if (spec.rank < 1) throw Error("adapters: the rank must be at least 1, got " + std::to_string(spec.rank));
  ParameterSet& set = network.parameters();
  for (std::int64_t i : spec.weights) {
    Parameter& weight = set.parameters().at(std::size_t(i));
    if (weight.role != Role::conv_weight) throw Error("adapters: " + weight.name + " is not a convolution's weight");
    const Shape& s = weight.shape;
    const Parameter& down =
        set.add(weight.name + ".lora_down", {spec.rank, s.c, s.h, s.w}, Role::adapter, weight.block);
    const Parameter& up = set.add(weight.name + ".lora_up", {s.n, spec.rank, 1, 1}, Role::adapter, weight.block);
    weight.adapter = {.up = &up, .down = &down, .scale = spec.scale};
  }
  set.grow();
  for (std::int64_t i : spec.weights) {
    const Parameter& weight = set.parameters()[std::size_t(i)];
    Parameter& down = set.find(weight.adapter.down->name);
    const double bound = 1 / std::sqrt(double(weight.shape.c * weight.shape.pixels()));
    Random random({.seed = spec.seed, .stream = RandomStream::adapters, .epoch = std::uint32_t(i)});
    std::vector<double> values(std::size_t(down.shape.size()));
    for (double& v : values) v = random.uniform(-bound, bound);
    down.value.from_host(values);
    ++down.version;
  }
}

}  // namespace graft
