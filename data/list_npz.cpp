// The listing of a MedMNIST .npz, whose images stay in memory.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "data/npz.h"
#include "data/sources.h"
#include "kernels/core.h"

namespace graft {
namespace fs = std::filesystem;
namespace {

/// All arrays of a MedMNIST file in memory.
class NpzSource : public ImageSource {
 public:
  struct Part {
    std::string name;
    NpyArray images;
    std::int64_t begin = 0;  // listing index of its first image
  };
  NpzSource(std::string file, std::vector<Part> parts) : file_(std::move(file)), parts_(std::move(parts)) {}

  Image load(std::int64_t i, ImageInfo* info) const override {
    auto part = parts_.rbegin();
    while (part->begin > i) ++part;
    const auto& shape = part->images.shape;
    const std::int64_t channels = shape.size() == 4 ? 3 : 1;
    Image image = Image::blank(shape[1], shape[2]);
    const std::uint8_t* pixels = part->images.bytes.data() + (i - part->begin) * shape[1] * shape[2] * channels;
    if (channels == 3) {
      std::copy_n(pixels, image.rgb.size(), image.rgb.begin());
    } else {
      for (std::size_t p = 0; p < image.rgb.size(); ++p) image.rgb[p] = pixels[p / 3];
    }
    if (info != nullptr) *info = {"npz", static_cast<int>(channels), 8};
    return image;
  }

 private:
  std::string file_;
  std::vector<Part> parts_;
};

NpyArray read_images(const fs::path& file, const std::string& key) {
  NpyArray images = read_npz(file, key);
  const auto& shape = images.shape;
  if (images.dtype != "|u1" || (shape.size() != 3 && !(shape.size() == 4 && shape[3] == 3)) || shape[1] < 1 ||
      shape[2] < 1) {
    throw Error(fmt::format("{}:{}: expected 8-bit images (N,H,W) or (N,H,W,3), got type {} with {} dimensions",
                            file.string(), key, images.dtype, shape.size()));
  }
  return images;
}

/// Of one split: a class number per image, or a row of 0 and 1 of every image.
struct NpzLabels {
  std::int64_t columns = 1;
  std::vector<std::int64_t> values;
};

NpzLabels read_labels(const fs::path& file, const std::string& key, std::int64_t images) {
  const NpyArray labels = read_npz(file, key);
  const auto& shape = labels.shape;
  if (shape.empty() || shape.size() > 2 || shape[0] != images || shape.back() == 0) {
    throw Error(
        fmt::format("{}:{}: expected one label, or a row of them, for each of {} images", file.string(), key, images));
  }
  try {
    return {shape.size() == 2 ? shape[1] : 1, labels.integers()};
  } catch (const Error& error) {
    throw Error(fmt::format("{}:{}: {}", file.string(), key, error.what()));
  }
}

/// The classes are the columns. Errors: other numbers than 0 and 1.
void take_label_rows(const fs::path& file, const NpzLabels& labels, Listing& listing) {
  LabelNumbers numbers;
  for (std::size_t i = 0; i < listing.samples.size(); ++i) {
    const auto row = std::span(labels.values).subspan(i * std::size_t(labels.columns), std::size_t(labels.columns));
    std::vector<std::int32_t> classes;
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (row[c] != 0 && row[c] != 1)
        throw Error(fmt::format("{}: {} has a {} among its {} labels; expected a row of 0 and 1", file.string(),
                                listing.samples[i].path, row[c], row.size()));
      if (row[c] == 1) classes.push_back(std::int32_t(c));
    }
    listing.samples[i].label = numbers.label_of(std::move(classes));
  }
  for (std::int64_t c = 0; c < labels.columns; ++c) listing.class_names.push_back(std::to_string(c));
  listing.label_sets = numbers.sets();
}

/// The classes are the numbers up to the largest.
void take_class_numbers(const fs::path& file, const std::vector<std::int64_t>& labels, Listing& listing) {
  const auto [low, high] = std::minmax_element(labels.begin(), labels.end());
  constexpr std::int64_t kMaxClasses = 100000;
  if (*low < 0 || *high >= kMaxClasses) {
    throw Error(fmt::format("{}: labels from {} to {}; expected class numbers from 0", file.string(), *low, *high));
  }
  for (std::int64_t c = 0; c <= *high; ++c) listing.class_names.push_back(std::to_string(c));
  for (std::size_t i = 0; i < labels.size(); ++i) listing.samples[i].label = static_cast<std::int32_t>(labels[i]);
}

}  // namespace

Listing list_npz(const fs::path& file) {
  const std::vector<std::string> names = npz_names(file);
  const auto has = [&](const std::string& key) { return std::find(names.begin(), names.end(), key) != names.end(); };
  Listing listing;
  listing.has_splits = true;
  std::vector<NpzSource::Part> parts;
  NpzLabels labels{.columns = 0, .values = {}};
  for (const Split split : kSplits) {
    const std::string part(to_string(split));
    if (!has(part + "_images")) continue;
    NpyArray images = read_images(file, part + "_images");
    const std::int64_t count = images.shape[0];
    const NpzLabels found = read_labels(file, part + "_labels", count);
    if (labels.columns > 0 && found.columns != labels.columns)
      throw Error(fmt::format("{}:{}_labels: {} labels per image, the split before has {}; expected as many in each",
                              file.string(), part, found.columns, labels.columns));
    labels.columns = found.columns;
    for (std::int64_t i = 0; i < count; ++i) {
      listing.samples.push_back({.path = fmt::format("{}/{}", part, i), .label = 0, .split = split, .group = ""});
    }
    labels.values.insert(labels.values.end(), found.values.begin(), found.values.end());
    if (count > 0) parts.push_back({part, std::move(images), std::ssize(listing.samples) - count});
  }
  if (listing.samples.empty()) {
    throw Error(fmt::format("{}: no images; expected MedMNIST arrays train_images, train_labels (and val_, test_)",
                            file.string()));
  }
  if (labels.columns > 1)
    take_label_rows(file, labels, listing);
  else
    take_class_numbers(file, labels.values, listing);
  listing.source = std::make_shared<NpzSource>(file.string(), std::move(parts));
  return listing;
}

}  // namespace graft
