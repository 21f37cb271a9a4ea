#include "data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <utility>

#include "data/csv.h"
#include "data/decoded_once.h"
#include "data/files.h"
#include "data/npz.h"
#include "data/parallel.h"
#include "data/sources.h"
#include "data/split.h"
#include "kernels/core.h"

namespace graft {
namespace fs = std::filesystem;
namespace {

Listing list_source(const fs::path& path, const std::optional<IntensityWindow>& window) {
  if (!fs::exists(path)) {
    throw Error(fmt::format("data: {} does not exist; expected a folder, a .csv or a MedMNIST .npz", path.string()));
  }
  if (fs::is_directory(path)) return list_folder(path, window);
  const std::string extension = path.extension().string();
  if (extension == ".csv") return list_csv(path, window);
  if (extension == ".npz") return list_npz(path);
  throw Error(fmt::format("data: {}: unknown kind of file '{}'; expected a folder, a .csv or a MedMNIST .npz",
                          path.string(), extension));
}

using LoadImage = std::function<Image(std::int64_t, ImageInfo*)>;

/// Nobody waits for the images any more. No Error, which would count as damage of the image at hand.
struct Stopped : std::runtime_error {
  Stopped() : std::runtime_error("data: opening was stopped") {}
};

/// Decodes everything once; entry i is why image i cannot be read, or empty.
std::vector<std::string> find_damage(std::int64_t count, const LoadImage& load, int threads) {
  std::vector<std::string> reasons(static_cast<std::size_t>(count));
  parallel_for(count, threads, [&](std::int64_t i) {
    try {
      load(i, nullptr);
    } catch (const NoDecoder&) {
      throw;
    } catch (const Error& error) {
      reasons[static_cast<std::size_t>(i)] = error.what();
    }
  });
  return reasons;
}

/// The same with images left out: number i becomes numbers[i], negative ones are gone.
Copies renumbered(const Copies& copies, const std::vector<std::int64_t>& numbers) {
  const auto at = [&](std::int64_t i) { return numbers[static_cast<std::size_t>(i)]; };
  Copies result;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (numbers[i] >= 0) result.traces.push_back(copies.traces[i]);
  }
  for (const auto& set : copies.equal) {  // of readable images, as are the pairs
    std::vector<std::int64_t>& members = result.equal.emplace_back();
    for (const std::int64_t i : set) members.push_back(at(i));
  }
  for (NearPair pair : copies.near) {
    pair.a = at(pair.a), pair.b = at(pair.b);
    result.near.push_back(pair);
  }
  return result;
}

/// The files of a run (JSON, TOML, HDF5) hold UTF-8 alone. Errors: a name that is not.
void check_names(const std::vector<std::string>& class_names, const fs::path& path) {
  for (const std::string& name : class_names) {
    try {
      (void)nlohmann::json(name).dump();
    } catch (const nlohmann::json::exception&) {
      throw Error(fmt::format("data: {}: the class name {:?} is not UTF-8; rename the {} in UTF-8", path.string(), name,
                              fs::is_directory(path) ? "folder" : "label"));
    }
  }
}

[[noreturn]] void refuse(const std::vector<BadImage>& bad) {
  constexpr std::size_t kShown = 5;
  std::string list;
  for (std::size_t i = 0; i < std::min(bad.size(), kShown); ++i) list += fmt::format("; {}", bad[i].reason);
  if (bad.size() > kShown) list += fmt::format("; and {} more, which graft data inspect lists", bad.size() - kShown);
  throw Error(
      fmt::format("data: {} unreadable image{} (repair them, or drop them: --skip-bad, in a file skip_bad = true){}",
                  bad.size(), bad.size() == 1 ? "" : "s", list));
}

}  // namespace

std::string_view to_string(Split split) {
  switch (split) {
    case Split::train:
      return "train";
    case Split::val:
      return "val";
    case Split::test:
      return "test";
  }
  throw Error("split: unknown value");
}

