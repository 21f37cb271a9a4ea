#include "data/leakage.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "data/csv.h"
#include "kernels/core.h"

namespace graft {
namespace {

using Json = nlohmann::ordered_json;
using Members = std::vector<std::int64_t>;  // sample numbers

class Finder {
 public:
  Finder(std::span<const Sample> samples, const Copies& copies) : samples_(samples), copies_(copies) {
    report_.images = std::ssize(samples);
    for (const Sample& sample : samples) report_.held_out_images += sample.split != Split::train ? 1 : 0;
  }

  LeakageReport find() {
    find_duplicates();
    find_near_duplicates();
    find_groups();
    return std::move(report_);
  }

 private:
  Split split(std::int64_t i) const { return samples_[static_cast<std::size_t>(i)].split; }
  LeakCount& count(LeakKind kind) { return report_.counts[static_cast<std::size_t>(kind)]; }

  std::array<std::int64_t, 3> by_split(const Members& images) const {
    std::array<std::int64_t, 3> counts{};
    for (const std::int64_t i : images) ++counts[static_cast<std::size_t>(split(i))];
    return counts;
  }

  /// Marks those of `images` that lie behind the first split of `others`.
  void mark(const Members& images, const std::array<std::int64_t, 3>& others, std::vector<bool>& is_leaked) const {
    const auto first = std::find_if(others.begin(), others.end(), [](std::int64_t n) { return n > 0; });
    for (const std::int64_t i : images) {
      if (static_cast<std::ptrdiff_t>(split(i)) > first - others.begin()) is_leaked[static_cast<std::size_t>(i)] = true;
    }
  }

  /// Counts all pairs of an image of `a` and one of `b` in another split; lists them while there is room. Equal images
  /// are one set, given twice.
  void add(const Members& a, const Members& b, const NearPair* near, std::vector<bool>& is_leaked) {
    const LeakKind kind = near == nullptr ? LeakKind::duplicates : LeakKind::near_duplicates;
    const auto count_a = by_split(a), count_b = by_split(b);
    std::int64_t pairs = 0;
    for (std::size_t s = 0; s < 3; ++s) {
      for (std::size_t t = 0; t < 3; ++t) pairs += s == t ? 0 : count_a[s] * count_b[t];
    }
    if (pairs == 0) return;
    count(kind).pairs += near == nullptr ? pairs / 2 : pairs;
    mark(a, count_b, is_leaked);
    mark(b, count_a, is_leaked);
    std::vector<LeakPair>& list = near == nullptr ? report_.duplicates : report_.near_duplicates;
    for (const std::int64_t i : a) {
      for (const std::int64_t j : b) {
        if (std::ssize(list) >= LeakageReport::kMaxPairs) return;
        if (split(i) == split(j) || (near == nullptr && j < i)) continue;
        list.push_back(pair_of(i, j, near));
      }
    }
  }

  LeakPair pair_of(std::int64_t i, std::int64_t j, const NearPair* near) const {
    const std::int64_t first = split(i) < split(j) ? i : j, second = first == i ? j : i;
    LeakPair pair{.a = samples_[static_cast<std::size_t>(first)].path,
                  .b = samples_[static_cast<std::size_t>(second)].path,
                  .split_a = split(first),
                  .split_b = split(second)};
    if (near != nullptr) pair.distance = near->distance, pair.similarity = near->similarity;
    return pair;
  }

  void find_duplicates() {
    std::vector<bool> is_leaked(samples_.size());
    for (const Members& set : copies_.equal) add(set, set, nullptr, is_leaked);
    count(LeakKind::duplicates).images = std::count(is_leaked.begin(), is_leaked.end(), true);
  }

  void find_near_duplicates() {
    std::map<std::int64_t, const Members*> set_of;  // by its first member, which stands for all in `near`
    for (const Members& set : copies_.equal) set_of[set.front()] = &set;
    const auto members = [&](std::int64_t i) {
      const auto found = set_of.find(i);
      return found == set_of.end() ? Members{i} : *found->second;
    };
    std::vector<NearPair> pairs = copies_.near;
    std::stable_sort(pairs.begin(), pairs.end(),
                     [](const NearPair& x, const NearPair& y) { return x.similarity > y.similarity; });
    std::vector<bool> is_leaked(samples_.size());
    for (const NearPair& pair : pairs) add(members(pair.a), members(pair.b), &pair, is_leaked);
    count(LeakKind::near_duplicates).images = std::count(is_leaked.begin(), is_leaked.end(), true);
  }

