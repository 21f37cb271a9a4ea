#include "data/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace graft {
namespace {

std::string mode_of(const ImageInfo& info) {
  static constexpr std::array<std::string_view, 5> kChannels{"?", "grey", "grey+alpha", "RGB", "RGBA"};
  const auto channels = static_cast<std::size_t>(std::clamp(info.channels, 0, 4));
  const std::string_view name = info.format == "JPEG" && channels == 4 ? "CMYK" : kChannels[channels];
  return fmt::format("{} {} {}-bit", info.format, name, info.bits);
}

}  // namespace

DataReport inspect(const Dataset& data, int threads, const std::optional<IntensityWindow>& window) {
  Copies read;
  if (data.copies() == nullptr) {
    read = find_copies(
        data.size(), [&](std::int64_t i, ImageInfo* info) { return data.load(i, info); }, threads);
  }
  const Copies& copies = data.copies() != nullptr ? *data.copies() : read;
  DataReport report;
  report.class_names = data.class_names();
  for (const Split split : kSplits) report.counts[static_cast<std::size_t>(split)] = data.counts(split);
  report.unreadable = data.skipped();

  std::set<std::string> groups;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const ImageTrace& seen = copies.traces[static_cast<std::size_t>(i)];
    const Sample& sample = data.samples()[static_cast<std::size_t>(i)];
    if (!sample.group.empty()) groups.insert(sample.group);
    if (!seen.failure.empty()) {
      report.unreadable.push_back({sample.path, seen.failure});
      continue;
    }
    ++report.sizes[{seen.width, seen.height}];
    ++report.modes[mode_of(seen.info)];
    report.grey_images += seen.is_grey ? 1 : 0;
  }
  report.groups = static_cast<std::int64_t>(groups.size());
  report.intensity_advice = intensity_advice(copies, window);
  report.near_pairs = std::ssize(copies.near);
  report.leaks = find_leaks(data.samples(), copies);
  for (const auto& members : copies.equal) {
    const Sample& first = data.samples()[static_cast<std::size_t>(members.front())];
    DuplicateSet found;
    for (const std::int64_t i : members) {
      const Sample& other = data.samples()[static_cast<std::size_t>(i)];
      found.crosses_splits |= other.split != first.split;
      found.crosses_classes |= other.label != first.label;
    }
    found.samples = members;
    report.duplicates.push_back(std::move(found));
  }
  return report;
}

}  // namespace graft
