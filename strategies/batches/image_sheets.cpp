#include "strategies/batches/image_sheets.h"

#include <algorithm>

namespace graft {
namespace {

/// Side by side, with a pixel between them. All are of one size.
Image sheet_of(const std::vector<Image>& images) {
  constexpr std::int64_t kColumns = 4;
  if (images.empty()) return {};
  const std::int64_t height = images[0].height, width = images[0].width, count = std::ssize(images),
                     columns = std::min(kColumns, count), rows = (count + columns - 1) / columns;
  Image sheet = Image::blank(rows * (height + 1) - 1, columns * (width + 1) - 1, 255);
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t y = 0; y < height; ++y)
      std::copy_n(images[std::size_t(i)].row(y), 3 * width,
                  sheet.row(i / columns * (height + 1) + y) + i % columns * (width + 1) * 3);
  return sheet;
}

/// The probability with which image i is taken for what it is not; 0: its answers are right.
double surest_error(const Predictions& predictions, std::size_t i) {
  const auto classes = std::size_t(predictions.classes);
  const auto p = std::span(predictions.probabilities).subspan(i * classes, classes);
  const std::int32_t label = predictions.labels[i];
  if (!predictions.label_sets.is_multi_label()) {
    const auto top = std::ranges::max_element(p);
    return top - p.begin() == label ? 0 : *top;
  }
  double surest = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    const bool is_predicted = p[c] > 0.5;
    if (is_predicted != predictions.label_sets.has(label, std::int64_t(c)))
      surest = std::max(surest, is_predicted ? p[c] : 1 - p[c]);
  }
  return surest;
}

}  // namespace

Image training_sheet(const Dataset& dataset, const TrainSettings& settings, const Transform& transform) {
  const std::vector<std::int64_t> samples = dataset.indices(Split::train);
  const Augmentation augmentation = augmentation_of(settings);
  const std::int64_t count = std::min(kSheetImages, std::ssize(samples));
  std::vector<Image> images;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t sample = samples[std::size_t(i * std::ssize(samples) / count)];
    images.push_back(augment(dataset.load(sample), augmentation, {.resize = transform.resize, .crop = transform.crop},
                             augmentation_place(std::uint64_t(settings.seed), 0, sample)));
  }
  return sheet_of(images);
}

Image error_sheet(const Dataset& dataset, const Predictions& predictions, const Transform& transform) {
  struct Error {
    std::size_t index;
    double probability;
  };
  std::vector<Error> errors;
  for (std::size_t i = 0; i < predictions.labels.size(); ++i)
    if (const double probability = surest_error(predictions, i); probability > 0) errors.push_back({i, probability});
  std::ranges::stable_sort(errors, std::greater(), &Error::probability);
  errors.resize(std::min(errors.size(), std::size_t(kSheetImages)));
  std::vector<Image> images;
  for (const Error& error : errors)
    images.push_back(resize_and_crop(dataset.load(predictions.samples[error.index]), transform.resize, transform.crop));
  return sheet_of(images);
}

}  // namespace graft
