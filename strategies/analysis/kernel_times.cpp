#include "strategies/analysis/kernel_times.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

namespace graft {
namespace {

std::uint32_t busiest_stream(const std::vector<TimedKernel>& kernels) {
  std::map<std::uint32_t, std::int64_t> counts;
  for (const TimedKernel& k : kernels) ++counts[k.stream];
  return std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; })->first;
}

/// What must be taken off the kernels' times.
double clock_offset(const std::vector<TimedKernel>& kernels, std::span<const double> call_begins) {
  const std::uint32_t stream = busiest_stream(kernels);
  double offset = std::numeric_limits<double>::infinity(), earliest = offset;
  for (const TimedKernel& k : kernels) {
    earliest = std::min(earliest, k.begin);
    if (k.stream == stream && k.call >= 0) offset = std::min(offset, k.begin - call_begins[std::size_t(k.call)]);
  }
  return offset < std::numeric_limits<double>::infinity() ? offset : earliest;
}

/// The end of the parenthesis that begins at `from`.
std::size_t end_of_parentheses(std::string_view text, std::size_t from) {
  int depth = 0;
  for (std::size_t i = from; i < text.size(); ++i) {
    depth += text[i] == '(';
    depth -= text[i] == ')';
    if (depth == 0) return i + 1;
  }
  return text.size();
}

/// The name ends where its parameters begin: the first parenthesis outside template arguments that is not part of
/// "(anonymous namespace)".
std::size_t end_of_name(std::string_view name) {
  constexpr std::string_view kAnonymous = "(anonymous namespace)";
  int depth = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
    if (name[i] != '(') continue;
    if (depth == 0 && !name.substr(i).starts_with(kAnonymous)) return i;
    i = end_of_parentheses(name, i) - 1;
  }
  return name.size();
}

}  // namespace

std::vector<TimedKernel> place_kernels(const ActivityRecords& records, std::span<const double> call_begins) {
  std::vector<TimedKernel> kernels;
  if (records.activities.empty()) return kernels;
  // Nanoseconds since the machine's start are more than a double of seconds holds to the last digit.
  const std::int64_t first = std::ranges::min_element(records.activities, {}, &DeviceActivity::begin_ns)->begin_ns;
  for (const DeviceActivity& a : records.activities) {
    const auto call = records.call_of.find(a.correlation);
    const bool is_of_call = call != records.call_of.end() && call->second >= 1 && call->second <= call_begins.size();
    kernels.push_back({.kind = a.kind,
                       .name = a.name,
                       .stream = a.stream,
                       .begin = 1e-9 * double(a.begin_ns - first),
                       .seconds = 1e-9 * double(a.end_ns - a.begin_ns),
                       .call = is_of_call ? std::int64_t(call->second) - 1 : -1});
  }
  const double offset = clock_offset(kernels, call_begins);
  std::ranges::stable_sort(kernels, {}, [](const TimedKernel& k) { return std::tuple(k.stream, k.begin); });
  const TimedKernel* before = nullptr;  // on the same stream
  for (TimedKernel& k : kernels) {
    if (before && before->stream != k.stream) before = nullptr;
    // Clocks round, and a kernel may begin while the one before it ends.
    const double free_from = before ? before->begin + before->seconds : 0;
    const double begin = std::max(k.begin - offset, free_from), end = k.begin - offset + k.seconds;
    k.begin = begin;
    k.seconds = std::max(0.0, end - begin);
    before = &k;
  }
  return kernels;
}

std::string kernel_label(const TimedKernel& kernel) {
  if (kernel.kind == DeviceActivity::Kind::copy) return "copy";
  if (kernel.kind == DeviceActivity::Kind::fill) return "fill";
  std::string_view name = kernel.name;
  if (name.starts_with("void ")) name.remove_prefix(5);
  name = name.substr(0, end_of_name(name));
  for (const std::string_view prefix : {"graft::", "gpu::", "(anonymous namespace)::"})
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  return std::string(name);
}

}  // namespace graft
