#include "strategies/training/predict.h"

#include <algorithm>
#include <numeric>

#include "data/parallel.h"
#include "models/network_io.h"
#include "strategies/batches/split_batches.h"
#include "strategies/training/evaluation.h"
#include "strategies/training/predictor.h"
#include "strategies/training/trained_model.h"

namespace graft {

std::vector<std::int64_t> Prediction::ranking(std::int64_t top) const {
  std::vector<std::int64_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(
      order, [&](std::int64_t a, std::int64_t b) { return logits[std::size_t(a)] > logits[std::size_t(b)]; });
  order.resize(std::min(order.size(), std::size_t(std::max<std::int64_t>(0, top))));
  return order;
}

PredictResult predict(Context& context, const PredictSettings& s, ProgressSink& progress) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : s.images)
    for (const std::filesystem::path& file : list_images(path)) files.push_back(file);
  const std::filesystem::path path = model_file_of(s.model);
  const std::unique_ptr<Network> network = trained_network(context, path, s.size);
  const Transform transform = transform_of(network->info());
  PredictResult result{.model = path.string(),
                       .class_names = network->info().class_names,
                       .is_multi_label = network->info().is_multi_label,
                       .images = {},
                       .unreadable = {}};
  Predictor predict_batch(*network);
  Tensor x;
  const std::int64_t total = std::int64_t(files.size()), side = transform.crop;
  for (std::int64_t first = 0; first < total; first += s.batch) {
    const std::int64_t n = std::min(s.batch, total - first);
    const std::int64_t rows = rows_beside(context.backend(), n, first > 0 ? s.batch : 0);
    std::vector<float> pixels(std::size_t(rows * side * side * 3));
    std::vector<std::string> reasons(static_cast<std::size_t>(n));
    parallel_for(n, loader_threads(0, s.threads), [&](std::int64_t i) {
      try {
        const std::vector<float> image =
            prepare(decode_image(files[std::size_t(first + i)], nullptr, network->info().window), transform);
        std::ranges::copy(image, pixels.begin() + i * side * side * 3);
      } catch (const NoDecoder&) {
        throw;
      } catch (const Error& error) {
        reasons[std::size_t(i)] = error.what();  // its pixels stay zero, its predictions unused
      }
    });
    const auto name = [&](std::int64_t i) { return files[std::size_t(first + i)].string(); };
    for (std::int64_t i = 0; i < n; ++i)
      if (!reasons[std::size_t(i)].empty()) result.unreadable.push_back({name(i), reasons[std::size_t(i)]});
    if (std::ranges::none_of(reasons, &std::string::empty)) continue;
    x = images_to_device(context, pixels, {rows, 3, side, side}, x);
    const std::int64_t classes = network->num_classes();
    std::vector<double> logits = predict_batch(x).to_host();
    logits.resize(std::size_t(n * classes));
    const std::vector<double> probabilities = probabilities_of(network->info(), logits);
    for (std::int64_t i = 0; i < n; ++i) {
      const auto row = [&](const std::vector<double>& all) {
        return std::vector<double>(all.begin() + i * classes, all.begin() + (i + 1) * classes);
      };
      if (reasons[std::size_t(i)].empty()) result.images.push_back({name(i), row(logits), row(probabilities)});
    }
    progress.advance({.pass = "predict", .done = first + n, .total = total});
  }
  progress.end_pass();
  return result;
}

}  // namespace graft