Dataset Dataset::open(const DatasetSpec& spec) {
  Listing listing;
  try {
    listing = list_source(spec.path, spec.window);
  } catch (const fs::filesystem_error& error) {
    throw Error(fmt::format("data: cannot list {}: {}; check permissions", spec.path.string(), error.code().message()));
  }
  check_names(listing.class_names, spec.path);
  Dataset data;
  data.root_ = spec.path;
  data.class_names_ = std::move(listing.class_names);
  data.label_sets_ = std::move(listing.label_sets);
  std::shared_ptr<DecodedOnce> once;
  if (spec.kept_bytes > 0 && spec.path.extension() != ".npz")  // whose images lie in memory as they are
    listing.source = once = std::make_shared<DecodedOnce>(listing.source, std::ssize(listing.samples), spec.kept_bytes);
  data.source_ = listing.source;
  data.notes_ = std::move(listing.notes);

  const auto has = [&](Split split) {
    return std::ranges::any_of(listing.samples, [&](const Sample& sample) { return sample.split == split; });
  };
  const bool holds_out_test = !listing.has_splits && spec.test_fraction != 0;
  const bool holds_out_val = spec.needs_val && !has(Split::val) && spec.val_fraction != 0;
  data.is_split_drawn_ = holds_out_test || holds_out_val;
  std::optional<Copies> copies;
  std::vector<std::string> reasons(listing.samples.size());
  const LoadImage load = [&](std::int64_t i, ImageInfo* info) {
    if (spec.stop && *spec.stop) throw Stopped();
    return listing.source->load(i, info);
  };
  if (spec.finds_copies || holds_out_test || holds_out_val) {
    copies = find_copies(std::ssize(listing.samples), load, spec.threads);
    if (spec.decodes_all) std::ranges::transform(copies->traces, reasons.begin(), &ImageTrace::failure);
  } else if (spec.decodes_all) {
    reasons = find_damage(std::ssize(listing.samples), load, spec.threads);
  }
  if (once) once->open_ends();
  std::vector<std::int64_t> numbers(reasons.size(), -1);
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    if (!reasons[i].empty()) {
      data.skipped_.push_back({listing.samples[i].path, reasons[i]});
      continue;
    }
    numbers[i] = data.size();
    data.samples_.push_back(std::move(listing.samples[i]));
    data.source_index_.push_back(static_cast<std::int64_t>(i));
  }
  if (!data.skipped_.empty() && !spec.skip_bad) refuse(data.skipped_);
  if (data.samples_.empty()) throw Error(fmt::format("{}: no images are left to use", spec.path.string()));

  if (copies) data.copies_ = std::make_shared<const Copies>(renumbered(*copies, numbers));
  if (holds_out_test || holds_out_val) {
    const auto classes = static_cast<std::int64_t>(data.class_names_.size());
    std::vector<Sample> grouped = with_copies_grouped(data.samples_, *data.copies_);
    const auto hold = [&](double fraction, Split into) {
      hold_out(grouped, {.fraction = fraction,
                         .into = into,
                         .seed = spec.seed,
                         .class_count = classes,
                         .label_sets = data.label_sets_});
    };
    if (holds_out_test) hold(spec.test_fraction, Split::test);
    if (holds_out_val) hold(spec.val_fraction, Split::val);
    for (std::size_t i = 0; i < grouped.size(); ++i) data.samples_[i].split = grouped[i].split;
  }
  if (once)  // test images are loaded last of all: until then their place is others'
    for (std::size_t i = 0; i < data.samples_.size(); ++i)
      if (data.samples_[i].split == Split::test) once->forget(data.source_index_[i]);
  if (data.is_multi_label()) {
    const auto train = std::ssize(data.indices(Split::train));
    const std::vector<std::int64_t> counts = data.counts(Split::train);
    for (std::size_t c = 0; c < counts.size(); ++c)
      if (train > 0 && counts[c] == train)
        data.notes_.push_back(
            fmt::format("every training image is of class '{}': nothing shows what lacks it", data.class_names_[c]));
  }
  if (const std::string obstacle = data.training_obstacle(); spec.for_training && !obstacle.empty())
    throw Error(fmt::format("{}: {}", data.root_.string(), obstacle));
  return data;
}

bool has_several_labels(const fs::path& data) {
  if (fs::is_directory(data)) return false;
  if (data.extension() == ".csv") return parse_csv(read_text(data), data.string()).column("labels").has_value();
  if (data.extension() != ".npz") return false;
  for (const std::string& name : npz_names(data))
    if (name.ends_with("_labels")) {
      const NpyArray labels = read_npz(data, name);
      return labels.shape.size() == 2 && labels.shape[1] > 1;
    }
  return false;
}

Dataset Dataset::without_images(std::int64_t count, std::int64_t classes) {
  Dataset data;
  data.root_ = "noise";
  for (std::int64_t c = 0; c < classes; ++c) data.class_names_.push_back(std::to_string(c));
  for (std::int64_t i = 0; i < count; ++i)
    data.samples_.push_back({.path = fmt::format("noise/{}", i), .label = static_cast<std::int32_t>(i % classes)});
  return data;
}

Dataset::Dataset(std::vector<std::string> class_names, std::vector<Sample> samples,
                 std::shared_ptr<const ImageSource> source, LabelSets label_sets)
    : class_names_(std::move(class_names)),
      label_sets_(std::move(label_sets)),
      samples_(std::move(samples)),
      source_index_(samples_.size()),
      source_(std::move(source)) {
  std::iota(source_index_.begin(), source_index_.end(), 0);
}

std::vector<std::int64_t> Dataset::indices(Split split) const {
  std::vector<std::int64_t> found;
  for (std::int64_t i = 0; i < size(); ++i) {
    if (samples_[static_cast<std::size_t>(i)].split == split) found.push_back(i);
  }
  return found;
}

std::vector<std::int64_t> Dataset::counts(Split split) const {
  std::vector<std::int64_t> found(class_names_.size());
  for (const Sample& sample : samples_) {
    if (sample.split != split) continue;
    for (const std::int32_t c : label_sets_.classes_of(sample.label)) ++found[static_cast<std::size_t>(c)];
  }
  return found;
}

Image Dataset::load(std::int64_t i, ImageInfo* info) const {
  if (!source_) throw Error(fmt::format("data: {} has no images", root_.string()));
  return source_->load(source_index_.at(static_cast<std::size_t>(i)), info);
}

std::string Dataset::training_obstacle() const {
  if (class_names_.empty()) return "no image has a label; fill in the column labels";
  if (class_names_.size() < 2 && !is_multi_label())
    return fmt::format("only one class ('{}'); a classifier needs at least two", class_names_.front());
  const auto train = counts(Split::train);
  for (std::size_t c = 0; c < class_names_.size(); ++c) {
    if (train[c] > 0) continue;
    for (const Split split : {Split::val, Split::test})
      if (counts(split)[c] > 0)
        return fmt::format("class '{}' has images in {} and none in train; add some or remove the class",
                           class_names_[c], to_string(split));
    return fmt::format("class '{}' is empty; add images or remove the class", class_names_[c]);
  }
  return {};
}

std::string Dataset::split_csv() const {
  std::string text = csv_line({"path", is_multi_label() ? "labels" : "label", "split", "group"});
  for (const Sample& sample : samples_) {
    text += csv_line({sample.path, label_sets_.text(sample.label, class_names_), std::string(to_string(sample.split)),
                      sample.group});
  }
  return text;
}

}  // namespace graft
