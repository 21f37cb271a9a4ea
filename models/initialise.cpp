#include "models/initialise.h"

#include <cmath>
#include <numbers>

#include "kernels/philox.h"

namespace graft {
namespace {

/// Box and Muller's pairs of normal numbers.
class Normal {
 public:
  Normal(const RandomPlace& at, double deviation) : random_(at), deviation_(deviation) {}
  double operator()() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double radius = deviation_ * std::sqrt(-2 * std::log(1 - random_.uniform()));
    const double angle = 2 * std::numbers::pi * random_.uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

 private:
  Random random_;
  double deviation_, spare_ = 0;
  bool has_spare_ = false;
};

/// Fills a parameter in the order of its file, C R S within K.
template <class Draw>
void fill(Parameter& parameter, Draw&& draw) {
  std::vector<double> values(parameter.shape.size());
  for (double& v : values) v = draw();
  parameter.value.from_host(values);
  ++parameter.version;
}

void fill_uniform(Parameter& parameter, const RandomPlace& at, double bound) {
  Random random(at);
  fill(parameter, [&] { return random.uniform(-bound, bound); });
}

double inputs(const Parameter& weight) { return double(weight.shape.c * weight.shape.pixels()); }

}  // namespace

void initialise_head(Network& network, std::uint64_t seed) {
  Parameter& weight = network.head_weight();
  Parameter& bias = network.head_bias();
  const double bound = 1 / std::sqrt(inputs(weight));
  fill_uniform(weight, {.seed = seed, .stream = RandomStream::head, .epoch = 0}, bound);
  fill_uniform(bias, {.seed = seed, .stream = RandomStream::head, .epoch = 1}, bound);
}

void initialise_from_scratch(Network& network, std::uint64_t seed) {
  const bool is_vgg = network.info().architecture == "vgg19";
  const bool is_densenet = network.info().architecture == "densenet121";
  std::uint32_t position = 0;
  double bias_bound = 0;  // of the layer whose weight came last
  for (Parameter& p : network.parameters().parameters()) {
    const RandomPlace at{.seed = seed, .stream = RandomStream::other, .epoch = position++};
    switch (p.role) {
      case Role::conv_weight: {
        const double fan = is_densenet ? inputs(p) : double(p.shape.n * p.shape.pixels());
        fill(p, Normal(at, std::sqrt(2 / fan)));
        bias_bound = 0;
        break;
      }
      case Role::linear_weight:
        if (is_vgg) {
          fill(p, Normal(at, 0.01));
        } else {
          fill_uniform(p, at, 1 / std::sqrt(inputs(p)));
          bias_bound = is_densenet ? 0 : 1 / std::sqrt(inputs(p));
        }
        break;
      case Role::bias:
        fill_uniform(p, at, bias_bound);
        break;
      case Role::norm_scale:
        fill(p, [] { return 1.0; });
        break;
      case Role::adapter:
        break;  // added to trained networks only
      case Role::norm_shift:
        fill(p, [] { return 0.0; });
        break;
    }
  }
  for (RunningStatistics& s : network.parameters().statistics()) {
    std::vector<double> initial(2 * s.channels, 0.0);
    std::fill(initial.begin() + s.channels, initial.end(), 1.0);
    s.value.from_host(initial);
    ++s.version;
  }
}

}  // namespace graft
