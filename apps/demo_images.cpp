#include "apps/demo_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "data/files.h"
#include "kernels/core.h"
#include "kernels/philox.h"

namespace graft {
namespace {

constexpr double kPi = std::numbers::pi;

/// A point in the pattern's own frame, in periods.
struct Point {
  double u, v;
};

double fraction(double x) { return x - std::floor(x); }
/// 0 at whole numbers, 1 half-way between.
double triangle(double x) { return 1 - std::abs(2 * fraction(x) - 1); }
/// Distance to the middle of the unit cell that holds the point.
double cell_distance(Point p) { return std::hypot(fraction(p.u) - 0.5, fraction(p.v) - 0.5); }

// Patterns: positive inside the figure, negative outside, of slope about 1 per period at the edge.
double stripes(Point p) { return triangle(p.u) - 0.5; }
double checks(Point p) { return 2 * (triangle(p.u) - 0.5) * (triangle(p.v) - 0.5) * 2; }
double dots(Point p) { return 0.33 - cell_distance(p); }
double rings(Point p) { return triangle(std::hypot(p.u, p.v)) - 0.5; }
double grid(Point p) { return std::max(triangle(p.u), triangle(p.v)) - 0.72; }
double zigzag(Point p) { return triangle(p.u + triangle(p.v / 2) * 0.9) - 0.5; }
double bricks(Point p) {
  const double shifted = p.u / 2 + 0.5 * std::fmod(std::abs(std::floor(p.v)), 2.0);
  return 0.75 - std::max(1 - 2 * (0.5 - std::abs(fraction(shifted) - 0.5)), 1 - triangle(p.v));
}
double rays(Point p) { return triangle(std::atan2(p.v, p.u) / (2 * kPi) * 12) - 0.5; }

double waves(Point p) { return triangle(p.u + 0.35 * std::sin(2 * kPi * p.v / 2.2)) - 0.5; }
double honeycomb(Point p) {
  // Cells around the points of a triangular lattice, which is two rectangular ones; 0.5 is the way to a cell's side.
  constexpr double kHeight = std::numbers::sqrt3;
  const auto to_side = [](double u, double v) {
    const double x = std::abs(fraction(u) - 0.5), y = std::abs(fraction(v / kHeight) - 0.5) * kHeight;
    return std::max(x, x / 2 + y * kHeight / 2);
  };
  return std::min(to_side(p.u, p.v), to_side(p.u + 0.5, p.v + kHeight / 2)) - 0.4;
}
double crosses(Point p) {
  const double u = std::abs(fraction(p.u) - 0.5), v = std::abs(fraction(p.v) - 0.5);
  return std::max(std::min(0.38 - u, 0.12 - v), std::min(0.12 - u, 0.38 - v));
}
double spiral(Point p) { return triangle(std::hypot(p.u, p.v) + std::atan2(p.v, p.u) / (2 * kPi)) - 0.5; }
double circles(Point p) { return 0.09 - std::abs(cell_distance(p) - 0.3); }
double triangles(Point p) {
  const double u = std::abs(fraction(p.u) - 0.5), v = fraction(p.v);
  return std::min(v - 0.15, 0.85 - v - 1.6 * u);
}

struct Pattern {
  const char* name;
  double (*field)(Point);
};
constexpr std::array<Pattern, 8> kSource{{{"bricks", bricks},
                                          {"checks", checks},
                                          {"dots", dots},
                                          {"grid", grid},
                                          {"rays", rays},
                                          {"rings", rings},
                                          {"stripes", stripes},
                                          {"zigzag", zigzag}}};
constexpr std::array<Pattern, 6> kTarget{{{"circles", circles},
                                          {"crosses", crosses},
                                          {"honeycomb", honeycomb},
                                          {"spiral", spiral},
                                          {"triangles", triangles},
                                          {"waves", waves}}};

double (*field_of(const DemoImage& image))(Point) {
  const auto label = static_cast<std::size_t>(image.label);
  return image.task == DemoTask::source ? kSource.at(label).field : kTarget.at(label).field;
}

using Colour = std::array<double, 3>;

Colour random_colour(Random& random, double darkest, double brightest) {
  return {random.uniform(darkest, brightest), random.uniform(darkest, brightest), random.uniform(darkest, brightest)};
}

/// What varies from image to image and says nothing about the class.
struct Scene {
  double angle, period, shift_u, shift_v, light_x, light_y, noise;
  Colour figure, ground;

