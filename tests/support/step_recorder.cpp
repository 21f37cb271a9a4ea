#include "tests/support/step_recorder.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace graft {
namespace {

constexpr std::size_t kMostFaults = 20;

/// Calls `use(begin, end)` with the bytes of each row, counted from `origin`.
template <class Use>
void for_each_row(const Region& region, const std::byte* origin, const Use& use) {
  const bool is_one_piece = region.row_stride == region.row_bytes;
  const std::int64_t first = region.data - origin, rows = is_one_piece ? 1 : region.rows;
  const std::int64_t bytes = is_one_piece ? region.bytes() : region.row_bytes;
  for (std::int64_t row = 0; row < rows; ++row)
    use(first + row * region.row_stride, first + row * region.row_stride + bytes);
}

}  // namespace

void StepRecorder::Ranges::add(std::int64_t begin, std::int64_t end) {
  auto next = ranges_.upper_bound(begin);
  if (next != ranges_.begin() && std::prev(next)->second >= begin) {
    --next;
    begin = next->first;
    end = std::max(end, next->second);
    next = ranges_.erase(next);
  }
  while (next != ranges_.end() && next->first <= end) {
    end = std::max(end, next->second);
    next = ranges_.erase(next);
  }
  ranges_.emplace(begin, end);
}

void StepRecorder::Ranges::remove(std::int64_t begin, std::int64_t end) {
  Ranges kept;
  for (const auto& [b, e] : ranges_) {
    if (b < std::min(e, begin)) kept.add(b, std::min(e, begin));
    if (std::max(b, end) < e) kept.add(std::max(b, end), e);
  }
  *this = std::move(kept);
}

bool StepRecorder::Ranges::covers(std::int64_t begin, std::int64_t end) const {
  const auto next = ranges_.upper_bound(begin);
  return begin == end || (next != ranges_.begin() && std::prev(next)->second >= end);
}

std::string StepRecorder::where() const {
  return ranges_.empty() ? "" : " (in " + fmt::format("{}", fmt::join(ranges_, ".")) + ")";
}

void StepRecorder::fault(const DeviceCall& call, const std::string& what) {
  if (faults_.size() < kMostFaults) faults_.push_back(fmt::format("{} {}{}", call.op, what, where()));
}

StepRecorder::Block* StepRecorder::block_of(const DeviceCall& call, const Region& region, const char* verb,
                                            const std::byte** begin) {
  auto after = blocks_.upper_bound(region.data);
  if (after != blocks_.begin()) {
    auto& [data, block] = *std::prev(after);
    if (region.data < data + block.bytes) {
      if (region.end() > data + block.bytes) return fault(call, fmt::format("{} beyond its block", verb)), nullptr;
      *begin = data;
      return &block;
    }
  }
  auto old = released_.upper_bound(region.data);
  const bool was_there = old != released_.begin() && region.data < std::prev(old)->first + std::prev(old)->second;
  fault(call, fmt::format("{} {} memory", verb, was_there ? "released" : "unknown"));
  return nullptr;
}

void StepRecorder::call(const DeviceCall& call, const std::function<void()>& run) {
  if (is_in_step_) {
    const std::string name(call.op);
    // A map's detail begins with the functor's name and ends with the shape.
    ++calls_[name == "map" ? "map " + call.detail.substr(0, call.detail.find(" [")) : name];
    if (call.waits) waits_.push_back(name + where());
  }
  const std::byte* begin = nullptr;
  for (const Region& region : call.reads)
    if (Block* block = block_of(call, region, "reads", &begin)) {
      bool is_written = true;
      for_each_row(region, begin,
                   [&](std::int64_t b, std::int64_t e) { is_written = is_written && block->written.covers(b, e); });
      if (!is_written) fault(call, "reads what was never written");
    }
  running_ = &call;
  run();
  running_ = nullptr;
  for (const Region& region : call.writes)
    if (Block* block = block_of(call, region, "writes", &begin))
      for_each_row(region, begin, [&](std::int64_t b, std::int64_t e) { block->written.add(b, e); });
  for (const Region& region : call.refreshes) block_of(call, region, "writes", &begin);
}

void* StepRecorder::allocate(std::int64_t bytes, Backend& device) {
  void* block = device.allocate(bytes);
  const auto* data = static_cast<const std::byte*>(block);
  auto old = released_.lower_bound(data);
  if (old != released_.begin() && std::prev(old)->first + std::prev(old)->second > data) --old;
  while (old != released_.end() && old->first < data + bytes) old = released_.erase(old);
  blocks_[data] = {.bytes = bytes, .is_of_step = is_in_step_, .written = {}};
  return block;
}

void StepRecorder::release(void* block, Backend& device) noexcept {
  const auto it = blocks_.find(static_cast<const std::byte*>(block));
  if (it != blocks_.end()) {
    const auto lies_in = [&](const Region& r) { return r.data >= it->first && r.data < it->first + it->second.bytes; };
    if (running_ && std::ranges::any_of(std::array{&running_->reads, &running_->writes, &running_->refreshes},
                                        [&](const auto* regions) { return std::ranges::any_of(*regions, lies_in); }))
      fault(*running_, "uses memory that is released meanwhile");
    released_[it->first] = it->second.bytes;
    blocks_.erase(it);
  }
  device.release(block);
}

std::uint64_t StepRecorder::begin_step(std::int64_t kind, Backend& device) {
  is_in_step_ = true;
  calls_.clear();
  waits_.clear();
  for (auto& [data, block] : blocks_) block.is_of_step = false;
  return device.begin_step(kind);
}

bool StepRecorder::end_step(Backend& device) {
  is_in_step_ = false;
  return device.end_step();
}

void StepRecorder::forget(const ConstView& view) {
  const Region region = region_of(view);
  for (auto& [data, block] : blocks_)
    if (region.data >= data && region.data < data + block.bytes)
      for_each_row(region, data, [&](std::int64_t b, std::int64_t e) { block.written.remove(b, e); });
}

int StepRecorder::survivors() const {
  return int(std::ranges::count_if(blocks_, [](const auto& entry) { return entry.second.is_of_step; }));
}

std::string difference(const std::map<std::string, int>& calls, const std::map<std::string, int>& expected) {
  std::map<std::string, int> names = calls;
  names.insert(expected.begin(), expected.end());
  const auto count = [](const std::map<std::string, int>& from, const std::string& name) {
    const auto it = from.find(name);
    return it == from.end() ? 0 : it->second;
  };
  std::string text;
  for (const auto& [name, unused] : names)
    if (count(calls, name) != count(expected, name))
      text += fmt::format("{}: {} calls, not {}\n", name, count(calls, name), count(expected, name));
  return text;
}

}  // namespace graft
