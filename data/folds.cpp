#include "data/folds.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "data/split.h"
#include "kernels/core.h"
#include "kernels/philox.h"

namespace graft {
namespace {

// Beside those of hold_out, which are the splits' numbers.
constexpr std::uint32_t kFoldDraws = 16, kSubsetDraws = 17;

struct Group {
  std::uint64_t draw = 0;
  std::vector<std::size_t> members;
  std::map<std::size_t, std::int64_t> parts;  // class -> members
};

/// Of the samples that `is_wanted` picks, in an order drawn by the seed.
template <class Spec, class Wanted>
std::vector<Group> drawn_groups(const std::vector<Sample>& samples, const Spec& spec, std::uint32_t draws,
                                const Wanted& is_wanted) {
  std::vector<Group> groups;
  std::unordered_map<std::string, std::size_t> by_name;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (!is_wanted(samples[i])) continue;
    std::size_t at = groups.size();
    if (!samples[i].group.empty()) at = by_name.try_emplace(samples[i].group, at).first->second;
    if (at == groups.size()) {
      groups.push_back(
          {Random({.seed = spec.seed, .stream = RandomStream::split, .epoch = draws, .index = at}).bits64(), {}, {}});
    }
    groups[at].members.push_back(i);
    for (const std::size_t c : counted_classes(samples[i], spec.label_sets, spec.class_count)) ++groups[at].parts[c];
  }
  std::ranges::stable_sort(groups, {}, &Group::draw);
  return groups;
}

using Counts = std::vector<std::vector<std::int64_t>>;  // [fold][class]

void check_folds(const Counts& counts, const std::vector<std::string>& class_names) {
  for (std::size_t c = 0; c < class_names.size(); ++c) {
    std::int64_t all = 0;
    for (const auto& fold : counts) all += fold[c];
    for (std::size_t f = 0; f < counts.size(); ++f)
      if (counts[f][c] == 0 || counts[f][c] == all)
        throw Error(fmt::format("folds: fold {} would {} class '{}', whose groups are too large; use fewer folds", f,
                                counts[f][c] == 0 ? "not test" : "not train on", class_names[c]));
  }
}

}  // namespace

std::vector<std::int64_t> assign_folds(const std::vector<Sample>& samples, const FoldSpec& spec,
                                       const std::vector<std::string>& class_names) {
  if (spec.folds < 2) throw UsageError(fmt::format("folds: expects at least 2, got {}", spec.folds));
  std::vector<Group> groups = drawn_groups(samples, spec, kFoldDraws, [](const Sample&) { return true; });
  std::vector<std::int64_t> images(counted_class_places(spec.label_sets, spec.class_count)), with_class(images);
  for (const Group& group : groups)
    for (const auto& [label, count] : group.parts) images[label] += count, ++with_class[label];
  for (std::size_t c = 0; c < class_names.size(); ++c)
    if (with_class[c] < spec.folds)
      throw Error(fmt::format("folds: class '{}' has {} group{} of images, and {} folds need at least {}",
                              class_names[c], with_class[c], with_class[c] == 1 ? "" : "s", spec.folds, spec.folds));

  std::ranges::stable_sort(groups, std::ranges::greater{}, [](const Group& g) { return g.members.size(); });
  Counts counts(std::size_t(spec.folds), std::vector<std::int64_t>(images.size()));
  std::vector<std::int64_t> sizes(counts.size()), fold_of(samples.size());
  for (const Group& group : groups) {
    const auto cost = [&](std::size_t f) {
      double change = 0;  // of the sum of squares
      for (const auto& [label, count] : group.parts) {
        const double scale = double(images[label]), before = double(counts[f][label]), n = double(count);
        change += ((before + n) * (before + n) - before * before) / (scale * scale);
      }
      return std::tuple(change, sizes[f], f);
    };
    std::size_t best = 0;
    for (std::size_t f = 1; f < counts.size(); ++f)
      if (cost(f) < cost(best)) best = f;
    for (const auto& [label, count] : group.parts) counts[best][label] += count;
    sizes[best] += std::int64_t(group.members.size());
    for (const std::size_t member : group.members) fold_of[member] = std::int64_t(best);
  }
  check_folds(counts, class_names);
  return fold_of;
}

std::vector<Sample> subset_per_class(const std::vector<Sample>& samples, const SubsetSpec& spec) {
  std::vector<char> stays(samples.size());
  for (const Split split : kSplits) {
    const std::int64_t most = spec.per_class[std::size_t(split)];
    const std::vector<Group> groups = drawn_groups(samples, spec, kSubsetDraws + std::uint32_t(split),
                                                   [&](const Sample& s) { return s.split == split; });
    std::vector<std::int64_t> kept(counted_class_places(spec.label_sets, spec.class_count));
    const auto take = [&](const Group& group) {
      for (const auto& [label, count] : group.parts) kept[label] += count;
      for (const std::size_t member : group.members) stays[member] = 1;
    };
    for (const Group& group : groups)
      if (most == 0 ||
          std::ranges::all_of(group.parts, [&](const auto& part) { return kept[part.first] + part.second <= most; }))
        take(group);
    for (std::size_t c = 0; c < kept.size(); ++c) {
      if (kept[c] > 0) continue;
      const Group* smallest = nullptr;
      for (const Group& group : groups)
        if (group.parts.contains(c) && (!smallest || group.members.size() < smallest->members.size()))
          smallest = &group;
      if (smallest) take(*smallest);
    }
  }
  std::vector<Sample> left;
  for (std::size_t i = 0; i < samples.size(); ++i)
    if (stays[i]) left.push_back(samples[i]);
  return left;
}

}  // namespace graft