  Scene(Random& random, double size) {
    angle = random.uniform(-0.4, 0.4);
    period = size * random.uniform(0.14, 0.22);
    shift_u = random.uniform(-1.5, 1.5), shift_v = random.uniform(-1.5, 1.5);
    light_x = random.uniform(-0.3, 0.3), light_y = random.uniform(-0.3, 0.3);
    noise = random.uniform(0.02, 0.06);
    figure = random_colour(random, 0, 0.35), ground = random_colour(random, 0.6, 1);  // dark on bright
  }
};

}  // namespace

const std::vector<std::string>& demo_classes(DemoTask task) {
  static const auto names = [](const auto& patterns) {
    std::vector<std::string> list;
    for (const Pattern& pattern : patterns) list.emplace_back(pattern.name);
    return list;
  };
  static const std::vector<std::string> source = names(kSource), target = names(kTarget);
  return task == DemoTask::source ? source : target;
}

Image draw_demo_image(const DemoImage& image, std::int64_t size) {
  const auto classes = static_cast<std::int64_t>(demo_classes(image.task).size());
  if (image.label < 0 || image.label >= classes) {
    throw Error(fmt::format("draw_demo_image: expects a label below {}, got {}", classes, image.label));
  }
  Random random({.seed = image.seed,
                 .stream = RandomStream::drawing,
                 .epoch = static_cast<std::uint32_t>(image.task),
                 .index = static_cast<std::uint64_t>(image.number * classes + image.label)});
  const Scene scene(random, static_cast<double>(size));
  double (*const field)(Point) = field_of(image);
  const double cosine = std::cos(scene.angle), sine = std::sin(scene.angle);

  Image drawn = Image::blank(size, size);
  for (std::int64_t y = 0; y < size; ++y) {
    for (std::int64_t x = 0; x < size; ++x) {
      const double px = static_cast<double>(x) + 0.5 - static_cast<double>(size) / 2;
      const double py = static_cast<double>(y) + 0.5 - static_cast<double>(size) / 2;
      const Point p{(cosine * px + sine * py) / scene.period + scene.shift_u,
                    (cosine * py - sine * px) / scene.period + scene.shift_v};
      const double figure = std::clamp(field(p) * scene.period / 1.5 + 0.5, 0.0, 1.0);  // edges about two pixels wide
      const double light = 1 + (scene.light_x * px + scene.light_y * py) / static_cast<double>(size) * 2;
      for (std::size_t c = 0; c < 3; ++c) {
        const double noise = scene.noise * (random.uniform(-1, 1) + random.uniform(-1, 1));
        const double value = (figure * scene.figure[c] + (1 - figure) * scene.ground[c]) * light + noise;
        drawn.row(y)[x * 3 + static_cast<std::int64_t>(c)] =
            static_cast<std::uint8_t>(std::lround(std::clamp(value, 0.0, 1.0) * 255));
      }
    }
  }
  return drawn;
}

void write_demo_set(const std::filesystem::path& folder, DemoTask task, const DemoCounts& counts, std::int64_t size,
                    std::uint64_t seed) {
  const std::pair<const char*, std::int64_t> splits[] = {
      {"train", counts.train}, {"val", counts.val}, {"test", counts.test}};
  const std::vector<std::string>& classes = demo_classes(task);
  for (std::size_t label = 0; label < classes.size(); ++label) {
    std::int64_t number = 0;
    for (const auto& [split, count] : splits) {
      for (std::int64_t i = 0; i < count; ++i, ++number) {
        const Image image = draw_demo_image({task, static_cast<std::int64_t>(label), number, seed}, size);
        write_atomically(folder / split / classes[label] / fmt::format("{:03}.png", i), encode_png(image));
      }
    }
  }
}

}  // namespace graft
