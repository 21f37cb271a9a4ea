#include "strategies/analysis/grad_cam.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/loader.h"
#include "data/parallel.h"
#include "data/resize.h"
#include "models/network_io.h"
#include "strategies/batches/batch_source.h"
#include "strategies/batches/split_batches.h"
#include "strategies/training/evaluation.h"
#include "strategies/training/trained_model.h"

namespace graft {
namespace {

/// From here on the tape records: x becomes an input whose gradient is wanted.
void make_leaf(Tensor& x) {
  x.set_variable(std::make_shared<Variable>(Variable{
      .shape = x.shape(), .format = x.format(), .dtype = x.dtype(), .needs_grad = true, .is_leaf = true, .grad = {}}));
}

/// The class to explain of each row of logits: as asked for, else the highest logit's, the first among equals.
std::vector<std::int64_t> chosen_classes(std::span<const double> logits, std::int64_t images, std::int64_t count,
                                         std::span<const std::int64_t> asked) {
  if (!asked.empty() && std::ssize(asked) != images)
    throw Error(fmt::format("Grad-CAM: {} classes for {} images; give one for each, or none", asked.size(), images));
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < images; ++i) {
    const auto row = logits.subspan(std::size_t(i * count), std::size_t(count));
    const std::int64_t c = asked.empty() ? -1 : asked[std::size_t(i)];
    if (c < -1 || c >= count)
      throw Error(fmt::format("Grad-CAM: no class {}; the network has classes 0 to {}", c, count - 1));
    chosen.push_back(c >= 0 ? c : std::ranges::max_element(row) - row.begin());
  }
  return chosen;
}

/// relu(sum over k of mean(gradient_k) * maps_k) of one image; maps and gradient are [K,h,w].
std::vector<double> weighted_sum(std::span<const double> maps, std::span<const double> gradient, std::int64_t places) {
  std::vector<double> sum(std::size_t(places), 0.0);
  for (std::size_t k = 0; k < maps.size(); k += std::size_t(places)) {
    double weight = 0;
    for (std::int64_t p = 0; p < places; ++p) weight += gradient[k + std::size_t(p)];
    weight /= double(places);
    for (std::int64_t p = 0; p < places; ++p) sum[std::size_t(p)] += weight * maps[k + std::size_t(p)];
  }
  for (double& v : sum) v = v < 0 ? 0 : v;
  return sum;
}

/// Where the centre of output `i` of `size` lies between the centres of `cells` cells.
struct Between {
  std::int64_t low, high;
  double share;  // of `high`
};
Between between(std::int64_t i, std::int64_t size, std::int64_t cells) {
  const double at = std::clamp((double(i) + 0.5) * double(cells) / double(size) - 0.5, 0.0, double(cells - 1));
  const auto low = std::int64_t(at);
  return {low, std::min(low + 1, cells - 1), at - double(low)};
}

/// Bilinear as PyTorch's interpolate without align_corners, over the largest value.
std::vector<float> enlarged(const ClassEvidence& e, std::int64_t height, std::int64_t width) {
  std::vector<float> map(std::size_t(height * width), 0.0F);
  const double largest = std::ranges::max(e.evidence);
  if (!(largest > 0)) return map;
  for (std::int64_t y = 0; y < height; ++y) {
    const Between v = between(y, height, e.rows);
    for (std::int64_t x = 0; x < width; ++x) {
      const Between h = between(x, width, e.columns);
      const auto row = [&](std::int64_t r) {
        const double* cells = e.evidence.data() + r * e.columns;
        return cells[h.low] + h.share * (cells[h.high] - cells[h.low]);
      };
      const double value = row(v.low) + v.share * (row(v.high) - row(v.low));
      map[std::size_t(y * width + x)] = float(std::clamp(value / largest, 0.0, 1.0));
    }
  }
  return map;
}

}  // namespace