  void find_groups() {
    std::map<std::string, std::array<std::int64_t, 3>> images_of;  // by split
    for (const Sample& sample : samples_) {
      if (!sample.group.empty()) ++images_of[sample.group][static_cast<std::size_t>(sample.split)];
    }
    for (const auto& [group, images] : images_of) {
      const auto first = std::find_if(images.begin(), images.end(), [](std::int64_t n) { return n > 0; });
      const std::int64_t later = std::accumulate(first + 1, images.end(), std::int64_t{0});
      if (later == 0) continue;
      report_.groups.push_back(group);
      ++count(LeakKind::groups).pairs;
      count(LeakKind::groups).images += later;
    }
  }

  std::span<const Sample> samples_;
  const Copies& copies_;
  LeakageReport report_;
};

std::string counted(std::int64_t n, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", n, n == 1 ? one : many);
}

std::string pair_text(const LeakPair& pair, LeakKind kind) {
  const std::string both = fmt::format("{} ({}) {} {} ({})", pair.a, to_string(pair.split_a),
                                       kind == LeakKind::duplicates ? "=" : "~", pair.b, to_string(pair.split_b));
  if (kind == LeakKind::duplicates) return both;
  return fmt::format("{}, similarity {:.2f}, {} of 64 bits differ", both, pair.similarity, pair.distance);
}

Json to_json_value(const LeakPair& pair) {
  return {{"a", pair.a},
          {"split_a", to_string(pair.split_a)},
          {"b", pair.b},
          {"split_b", to_string(pair.split_b)},
          {"distance", pair.distance},
          {"similarity", pair.similarity}};
}

Split split_named(const std::string& name) {
  for (const Split split : kSplits) {
    if (to_string(split) == name) return split;
  }
  throw Error(fmt::format("leaks: unknown split '{}'", name));
}

std::vector<LeakPair> pairs_from(const Json& list) {
  std::vector<LeakPair> pairs;
  for (const Json& pair : list) {
    pairs.push_back({.a = pair.at("a").get<std::string>(),
                     .b = pair.at("b").get<std::string>(),
                     .split_a = split_named(pair.at("split_a").get<std::string>()),
                     .split_b = split_named(pair.at("split_b").get<std::string>()),
                     .distance = pair.at("distance").get<int>(),
                     .similarity = pair.at("similarity").get<double>()});
  }
  return pairs;
}

}  // namespace

std::string_view to_string(LeakKind kind) {
  switch (kind) {
    case LeakKind::duplicates:
      return "duplicates";
    case LeakKind::near_duplicates:
      return "near-duplicates";
    case LeakKind::groups:
      return "groups";
  }
  throw Error("leaks: unknown kind");
}

std::vector<LeakKind> parse_leak_kinds(std::string_view text, std::string_view setting) {
  std::array<bool, 3> is_named{};
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    std::string_view name = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    bool is_known = name.empty() || name == "all";
    for (const LeakKind kind : kLeakKinds) {
      if (name != "all" && name != to_string(kind)) continue;
      is_named[static_cast<std::size_t>(kind)] = is_known = true;
    }
    if (!is_known) {
      throw UsageError(fmt::format("{}: unknown kind of leak '{}'; expected duplicates, near-duplicates, groups or all",
                                   setting, name));
    }
  }
  std::vector<LeakKind> kinds;
  for (const LeakKind kind : kLeakKinds) {
    if (is_named[static_cast<std::size_t>(kind)]) kinds.push_back(kind);
  }
  return kinds;
}

LeakageReport find_leaks(std::span<const Sample> samples, const Copies& copies) {
  return Finder(samples, copies).find();
}

LeakageReport find_leaks(const Dataset& data, int threads) {
  if (data.copies() != nullptr) return find_leaks(data.samples(), *data.copies());
  return find_leaks(data.samples(),
                    find_copies(
                        data.size(), [&](std::int64_t i, ImageInfo* info) { return data.load(i, info); }, threads));
}

