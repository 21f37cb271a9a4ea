#include "kernels/device_memory.h"

#include <algorithm>

#include "kernels/out_of_memory.h"

namespace graft {

std::int64_t size_class(std::int64_t bytes, std::int64_t smallest) {
  if (bytes <= 4096) return std::max(smallest, (bytes + smallest - 1) / smallest * smallest);
  if (bytes >= 8 * kHugePage) return (bytes + kHugePage - 1) / kHugePage * kHugePage;
  std::int64_t step = 512;
  while (step * 8 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

DeviceMemory::~DeviceMemory() {
  for (const auto& [bytes, block] : spare_) source_.give_back(block);
  for (const auto& [block, live] : live_)
    if (live.held > 0) source_.give_back(block);
  if (arena_) source_.give_back(arena_);
}

MemoryUse DeviceMemory::use() const {
  const std::lock_guard lock(mutex_);
  return use_;
}

void DeviceMemory::reset_peak() {
  const std::lock_guard lock(mutex_);
  use_.peak_bytes = use_.live_bytes;
}

void* DeviceMemory::allocate(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (!is_in_step_ || std::this_thread::get_id() != thread_) return from_source(bytes, -1);
  const std::int64_t number = std::ssize(recorded_);
  recorded_.push_back({.bytes = bytes, .begin = number, .end = kOutlives});
  if (void* block = planned_place(bytes)) return block;
  return from_source(bytes, number);
}

/// The place of the step's latest allocation; null if it has none.
void* DeviceMemory::planned_place(std::int64_t bytes) {
  if (!follows_) return nullptr;
  const StepPlan& plan = plans_.at(kind_);
  const std::size_t i = recorded_.size() - 1;
  follows_ = i < plan.lives.size() && plan.lives[i].bytes == bytes;
  if (!follows_ || plan.offsets[i] < 0) return nullptr;
  follows_ = is_free(plan.offsets[i], plan_aligned(bytes));
  return follows_ ? place_in_arena(plan.offsets[i], bytes, std::int64_t(i)) : nullptr;
}

bool DeviceMemory::is_free(std::int64_t offset, std::int64_t bytes) const {
  const auto after = in_arena_.lower_bound(offset);
  if (after != in_arena_.end() && after->first < offset + bytes) return false;
  if (after == in_arena_.begin()) return true;
  const auto before = std::prev(after);
  return before->first + before->second <= offset;
}

void* DeviceMemory::place_in_arena(std::int64_t offset, std::int64_t bytes, std::int64_t in_step) {
  const std::int64_t size = plan_aligned(bytes);
  in_arena_.emplace(offset, size);
  return add_live(arena_ + offset, {.bytes = size, .offset = offset, .in_step = in_step});
}

void* DeviceMemory::add_live(void* block, const Live& live) {
  live_.emplace(block, live);
  use_.live_bytes += live.bytes;
  use_.peak_bytes = std::max(use_.peak_bytes, use_.live_bytes);
  return block;
}

void* DeviceMemory::from_source(std::int64_t bytes, std::int64_t in_step) {
  const std::int64_t size = source_.rounded(bytes);
  void* block = nullptr;
  std::int64_t held = size;
  // The smallest spare block that wastes at most a quarter; its real size stays with it.
  const auto spare = spare_.lower_bound(size);
  if (spare != spare_.end() && spare->first <= size + size / 4) {
    held = spare->first;
    block = spare->second;
    spare_.erase(spare);
  } else {
    block = source_.get(size);
    if (!block && !spare_.empty()) {
      give_back_spare();
      block = source_.get(size);
    }
    if (!block && give_back_arena()) block = source_.get(size);
    if (!block)
      if (void* gap = from_gap(bytes, in_step)) return gap;
    if (!block) throw OutOfMemory(source_.name(), size, use_.live_bytes, source_.left());
    use_.reserved_bytes += size;
  }
  return add_live(block, {.bytes = plan_aligned(bytes), .held = held, .in_step = in_step});
}

/// The last resort of a step that left its plan: unused parts of the arena.
void* DeviceMemory::from_gap(std::int64_t bytes, std::int64_t in_step) {
  if (in_step < 0 || follows_ || !arena_ || bytes == 0) return nullptr;
  const std::int64_t size = plan_aligned(bytes);
  std::int64_t covered = 0;
  for (const auto& [offset, length] : in_arena_) {
    if (offset - covered >= size) break;
    covered = offset + length;
  }
  return covered + size <= use_.arena_bytes ? place_in_arena(covered, bytes, in_step) : nullptr;
}

void DeviceMemory::release(void* block) noexcept {
  const std::lock_guard lock(mutex_);
  const auto it = live_.find(block);
  if (it == live_.end()) return;
  const Live live = it->second;
  live_.erase(it);
  use_.live_bytes -= live.bytes;
  if (is_in_step_ && live.in_step >= 0) recorded_[std::size_t(live.in_step)].end = std::ssize(recorded_);
  if (live.offset >= 0) {
    in_arena_.erase(live.offset);
  } else if (source_.keeps_released()) {
    spare_.emplace(live.held, block);
  } else {
    source_.give_back(block);
    use_.reserved_bytes -= live.held;
  }
}

void DeviceMemory::give_back_spare() {
  if (spare_.empty() || !source_.can_wait()) return;
  source_.wait();
  for (const auto& [bytes, block] : spare_) {
    source_.give_back(block);
    use_.reserved_bytes -= bytes;
  }
  spare_.clear();
}

/// False if there is none or something in it is live.
bool DeviceMemory::give_back_arena() {
  if (!arena_ || !in_arena_.empty() || !source_.can_wait()) return false;
  source_.wait();
  source_.give_back(arena_);
  arena_ = nullptr;
  use_.reserved_bytes -= use_.arena_bytes;
  use_.arena_bytes = 0;
  follows_ = false;
  for (auto& [kind, plan] : plans_) plan.id = 0;  // their addresses are gone
  return true;
}

/// An arena of at least this size. False if that is not possible now.
bool DeviceMemory::prepare_arena(std::int64_t bytes) {
  if (bytes <= use_.arena_bytes) return true;
  if (!in_arena_.empty()) return false;
  if (arena_ && !give_back_arena()) return false;
  give_back_spare();
  const std::int64_t size = std::max(kPlanAlignment, source_.rounded(bytes));
  arena_ = static_cast<std::byte*>(source_.get(size));
  if (!arena_) return false;
  use_.arena_bytes = size;
  use_.reserved_bytes += size;
  return true;
}

std::uint64_t DeviceMemory::begin_step(std::int64_t kind) {
  const std::lock_guard lock(mutex_);
  is_in_step_ = true;
  thread_ = std::this_thread::get_id();
  kind_ = kind;
  recorded_.clear();
  const auto plan = plans_.find(kind);
  follows_ = plan != plans_.end() && in_arena_.empty() && prepare_arena(plan->second.placed.arena_bytes);
  if (!follows_) return 0;
  if (plan->second.id == 0) plan->second.id = ++last_id_;
  return plan->second.id;
}

bool DeviceMemory::end_step() {
  const std::lock_guard lock(mutex_);
  if (!is_in_step_) return false;
  is_in_step_ = false;
  const bool replayed = recorded_.empty() && follows_;
  if (replayed) use_.peak_bytes = std::max(use_.peak_bytes, use_.live_bytes + plans_.at(kind_).placed.most_live_bytes);
  const bool followed = follows_ && recorded_.size() == plans_.at(kind_).lives.size() && in_arena_.empty();
  if (!replayed && !followed) try {
      make_plan();
    } catch (const std::bad_alloc&) {  // steps go on without
      plans_.erase(kind_);
    }
  for (auto& [block, live] : live_) live.in_step = -1;
  return replayed || followed;
}

/// Plans the recorded step. Where it differs from the plan there was only by when blocks were released, both are
/// honoured, so that releases by other threads cannot make plans alternate.
void DeviceMemory::make_plan() {
  StepPlan& plan = plans_[kind_];
  const auto same_size = [](const BlockLife& a, const BlockLife& b) { return a.bytes == b.bytes; };
  if (std::ranges::equal(plan.lives, recorded_, same_size)) {
    for (std::size_t i = 0; i < recorded_.size(); ++i) {
      const std::int64_t before = plan.lives[i].end;
      std::int64_t& end = recorded_[i].end;
      end = before == kOutlives || end == kOutlives ? kOutlives : std::max(before, end);
    }
  }
  if (plan.lives == recorded_ && !recorded_.empty()) return;  // it could not be followed, but it stands
  plan.lives = recorded_;
  const auto may_lie_in_arena = [](const BlockLife& life) { return life.end != kOutlives && life.bytes > 0; };
  std::vector<BlockLife> within;
  std::ranges::copy_if(plan.lives, std::back_inserter(within), may_lie_in_arena);
  plan.placed = plan_memory(within);
  plan.offsets.assign(plan.lives.size(), -1);
  auto offset = plan.placed.offsets.begin();
  for (std::size_t i = 0; i < plan.lives.size(); ++i)
    if (may_lie_in_arena(plan.lives[i])) plan.offsets[i] = *offset++;
  plan.id = 0;
}

std::optional<MemoryPlan> DeviceMemory::plan(std::int64_t kind) const {
  const std::lock_guard lock(mutex_);
  const auto it = plans_.find(kind);
  return it == plans_.end() ? std::nullopt : std::optional(it->second.placed);
}

}  // namespace graft
