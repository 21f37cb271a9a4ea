#include "data/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "data/files.h"
#include "data/parallel.h"
#include "kernels/core.h"

namespace graft {
namespace {

/// What is kept of an image once its pixels are gone.
struct Trace {
  std::int64_t width = 0, height = 0;
  std::string mode, digest, failure;
  bool is_grey = false;
};

std::string mode_of(const ImageInfo& info) {
  static constexpr std::array<std::string_view, 5> kChannels{"?", "grey", "grey+alpha", "RGB", "RGBA"};
  const auto channels = static_cast<std::size_t>(std::clamp(info.channels, 0, 4));
  const std::string_view name = info.format == "JPEG" && channels == 4 ? "CMYK" : kChannels[channels];
  return fmt::format("{} {} {}-bit", info.format, name, info.bits);
}

Trace trace(const Dataset& data, std::int64_t i) {
  Trace result;
  try {
    ImageInfo info;
    const Image image = data.load(i, &info);
    result.width = image.width;
    result.height = image.height;
    result.mode = mode_of(info);
    result.digest = fmt::format("{}x{}:{}", image.width, image.height, sha256_hex(image.rgb));
    result.is_grey = true;
    for (std::size_t p = 0; p < image.rgb.size(); p += 3) {
      result.is_grey &= image.rgb[p] == image.rgb[p + 1] && image.rgb[p] == image.rgb[p + 2];
    }
  } catch (const Error& error) {
    result.failure = error.what();
  }
  return result;
}

}  // namespace

DataReport inspect(const Dataset& data, int threads) {
  std::vector<Trace> traces(static_cast<std::size_t>(data.size()));
  parallel_for(data.size(), threads, [&](std::int64_t i) { traces[static_cast<std::size_t>(i)] = trace(data, i); });

  DataReport report;
  report.class_names = data.class_names();
  for (const Split split : kSplits) report.counts[static_cast<std::size_t>(split)] = data.counts(split);
  report.unreadable = data.skipped();

  std::set<std::string> groups;
  std::map<std::string, std::size_t> by_digest;  // digest -> place in `same`
  std::vector<std::vector<std::int64_t>> same;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const Trace& seen = traces[static_cast<std::size_t>(i)];
    const Sample& sample = data.samples()[static_cast<std::size_t>(i)];
    if (!sample.group.empty()) groups.insert(sample.group);
    if (!seen.failure.empty()) {
      report.unreadable.push_back({sample.path, seen.failure});
      continue;
    }
    ++report.sizes[{seen.width, seen.height}];
    ++report.modes[seen.mode];
    report.grey_images += seen.is_grey ? 1 : 0;
    const auto [at, is_first] = by_digest.try_emplace(seen.digest, same.size());
    if (is_first) same.emplace_back();
    same[at->second].push_back(i);
  }
  report.groups = static_cast<std::int64_t>(groups.size());
  for (auto& members : same) {
    if (members.size() < 2) continue;
    const Sample& first = data.samples()[static_cast<std::size_t>(members.front())];
    DuplicateSet found;
    for (const std::int64_t i : members) {
      const Sample& other = data.samples()[static_cast<std::size_t>(i)];
      found.crosses_splits |= other.split != first.split;
      found.crosses_classes |= other.label != first.label;
    }
    found.samples = std::move(members);
    report.duplicates.push_back(std::move(found));
  }
  return report;
}

}  // namespace graft
