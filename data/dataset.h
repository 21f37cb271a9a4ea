// A labelled set of images: where they are, which class, which split. Sources are a folder, a CSV or a MedMNIST .npz.
// Pixels are read on demand by load(); batches come from loader.h, the report on a set from inspect.h.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/copies.h"
#include "data/image.h"
#include "data/label_sets.h"

namespace graft {

enum class Split : std::uint8_t { train, val, test };
inline constexpr std::array<Split, 3> kSplits{Split::train, Split::val, Split::test};
std::string_view to_string(Split split);

struct Sample {
  std::string path;        // relative to the folder or the CSV, as listed; "train/17" in an .npz
  std::int32_t label = 0;  // the class; in a multi-label set a number in label_sets()
  Split split = Split::train;
  std::string group;  // images that must stay together (a patient); empty: a group of its own
};

/// A file that could not be decoded.
struct BadImage {
  std::string path;
  std::string reason;
};

struct DatasetSpec {
  std::filesystem::path path;
  /// Share of the training images held out when the source has no validation split. 0 leaves none.
  double val_fraction = 0.2;
  /// Share of all images held out for testing when the source has no splits at all.
  double test_fraction = 0.2;
  std::uint64_t seed = 0;
  /// Unreadable images are dropped and listed in `skipped()`, instead of stopping with an error that lists them.
  bool skip_bad = false;
  /// Decode every image once while opening. Without it damage is found when a sample is loaded.
  bool decodes_all = true;
  /// A set with one class, or a class without training images, is an error; for evaluation it is not.
  bool for_training = true;
  /// False: nothing is held out of train for validation, for those who use the other splits alone.
  bool needs_val = true;
  /// Look for copies (copies.h), whoever splits the set; it is done in any case where images are held out.
  bool finds_copies = false;
  int threads = 1;
  /// For files of 16 bits; without one their high byte is kept.
  std::optional<IntensityWindow> window = {};
  /// What is decoded while opening stays in memory, up to so many bytes, until load() has given it away once; not so
  /// test images.
  std::int64_t kept_bytes = 0;
  /// Raised by another thread: whoever waits for the images wants them no more. open() ends soon, with an error.
  const std::atomic<bool>* stop = nullptr;
};

/// Where pixels come from; one implementation per kind of source.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  /// Image number i of the listing. Safe to call from many threads.
  virtual Image load(std::int64_t i, ImageInfo* info) const = 0;
};

/// Requires nothing of the splits: a set may lack any. Invariant: labels stand for classes (label_sets), which index
/// class_names; samples keep the order of the listing (folders: train, val, test, then classes and file names in byte
/// order; CSV: rows).
class Dataset {
 public:
  /// DATA as the command line has it:
  ///   a folder with train/<class>/… and, optionally, val/ and test/; or one folder of classes, split three ways;
  ///   a CSV with the columns path, label and optionally split, group (or patient); paths relative to the CSV;
  ///   the same with labels instead of label: any number of names with | between them, also none;
  ///   a MedMNIST .npz, whose labels are one number per image or a row of 0 and 1.
  /// Held-out images are chosen per class (stratified) by the seed; a group is never torn apart, nor are images that
  /// are copies of each other, and no class loses its last training image. Of several labels each counts, and images
  /// without any are a class of their own in that. What a source's own splits share is not judged here: find_leaks()
  /// tells. Classes: folder names in byte order; CSV labels the same, or by value if all are integers. Errors: missing
  /// or empty source, an empty or single class, a class that training never sees, a class name that is not UTF-8, a
  /// set among the class folders, an unknown column value, unreadable images (all listed).
  static Dataset open(const DatasetSpec& spec);

  /// `count` training samples, of `classes` classes in turn, that have no pixels: for batches made up elsewhere.
  static Dataset without_images(std::int64_t count, std::int64_t classes);
  Dataset() = default;
  /// A set whose pixels come from anywhere: `source` has an image for each sample, in their order.
  Dataset(std::vector<std::string> class_names, std::vector<Sample> samples, std::shared_ptr<const ImageSource> source,
          LabelSets label_sets = {});

  const std::filesystem::path& root() const { return root_; }
  const std::vector<std::string>& class_names() const { return class_names_; }
  const LabelSets& label_sets() const { return label_sets_; }
  bool is_multi_label() const { return label_sets_.is_multi_label(); }
  const std::vector<Sample>& samples() const { return samples_; }
  std::int64_t size() const { return static_cast<std::int64_t>(samples_.size()); }
  std::vector<std::int64_t> indices(Split split) const;  // in listing order
  std::vector<std::int64_t> counts(Split split) const;   // images of each class
  const std::vector<BadImage>& skipped() const { return skipped_; }
  /// What the source has that is no part of the set, and what looks like a mistake; for people, a line each.
  const std::vector<std::string>& notes() const { return notes_; }
  /// Whether open() held images out by the seed, because the source does not say which.
  bool is_split_drawn() const { return is_split_drawn_; }
  /// What reading all images taught, by sample number; null if open() had no reason to look for copies.
  const Copies* copies() const { return copies_.get(); }

  /// Decoded pixels of sample i. Thread-safe. Errors: unreadable file, by name; a set without images.
  Image load(std::int64_t i, ImageInfo* info = nullptr) const;

  /// Why nothing can be trained on it: one class only, a class without training images. Empty: it can.
  std::string training_obstacle() const;

  /// path,label,split,group: one line per sample. In a multi-label set the second column is `labels`.
  std::string split_csv() const;

 private:
  std::filesystem::path root_;
  std::vector<std::string> class_names_;
  LabelSets label_sets_;
  std::vector<Sample> samples_;
  std::vector<std::int64_t> source_index_;  // sample -> image of source_
  std::shared_ptr<const ImageSource> source_;
  std::vector<BadImage> skipped_;
  std::vector<std::string> notes_;
  bool is_split_drawn_ = false;
  std::shared_ptr<const Copies> copies_;
};

/// Whether the images of DATA may have several labels: what a CSV's header or an .npz's labels say. No image is read.
bool has_several_labels(const std::filesystem::path& data);

/// The files that `graft predict` means by a path: itself, or a folder's images (recursively, in byte order).
/// Errors: missing; a folder without images.
std::vector<std::filesystem::path> list_images(const std::filesystem::path& path);

}  // namespace graft
