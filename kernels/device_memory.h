// A device's memory: blocks are kept for reuse after their release, and the blocks of a repeated step lie at planned
// places of one arena. Devices differ only in where memory comes from (MemorySource). The plan itself: memory_plan.h.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/backend.h"
#include "kernels/memory_plan.h"

namespace graft {

/// Where a device's memory comes from and goes back to.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  /// A block aligned to 64 bytes, or to kPlanAlignment where planned addresses must be; null if there is no more.
  virtual void* get(std::int64_t bytes) = 0;
  /// It may be kept for the next block that get() is asked for.
  virtual void give_back(void* block) noexcept = 0;
  /// Called before blocks are given back: nothing that the device still does may use them.
  virtual void wait() {}
  /// False while a step is captured: then nothing is given back.
  virtual bool can_wait() const { return true; }
  /// The size to take for a block of `bytes`; sizes are rounded so that released blocks fit others.
  virtual std::int64_t rounded(std::int64_t bytes) const { return bytes; }
  /// False: a released block goes back at once.
  virtual bool keeps_released() const { return true; }
  /// For the message when there is no more: "cuda:0", and what is left: "310 MiB of 80 GiB are free".
  virtual std::string name() const = 0;
  virtual std::string left() const { return {}; }
};

/// The size of the block that serves `bytes`: multiples of `smallest` up to 4 KiB, then eight steps per power of two,
/// then whole pages of 2 MiB. Released blocks so fit others.
std::int64_t size_class(std::int64_t bytes, std::int64_t smallest);
inline constexpr std::int64_t kCpuSmallestBlock = 64, kCudaSmallestBlock = 512;  // bytes
inline constexpr std::int64_t kHugePage = 2 << 20;  // bytes; what both kinds of device give memory by

/// Allocation by size classes, and by plan within steps. A step's first execution is recorded; the next of its kind
/// takes its addresses from a plan, so that equal steps have equal addresses and need little more than the bytes that
/// live together. A block may lie in the arena only if it was released within the recorded step; a planned place that
/// is still occupied is never handed out. From the first allocation of another size on, a step is served as if it
/// had no plan, and is planned anew afterwards.
/// Thread-safe. The steps are those of the thread that begins them; other threads' blocks never lie in the arena.
class DeviceMemory {
 public:
  /// The source must outlive the object.
  explicit DeviceMemory(MemorySource& source) : source_(source) {}
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory();

  /// Errors (OutOfMemory): the source has no more, after all that is spare was given back.
  void* allocate(std::int64_t bytes);
  void release(void* block) noexcept;
  MemoryUse use() const;
  void reset_peak();

  /// As Backend::begin_step and end_step.
  std::uint64_t begin_step(std::int64_t kind);
  bool end_step();

  /// What the last step of this kind asked for, for reports; empty if there was none.
  std::optional<MemoryPlan> plan(std::int64_t kind) const;

 private:
  struct Live {
    std::int64_t bytes = 0;     // asked for, aligned
    std::int64_t held = 0;      // of the source; 0: in the arena
    std::int64_t offset = -1;   // in the arena
    std::int64_t in_step = -1;  // its number among the present step's allocations
  };
  struct StepPlan {
    std::vector<BlockLife> lives;       // by allocation; `end` is kOutlives for what was not released within the step
    MemoryPlan placed;                  // of those released within it
    std::vector<std::int64_t> offsets;  // -1: not in the arena
    std::uint64_t id = 0;
  };
  static constexpr std::int64_t kOutlives = -1;

  void* planned_place(std::int64_t bytes);
  void* place_in_arena(std::int64_t offset, std::int64_t bytes, std::int64_t in_step);
  bool is_free(std::int64_t offset, std::int64_t bytes) const;
  void* from_source(std::int64_t bytes, std::int64_t in_step);
  void* from_gap(std::int64_t bytes, std::int64_t in_step);
  void* add_live(void* block, const Live& live);
  void give_back_spare();
  bool give_back_arena();
  bool prepare_arena(std::int64_t bytes);
  void make_plan();

  MemorySource& source_;
  mutable std::mutex mutex_;
  std::map<void*, Live> live_;
  std::multimap<std::int64_t, void*> spare_;  // by size
  MemoryUse use_;

  std::byte* arena_ = nullptr;
  std::map<std::int64_t, std::int64_t> in_arena_;  // offset -> bytes of its live blocks
  std::map<std::int64_t, StepPlan> plans_;         // by kind
  std::uint64_t last_id_ = 0;

  // The present step.
  bool is_in_step_ = false;
  std::thread::id thread_;
  std::int64_t kind_ = 0;
  bool follows_ = false;
  std::vector<BlockLife> recorded_;
};

}  // namespace graft
