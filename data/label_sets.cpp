#include "data/label_sets.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/core.h"

namespace graft {

std::vector<std::int32_t> LabelSets::classes_of(std::int32_t label) const {
  return is_multi_label_ ? sets_.at(std::size_t(label)) : std::vector{label};
}

bool LabelSets::has(std::int32_t label, std::int64_t class_index) const {
  if (!is_multi_label_) return label == class_index;
  return std::ranges::binary_search(sets_.at(std::size_t(label)), std::int32_t(class_index));
}

std::string LabelSets::text(std::int32_t label, std::span<const std::string> class_names) const {
  std::string text;
  for (const std::int32_t c : classes_of(label)) {
    if (!text.empty()) text += kSeparator;
    text += class_names[std::size_t(c)];
  }
  return text;
}

LabelSets LabelSets::renumbered(std::span<const std::int32_t> numbers) const {
  LabelSets result = *this;
  for (std::vector<std::int32_t>& set : result.sets_) {
    for (std::int32_t& c : set) c = numbers[std::size_t(c)];
    std::ranges::sort(set);
  }
  return result;
}

std::vector<double> LabelSets::table(std::int64_t classes) const {
  std::vector<double> table(sets_.size() * std::size_t(classes));
  for (std::size_t label = 0; label < sets_.size(); ++label)
    for (const std::int32_t c : sets_[label]) table[label * std::size_t(classes) + std::size_t(c)] = 1;
  return table;
}

std::vector<std::string> LabelSets::split(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  std::vector<std::string> names;
  if (text.find_first_not_of(kBlanks) == std::string_view::npos) return names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(kSeparator, begin), text.size());
    const std::string_view name = text.substr(begin, end - begin);
    const std::size_t first = name.find_first_not_of(kBlanks);
    if (first == std::string_view::npos)
      throw Error(fmt::format("'{}' has an empty label; expected names with {} between them", text, kSeparator));
    names.emplace_back(name.substr(first, name.find_last_not_of(kBlanks) - first + 1));
    begin = end + 1;
  }
  return names;
}

std::int32_t LabelNumbers::label_of(std::vector<std::int32_t> classes) {
  std::ranges::sort(classes);
  const auto repeated = std::ranges::unique(classes);
  classes.erase(repeated.begin(), repeated.end());
  const auto [entry, is_new] = numbers_.try_emplace(classes, std::int32_t(sets_.size()));
  if (is_new) sets_.push_back(std::move(classes));
  return entry->second;
}

}  // namespace graft
