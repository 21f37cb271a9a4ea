#include "models/initialise.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "data/parallel.h"
#include "kernels/philox.h"
#include "kernels/usable_cores.h"

namespace graft {
namespace {

/// [0, 1) as Random::uniform draws it.
double uniform(std::uint32_t high, std::uint32_t low) {
  return double((std::uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
}

/// Two normal numbers by Box and Muller, which take one block of the generator.
std::pair<double, double> normal_pair(const PhiloxBlock& words, double deviation) {
  const double radius = deviation * std::sqrt(-2 * std::log(1 - uniform(words.v0, words.v1)));
  const double angle = 2 * std::numbers::pi * uniform(words.v2, words.v3);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// Fills a parameter in the order of its file, C R S within K: draw_all(values) sets them, in the parameter's own type.
template <class DrawAll>
void fill_all(Parameter& parameter, const DrawAll& draw_all) {
  const auto fill_as = [&](auto number) {
    std::vector<decltype(number)> values(std::size_t(parameter.shape.size()));
    draw_all(values);
    parameter.value.from_host(values);
  };
  if (parameter.value.dtype() == DType::f32)
    fill_as(float{});
  else
    fill_as(double{});
  ++parameter.version;
}

template <class Draw>
void fill(Parameter& parameter, Draw&& draw) {
  fill_all(parameter, [&]<class T>(std::vector<T>& values) {
    for (T& v : values) v = T(draw());
  });
}

void fill_uniform(Parameter& parameter, const RandomPlace& at, double bound) {
  Random random(at);
  fill(parameter, [&] { return random.uniform(-bound, bound); });
}

/// A large network has a hundred million of these: threads share them. Each depends on its place alone.
void fill_normal(Parameter& parameter, const RandomPlace& at, double deviation) {
  constexpr std::int64_t kPart = std::int64_t{1} << 16;  // numbers that a thread draws at a time; even
  fill_all(parameter, [&]<class T>(std::vector<T>& values) {
    const std::int64_t size = std::ssize(values);
    parallel_for((size + kPart - 1) / kPart, usable_cores(), [&](std::int64_t part) {
      for (std::int64_t i = part * kPart; i < std::min(size, (part + 1) * kPart); i += 2) {
        const auto [first, second] = normal_pair(random_block(at, std::uint32_t(i / 2)), deviation);
        values[std::size_t(i)] = T(first);
        if (i + 1 < size) values[std::size_t(i + 1)] = T(second);
      }
    });
  });
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
  const Family family = architecture_of(network.info().architecture).family;
  const bool is_vgg = family == Family::vgg, is_densenet = family == Family::densenet;
  std::uint32_t position = 0;
  double bias_bound = 0;  // of the layer whose weight came last
  for (Parameter& p : network.parameters().parameters()) {
    const RandomPlace at{.seed = seed, .stream = RandomStream::other, .epoch = position++};
    switch (p.role) {
      case Role::conv_weight: {
        const double fan = is_densenet ? inputs(p) : double(p.shape.n * p.shape.pixels());
        fill_normal(p, at, std::sqrt(2 / fan));
        bias_bound = 0;
        break;
      }
      case Role::linear_weight:
        if (is_vgg) {
          fill_normal(p, at, 0.01);
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
