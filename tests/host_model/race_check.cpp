// The race check: receives the calls that -fsanitize=thread puts before every access to memory (its library is not
// linked) and knows who touched each byte since the last barrier. Kernels alone are compiled so. Reported are
//   - two threads of a block on one byte, one of them writing, with no barrier (or __syncwarp of their warp) between;
//   - shared memory that is read and that no thread of the block has written;
//   - two blocks on one byte of global memory, one of them writing, unless the first published it, by __threadfence and
//     then an atomic, and the second took notice, by an atomic and then __threadfence (or a load that passes by the
//     first-level cache: __ldcg, volatile).
// Atomics do not race with each other. Which atomic answers which is not checked: any two will do.
#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

#include "tests/host_model/fiber.h"
#include "tests/host_model/scheduler.h"
#include "tests/host_model/symbols.h"
#include "tests/host_model/watch.h"

namespace graft::host_model {
namespace {

/// One access to a byte. Epochs count the barriers of all blocks that ran; 0: never.
struct Access {
  std::uint32_t epoch = 0;
  std::uint32_t block = 0;  // in the order in which this launch's blocks run
  std::uint16_t thread = 0;
  std::uint16_t warp_syncs = 0;  // of its thread, before
  std::uint16_t fences = 0;      // of its thread, before
  bool is_atomic = false;
};

struct Byte {
  Access write, read;
  bool has_many_readers = false;  // unordered ones since the last barrier
};

constexpr std::size_t kPageBytes = 4096;
struct Page {
  Byte bytes[kPageBytes];
};

std::unordered_map<std::uintptr_t, Page> pages;
std::uintptr_t last_page_number = ~std::uintptr_t{0};
Page* last_page = nullptr;

/// What a block has made visible to others: by its thread t, accesses of earlier epochs than `before`, and t's own with
/// fewer than `fences[t]` fences before.
struct Visible {
  std::uint32_t before = 0;
  std::vector<std::uint16_t> fences;
};

std::uint32_t epoch = 0, first_epoch_of_launch = 0, first_epoch_of_block = 0;
std::uint32_t block = 0;
std::vector<Visible> published;  // by the blocks of this launch

/// How far a thread has come in taking notice of other blocks.
enum class Notice : std::uint8_t { none, atomic, fenced };

struct ThreadState {
  std::uint16_t warp_syncs = 0, fences = 0;
  std::uint32_t fence_epoch = 0;  // of its last fence
  Notice notice = Notice::none;
};
ThreadState states[kMostThreads];
int thread_count = 0;
Visible fenced_before_barrier;  // what fences before the last barrier cover
Notice notice_before_barrier = Notice::none;
bool has_found = false;

Byte& byte_at(std::uintptr_t address) {
  if (address / kPageBytes != last_page_number) {
    last_page_number = address / kPageBytes;
    last_page = &pages[last_page_number];
  }
  return last_page->bytes[address % kPageBytes];
}

/// The __shared__ array that holds an address, if any.
const SharedArray* shared_array(std::uintptr_t address) {
  static const auto span = [] {
    std::pair<std::uintptr_t, std::uintptr_t> s{~std::uintptr_t{0}, 0};
    for (const SharedArray& a : shared_arrays()) {
      const auto begin = reinterpret_cast<std::uintptr_t>(a.data);
      s = {std::min(s.first, begin), std::max(s.second, begin + a.size)};
    }
    return s;
  }();
  if (address < span.first || address >= span.second) return nullptr;
  for (const SharedArray& a : shared_arrays())
    if (address - reinterpret_cast<std::uintptr_t>(a.data) < a.size) return &a;
  return nullptr;
}

struct Found {
  FaultKind kind;
  const char* what;
  std::uintptr_t address;
  std::optional<Access> other;
  const void* return_address;
};

[[noreturn]] void report(const Found& found) {
  has_found = true;
  fail(found.kind, [&] {
    const SharedArray* array = shared_array(found.address);
    const std::string where =
        array ? fmt::format("byte {} of {}", found.address - reinterpret_cast<std::uintptr_t>(array->data), array->name)
              : fmt::format("global memory {:#x}", found.address);
    std::string text = fmt::format("{} at {}: {}", found.what, place_of(found.return_address), where);
    if (found.other && found.other->epoch >= first_epoch_of_block)
      text += fmt::format(", against thread number {} of the block", found.other->thread);
    else if (found.other)
      text += ", against another block";
    return text;
  });
}

/// Two accesses of one block and epoch: by one thread, or with a __syncwarp of their common warp between.
bool is_ordered(const Access& before, int thread) {
  return before.thread == thread ||
         (before.thread / warpSize == thread / warpSize && states[before.thread].warp_syncs != before.warp_syncs);
}

bool is_published(const Access& a) {
  const Visible& v = published[a.block];
  return a.epoch < v.before || (a.thread < v.fences.size() && a.fences < v.fences[a.thread]);
}

bool takes_notice(int thread, bool is_coherent) {
  const Notice notice = std::max(states[thread].notice, notice_before_barrier);
  return notice == Notice::fenced || (notice == Notice::atomic && is_coherent);
}

struct Kind {
  bool writes = false, is_atomic = false, is_coherent = false;
};

bool is_of_this_block(const Access& a) { return a.epoch >= first_epoch_of_block; }
bool is_of_this_launch(const Access& a) { return a.epoch >= first_epoch_of_launch; }

void check_against_other_blocks(const Byte& byte, std::uintptr_t address, int thread, const Kind& kind,
                                const void* return_address) {
  const auto is_unordered = [&](const Access& a) {
    return is_of_this_launch(a) && !is_of_this_block(a) && !(is_published(a) && takes_notice(thread, kind.is_coherent));
  };
  const Access& write = byte.write;
  if (is_unordered(write) && !(kind.is_atomic && write.is_atomic)) {
    if (kind.writes && !write.is_atomic) report({FaultKind::race, "two blocks write", address, write, return_address});
    const bool tried = !published[write.block].fences.empty();
    if (!kind.writes && tried)
      report({FaultKind::unpublished,
              "another block's result is read; a __threadfence is missing before its atomic or "
              "after this block's",
              address, write, return_address});
    if (!kind.writes) report({FaultKind::race, "a block reads what another writes", address, write, return_address});
  }
  if (kind.writes && !kind.is_atomic && is_unordered(byte.read))
    report({FaultKind::race, "a block writes what another reads", address, byte.read, return_address});
}

void check(const Byte& byte, std::uintptr_t address, int thread, const Kind& kind, const void* return_address) {
  const Access &write = byte.write, &read = byte.read;
  const bool both_atomic = kind.is_atomic && write.is_atomic;
  if (write.epoch == epoch && !both_atomic && !is_ordered(write, thread))
    report({FaultKind::race, kind.writes ? "race, write after write" : "race, read after write", address, write,
            return_address});
  if (kind.writes && !kind.is_atomic && read.epoch == epoch && (byte.has_many_readers || !is_ordered(read, thread)))
    report({FaultKind::race, "race, write after read", address, read, return_address});
  if (shared_array(address)) {
    if ((!kind.writes || kind.is_atomic) && !is_of_this_block(write))
      report({FaultKind::unwritten, "shared memory is read before it is written", address, {}, return_address});
  } else {
    check_against_other_blocks(byte, address, thread, kind, return_address);
  }
}

void access(const void* data, std::size_t size, const Kind& kind, const void* return_address) {
  const int thread = current_thread();
  if (thread < 0 || has_found || current_fiber().holds(data)) return;
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  const ThreadState& state = states[thread];
  const Access now{epoch, block, std::uint16_t(thread), state.warp_syncs, state.fences, kind.is_atomic};
  for (std::uintptr_t address = begin; address < begin + size; ++address) {
    Byte& byte = byte_at(address);
    check(byte, address, thread, kind, return_address);
    if (kind.writes) {
      const bool keeps_plain = kind.is_atomic && byte.write.epoch == epoch && !byte.write.is_atomic;
      if (!keeps_plain) byte.write = now;  // a plain write conflicts with more than an atomic one
    } else {
      byte.has_many_readers = byte.read.epoch == epoch && (byte.has_many_readers || !is_ordered(byte.read, thread));
      byte.read = now;
    }
  }
}

/// What the fences of one thread cover, added to what is visible already.
void cover(Visible& visible, int thread) {
  const ThreadState& s = states[thread];
  visible.before = std::max(visible.before, s.fence_epoch);
  if (visible.fences.empty()) visible.fences.resize(std::size_t(thread_count));
  visible.fences[std::size_t(thread)] = std::max(visible.fences[std::size_t(thread)], s.fences);
}

}  // namespace

bool checks_races() { return true; }

void watch_launch(std::uint64_t blocks) {
  pages.clear();
  last_page_number = ~std::uintptr_t{0};
  published.assign(blocks, {});
  first_epoch_of_launch = epoch + 1;
  has_found = false;
}

void watch_block(std::uint64_t number, int threads) {
  block = std::uint32_t(number);
  thread_count = threads;
  first_epoch_of_block = ++epoch;
  std::fill_n(states, threads, ThreadState{});
  fenced_before_barrier = {};
  notice_before_barrier = Notice::none;
}

void watch_barrier() {
  ++epoch;
  for (int t = 0; t < thread_count; ++t) {
    if (states[t].fences > 0) cover(fenced_before_barrier, t);
    notice_before_barrier = std::max(notice_before_barrier, states[t].notice);
  }
}

void watch_warp_sync(int warp, std::uint32_t mask) {
  for (; mask != 0; mask &= mask - 1) ++states[warp * warpSize + std::countr_zero(mask)].warp_syncs;
}

void watch_fence() {
  const int thread = current_thread();
  ThreadState& s = states[thread];
  ++s.fences;
  s.fence_epoch = epoch;
  if (std::max(s.notice, notice_before_barrier) != Notice::none) s.notice = Notice::fenced;
}

void watch_atomic(const void* address, std::size_t bytes, const void* return_address) {
  access(address, bytes, {.writes = true, .is_atomic = true}, return_address);
  const int thread = current_thread();
  Visible& visible = published[block];
  visible.before = std::max(visible.before, fenced_before_barrier.before);
  if (visible.fences.empty()) visible.fences.resize(std::size_t(thread_count));
  for (std::size_t t = 0; t < fenced_before_barrier.fences.size(); ++t)
    visible.fences[t] = std::max(visible.fences[t], fenced_before_barrier.fences[t]);
  if (states[thread].fences > 0) cover(visible, thread);
  states[thread].notice = std::max(states[thread].notice, Notice::atomic);
}

void watch_coherent_read(const void* address, std::size_t bytes, const void* return_address) {
  access(address, bytes, {.is_coherent = true}, return_address);
}

}  // namespace graft::host_model

