#include "data/split.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <unordered_map>
#include <utility>

#include "kernels/core.h"
#include "kernels/philox.h"

namespace graft {
namespace {

/// Samples that are held out together or not at all.
struct Candidate {
  std::uint64_t draw = 0;
  std::vector<std::size_t> members;
  std::map<std::size_t, std::int64_t> parts;  // class -> members
  bool is_held = false;
};

std::vector<Candidate> groups_of_training(const std::vector<Sample>& samples, const HoldOutSpec& spec) {
  std::vector<Candidate> groups;
  std::unordered_map<std::string, std::size_t> by_name;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].split != Split::train) continue;
    std::size_t at = groups.size();
    if (!samples[i].group.empty()) at = by_name.try_emplace(samples[i].group, at).first->second;
    if (at == groups.size()) groups.emplace_back();
    groups[at].members.push_back(i);
    for (const std::size_t c : counted_classes(samples[i], spec.label_sets, spec.class_count)) ++groups[at].parts[c];
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    groups[i].draw = Random({.seed = spec.seed,
                             .stream = RandomStream::split,
                             .epoch = static_cast<std::uint32_t>(spec.into),
                             .index = i})
                         .bits64();
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [](const Candidate& a, const Candidate& b) { return a.draw < b.draw; });
  return groups;
}

}  // namespace

std::vector<std::size_t> counted_classes(const Sample& sample, const LabelSets& sets, std::int64_t class_count) {
  const std::vector<std::int32_t> classes = sets.classes_of(sample.label);
  if (classes.empty()) return {static_cast<std::size_t>(class_count)};
  return {classes.begin(), classes.end()};
}

std::size_t counted_class_places(const LabelSets& sets, std::int64_t class_count) {
  return static_cast<std::size_t>(class_count) + (sets.is_multi_label() ? 1 : 0);
}

void hold_out(std::vector<Sample>& samples, const HoldOutSpec& spec) {
  if (!(spec.fraction >= 0.0 && spec.fraction < 1.0)) {
    throw UsageError(fmt::format("split: the {} fraction must lie in 0..1 (1 excluded), got {}", to_string(spec.into),
                                 spec.fraction));
  }
  if (spec.fraction == 0.0) return;
  const std::size_t classes = counted_class_places(spec.label_sets, spec.class_count);
  std::vector<std::int64_t> available(classes), held(classes), target(classes);
  for (const Sample& sample : samples) {
    if (sample.split != Split::train) continue;
    for (const std::size_t c : counted_classes(sample, spec.label_sets, spec.class_count)) ++available[c];
  }
  for (std::size_t c = 0; c < classes; ++c) {
    const auto share = static_cast<std::int64_t>(std::nearbyint(spec.fraction * static_cast<double>(available[c])));
    target[c] = available[c] < 2 ? 0 : std::clamp<std::int64_t>(share, 1, available[c] - 1);
  }
  std::vector<Candidate> groups = groups_of_training(samples, spec);
  constexpr int kMaxPasses = 20;
  bool has_changed = true;
  for (int pass = 0; pass < kMaxPasses && has_changed; ++pass) {
    has_changed = false;
    for (Candidate& group : groups) {
      const std::int64_t direction = group.is_held ? -1 : 1;
      double change = 0.0;
      bool empties_a_class = false;
      for (const auto& [label, count] : group.parts) {
        const auto wanted = static_cast<double>(target[label]);
        const auto before = static_cast<double>(held[label]) - wanted;
        const double after = before + static_cast<double>(direction * count);
        change += (after * after - before * before) / std::max(1.0, wanted * wanted);
        empties_a_class |= held[label] + direction * count >= available[label];
      }
      if (change >= 0.0 || empties_a_class) continue;
      for (const auto& [label, count] : group.parts) held[label] += direction * count;
      group.is_held = !group.is_held;
      has_changed = true;
    }
  }
  for (const Candidate& group : groups) {
    if (!group.is_held) continue;
    for (const std::size_t member : group.members) samples[member].split = spec.into;
  }
}

std::vector<Sample> with_copies_grouped(std::vector<Sample> samples, const Copies& copies) {
  std::vector<std::size_t> parent(samples.size());
  std::iota(parent.begin(), parent.end(), std::size_t{0});
  const auto root = [&](std::size_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  const auto join = [&](std::int64_t a, std::int64_t b) {
    const std::size_t x = root(static_cast<std::size_t>(a)), y = root(static_cast<std::size_t>(b));
    parent[std::max(x, y)] = std::min(x, y);
  };
  for (const auto& set : copies.equal) {
    for (const std::int64_t i : set) join(set.front(), i);
  }
  for (const NearPair& pair : copies.near) join(pair.a, pair.b);
  std::map<std::string, std::int64_t> first_of;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (!samples[i].group.empty()) join(first_of.try_emplace(samples[i].group, i).first->second, std::int64_t(i));
  }
  std::vector<std::int64_t> members(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) ++members[root(i)];
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i].group = members[root(i)] > 1 ? std::to_string(root(i)) : std::string();
  }
  return samples;
}

}  // namespace graft