std::string count_text(const LeakageReport& report, LeakKind kind) {
  const LeakCount& count = report.count(kind);
  const std::string held_out = fmt::format("{} of {} held-out images", count.images, report.held_out_images);
  switch (kind) {
    case LeakKind::duplicates:
      return fmt::format("{} of equal images in different splits ({})", counted(count.pairs, "pair", "pairs"),
                         held_out);
    case LeakKind::near_duplicates:
      return fmt::format("{} of nearly equal images in different splits ({})", counted(count.pairs, "pair", "pairs"),
                         held_out);
    case LeakKind::groups:
      return fmt::format("{} in more than one split ({})", counted(count.pairs, "group", "groups"), held_out);
  }
  throw Error("leaks: unknown kind");
}

std::string leaks_text(const LeakageReport& report, const std::vector<LeakKind>& allowed, std::int64_t pairs) {
  std::string text;
  for (const LeakKind kind : kLeakKinds) {
    if (!report.has(kind) || std::find(allowed.begin(), allowed.end(), kind) != allowed.end()) continue;
    text += fmt::format("{}: {}\n", to_string(kind), count_text(report, kind));
    const std::vector<LeakPair>& list = kind == LeakKind::duplicates ? report.duplicates : report.near_duplicates;
    const std::int64_t listed = kind == LeakKind::groups ? std::ssize(report.groups) : std::ssize(list);
    for (std::int64_t i = 0; i < std::min(listed, pairs); ++i) {
      const auto at = static_cast<std::size_t>(i);
      text += fmt::format("  {}\n", kind == LeakKind::groups ? report.groups[at] : pair_text(list[at], kind));
    }
    if (report.count(kind).pairs > pairs) text += fmt::format("  and {} more\n", report.count(kind).pairs - pairs);
  }
  return text;
}

std::string leaks_csv(const LeakageReport& report) {
  std::string csv = csv_line({"kind", "a", "split_a", "b", "split_b", "distance", "similarity"});
  for (const LeakKind kind : {LeakKind::duplicates, LeakKind::near_duplicates}) {
    for (const LeakPair& pair : kind == LeakKind::duplicates ? report.duplicates : report.near_duplicates) {
      csv += csv_line({std::string(to_string(kind)), pair.a, std::string(to_string(pair.split_a)), pair.b,
                       std::string(to_string(pair.split_b)), std::to_string(pair.distance),
                       fmt::format("{:.4f}", pair.similarity)});
    }
  }
  for (const std::string& group : report.groups) csv += csv_line({"groups", group, "", "", "", "", ""});
  return csv;
}

std::string to_json(const LeakageReport& report) {
  Json all{{"images", report.images}, {"held_out_images", report.held_out_images}};
  for (const LeakKind kind : kLeakKinds) {
    const LeakCount& count = report.count(kind);
    Json& part = all[std::string(to_string(kind))] = {{"pairs", count.pairs}, {"images", count.images}};
    if (kind == LeakKind::groups) {
      part["list"] = report.groups;
      continue;
    }
    part["list"] = Json::array();
    for (const LeakPair& pair : kind == LeakKind::duplicates ? report.duplicates : report.near_duplicates) {
      part["list"].push_back(to_json_value(pair));
    }
  }
  return all.dump(-1, ' ', false, Json::error_handler_t::replace);
}

LeakageReport leakage_from_json(std::string_view json) {
  try {
    const Json all = Json::parse(json);
    LeakageReport report;
    report.images = all.at("images").get<std::int64_t>();
    report.held_out_images = all.at("held_out_images").get<std::int64_t>();
    for (const LeakKind kind : kLeakKinds) {
      const Json& part = all.at(std::string(to_string(kind)));
      report.counts[static_cast<std::size_t>(kind)] = {.pairs = part.at("pairs").get<std::int64_t>(),
                                                       .images = part.at("images").get<std::int64_t>()};
      if (kind == LeakKind::groups) {
        report.groups = part.at("list").get<std::vector<std::string>>();
      } else {
        (kind == LeakKind::duplicates ? report.duplicates : report.near_duplicates) = pairs_from(part.at("list"));
      }
    }
    return report;
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("leaks: not a report of leaks in JSON: {}", error.what()));
  }
}

}  // namespace graft