// What the compiler calls; the names are its own.
#define GRAFT_ACCESS(name, size, ...) \
  void __tsan_##name(void* p) { graft::host_model::access(p, size, __VA_ARGS__, __builtin_return_address(0)); }
#define GRAFT_ACCESSES(size)                                               \
  GRAFT_ACCESS(read##size, size, {})                                       \
  GRAFT_ACCESS(unaligned_read##size, size, {})                             \
  GRAFT_ACCESS(volatile_read##size, size, {.is_coherent = true})           \
  GRAFT_ACCESS(unaligned_volatile_read##size, size, {.is_coherent = true}) \
  GRAFT_ACCESS(write##size, size, {.writes = true})                        \
  GRAFT_ACCESS(unaligned_write##size, size, {.writes = true})              \
  GRAFT_ACCESS(volatile_write##size, size, {.writes = true})               \
  GRAFT_ACCESS(unaligned_volatile_write##size, size, {.writes = true})

extern "C" {
GRAFT_ACCESSES(1)
GRAFT_ACCESSES(2)
GRAFT_ACCESSES(4)
GRAFT_ACCESSES(8)
GRAFT_ACCESSES(16)
void __tsan_read_range(void* p, unsigned long size) {
  graft::host_model::access(p, size, {}, __builtin_return_address(0));
}
void __tsan_write_range(void* p, unsigned long size) {
  graft::host_model::access(p, size, {.writes = true}, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}  // host code beside the kernels has virtual functions
void __tsan_vptr_read(void**) {}
}