std::vector<ClassEvidence> class_evidence(Network& network, const Tensor& x, std::span<const std::int64_t> classes) {
  Context& context = network.context();
  const EvaluationMode evaluation(context);
  for (Parameter& p : network.parameters().parameters()) p.is_trainable = false;
  network.parameters().prepare_gradients();

  Tensor maps = [&] {
    const NoGrad no_grad(context);
    return network.last_maps(x);
  }();
  make_leaf(maps);
  const Tensor logits = network.logits_of(maps);
  const std::vector<double> values = logits.to_host();
  const std::int64_t images = x.shape().n, count = network.num_classes();
  const std::vector<std::int64_t> chosen = chosen_classes(values, images, count, classes);

  std::vector<double> of_logits(values.size(), 0.0);  // the gradient of the sum of the chosen logits
  for (std::int64_t i = 0; i < images; ++i) of_logits[std::size_t(i * count + chosen[std::size_t(i)])] = 1;
  Tensor gradient = empty_like(logits);
  gradient.from_host(of_logits);
  context.tape().backward_from(logits, gradient);

  const std::vector<double> probabilities = probabilities_of(network.info(), values);
  const std::vector<double> a = maps.to_host(), da = maps.variable()->grad.to_host();
  const Shape& shape = maps.shape();
  const auto size = std::size_t(shape.c * shape.pixels());
  std::vector<ClassEvidence> all;
  for (std::int64_t i = 0; i < images; ++i) {
    const std::int64_t c = chosen[std::size_t(i)];
    const auto of_image = [&](const std::vector<double>& v) {
      return std::span(v).subspan(std::size_t(i) * size, size);
    };
    all.push_back({.class_index = c,
                   .probability = probabilities[std::size_t(i * count + c)],
                   .rows = shape.h,
                   .columns = shape.w,
                   .evidence = weighted_sum(of_image(a), of_image(da), shape.pixels())});
  }
  return all;
}

Explainer::Explainer(Context& context, const std::filesystem::path& run_or_model, std::int64_t size) {
  network_ = trained_network(context, model_file_of(run_or_model), size);
}

std::vector<GradCam> Explainer::explain(std::span<const std::string> images, std::span<const std::int64_t> classes) {
  const Transform transform = transform_of(info());
  const std::int64_t n = std::ssize(images), side = transform.crop, size = side * side * 3;
  const Normalizer normalize(transform);
  std::vector<float> pixels(std::size_t(n * size));
  std::vector<Image> inputs{std::size_t(n)};
  parallel_for(n, loader_threads(0, 0), [&](std::int64_t i) {
    Image& input = inputs[std::size_t(i)];
    const std::filesystem::path file = images[std::size_t(i)];
    input = resize_and_crop(decode_image(file, nullptr, info().window), transform.resize, side);
    normalize(pixels.data() + i * size, input);
  });
  const Tensor x = images_to_device(network_->context(), pixels, {n, 3, side, side});
  std::vector<GradCam> result;
  for (ClassEvidence& evidence : class_evidence(*network_, x, classes)) {
    std::vector<float> map = enlarged(evidence, side, side);
    result.push_back({std::move(evidence), side, side, std::move(map), std::move(inputs[result.size()])});
  }
  return result;
}

std::vector<GradCam> grad_cam(Context& context, const std::filesystem::path& run_or_model,
                              std::span<const std::string> images, std::span<const std::int64_t> classes) {
  constexpr std::size_t kBatch = 8;
  if (!classes.empty() && classes.size() != images.size())
    throw Error(
        fmt::format("Grad-CAM: {} classes for {} images; give one for each, or none", classes.size(), images.size()));
  Explainer explainer(context, run_or_model);
  std::vector<GradCam> result;
  for (std::size_t first = 0; first < images.size(); first += kBatch) {
    const std::size_t n = std::min(kBatch, images.size() - first);
    for (GradCam& one :
         explainer.explain(images.subspan(first, n), classes.empty() ? classes : classes.subspan(first, n)))
      result.push_back(std::move(one));
  }
  return result;
}

Image overlay(const GradCam& e) {
  constexpr float kMostCover = 0.6F;
  Image image = e.input;
  for (std::size_t p = 0; p < e.map.size(); ++p) {
    const float heat = e.map[p], cover = kMostCover * heat;
    for (int c = 0; c < 3; ++c) {  // each channel a hat: red around 3/4, green around 1/2, blue around 1/4
      const float level = std::clamp(1.5F - std::abs(4 * heat - float(3 - c)), 0.0F, 1.0F);
      std::uint8_t& value = image.rgb[3 * p + std::size_t(c)];
      value = std::uint8_t(std::lround((1 - cover) * float(value) + cover * 255 * level));
    }
  }
  return image;
}

}  // namespace graft
