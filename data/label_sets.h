// Which classes hold for an image. Where an image has one label, the label is its class. Where it may have several,
// or none, labels number the combinations of classes that occur, so that a label is one number in either case.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

class LabelSets {
 public:
  /// One label per image.
  LabelSets() = default;
  /// Several labels per image: label l stands for the classes sets[l], in rising order.
  explicit LabelSets(std::vector<std::vector<std::int32_t>> sets) : is_multi_label_(true), sets_(std::move(sets)) {}

  bool is_multi_label() const { return is_multi_label_; }
  /// Of several labels per image the number of labels; else 0.
  std::int64_t count() const { return std::int64_t(sets_.size()); }
  std::vector<std::int32_t> classes_of(std::int32_t label) const;
  bool has(std::int32_t label, std::int64_t class_index) const;
  /// The names of its classes with kSeparator between them; empty where there are none.
  std::string text(std::int32_t label, std::span<const std::string> class_names) const;
  /// The same of other numbers of the classes: class c becomes numbers[c].
  LabelSets renumbered(std::span<const std::int32_t> numbers) const;
  /// 0 or 1 for each class of each label, row by row: (count, classes).
  std::vector<double> table(std::int64_t classes) const;

  static constexpr char kSeparator = '|';
  friend bool operator==(const LabelSets&, const LabelSets&) = default;

  /// The names in "a|b", without blanks around them; none in an empty text. Errors: an empty name among others.
  static std::vector<std::string> split(std::string_view text);

 private:
  bool is_multi_label_ = false;
  std::vector<std::vector<std::int32_t>> sets_;
};

/// Numbers combinations in the order in which they come.
class LabelNumbers {
 public:
  /// `classes`: in any order, each once or more.
  std::int32_t label_of(std::vector<std::int32_t> classes);
  LabelSets sets() const { return LabelSets(sets_); }

 private:
  std::map<std::vector<std::int32_t>, std::int32_t> numbers_;
  std::vector<std::vector<std::int32_t>> sets_;
};

}  // namespace graft
