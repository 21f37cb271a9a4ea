#include "tests/host_model/scheduler.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "kernels/philox.h"
#include "tests/host_model/fiber.h"
#include "tests/host_model/symbols.h"
#include "tests/host_model/watch.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace graft::host_model {
namespace {

constexpr int kLanes = 32;

enum class State : std::uint8_t { ready, at_barrier, at_collective, returned };

struct Thread {
  Fiber* fiber = nullptr;  // none before its first turn
  State state = State::ready;
  Place place;           // of the barrier it waits at
  CollectiveCall call;   // of the collective it waits in
  std::uint64_t result;  // of that collective
  uint3 index;
};

struct Warp {
  std::uint32_t ready, waiting, returned;  // lanes
};

// The kernel that runs.
Grid grid;
const std::function<void()>* body = nullptr;
bool is_running = false;
std::optional<Fault> fault;
std::set<std::string> launched;

// The block that runs.
Thread threads[kMostThreads];
Warp warps[kMostThreads / kLanes];
std::uint32_t ready_warps;
int thread_count, warp_count, current;
int arrived, returned, predicates, predicates_of_last_barrier;

Order order = Order::forward;
Random dice{RandomPlace{}};

std::uint32_t below(std::uint32_t count) { return std::uint32_t(dice.below(count)); }

std::string name(int thread) {
  const uint3& t = threads[thread].index;
  return fmt::format("thread ({},{},{})", t.x, t.y, t.z);
}

/// Where in the grid something happens.
std::string who() {
  return fmt::format("{}, block ({},{},{}), {}", function_name(grid.kernel), blockIdx.x, blockIdx.y, blockIdx.z,
                     name(current));
}

std::string text(const Place& place) {
  const std::string_view file = place.file_name();
  return fmt::format("{}:{}", file.substr(file.rfind('/') + 1), place.line());
}

bool is_same(const Place& a, const Place& b) { return a.line() == b.line() && a.column() == b.column(); }

std::uint32_t lanes_of(int warp) { return warp < thread_count / kLanes ? ~0u : (1u << thread_count % kLanes) - 1; }

void set_ready(int warp, std::uint32_t lanes) {
  warps[warp].ready |= lanes;
  ready_warps |= 1u << warp;
}
void clear_ready(int thread) {
  const int warp = thread / kLanes;
  if ((warps[warp].ready &= ~(1u << thread % kLanes)) == 0) ready_warps &= ~(1u << warp);
}

/// The member of a non-empty mask that follows `from` in the order, going round; -1 and 32 stand before and after all.
int next_in(std::uint32_t mask, int from) {
  if (order == Order::random) {
    for (std::uint32_t skip = below(std::uint32_t(std::popcount(mask))); skip > 0; --skip) mask &= mask - 1;
    return std::countr_zero(mask);
  }
  if (order == Order::forward) {
    const std::uint32_t after = from >= kLanes - 1 ? 0 : mask & (~0u << (from + 1));
    return std::countr_zero(after ? after : mask);
  }
  const std::uint32_t before = from >= kLanes ? mask : from <= 0 ? 0 : mask & ((1u << from) - 1);
  return kLanes - 1 - std::countl_zero(before ? before : mask);
}

/// Whose turn it is; -1 when nobody can go on. A warp runs as far as it can before the next one does, except in random
/// order.
int pick() {
  if (ready_warps == 0) return -1;
  int warp = current / kLanes;
  if (order == Order::random || warps[warp].ready == 0) warp = next_in(ready_warps, warp);
  const int before_all = order == Order::reverse ? kLanes : -1;
  return warp * kLanes + next_in(warps[warp].ready, warp == current / kLanes ? current % kLanes : before_all);
}

void fiber_main();

void give_turn(int thread) {
  current = thread;
  threadIdx = threads[thread].index;
  if (!threads[thread].fiber) threads[thread].fiber = &take_fiber(fiber_main);
  if (threads[thread].fiber != &current_fiber()) jump(*threads[thread].fiber);
}

[[noreturn]] void report_deadlock() {
  fail(FaultKind::deadlock, [] {
    std::string found = "deadlock";
    int shown = 0;
    for (int t = 0; t < thread_count && shown < 4; ++t) {
      const Thread& waiting = threads[t];
      if (waiting.state == State::returned) continue;
      const bool at_barrier = waiting.state == State::at_barrier;
      if (t > 0 && threads[t - 1].state == waiting.state) continue;  // as its neighbour
      found += fmt::format("{} {} waits {} at {}", shown ? ";" : ":", name(t),
                           at_barrier ? "for the block" : fmt::format("for lanes {:08x}", waiting.call.mask),
                           text(at_barrier ? waiting.place : waiting.call.place));
      ++shown;
    }
    return found;
  });
}

void go_on_with_another() {
  const int thread = pick();
  if (thread < 0) report_deadlock();
  give_turn(thread);
}

/// Opens the barrier when every thread that has not returned is there.
void open_barrier_if_complete() {
  if (arrived == 0 || arrived + returned != thread_count) return;
  int first = -1, absent = -1;
  for (int t = 0; t < thread_count; ++t) {
    const Thread& thread = threads[t];
    if (thread.state == State::returned) {
      if (absent < 0) absent = t;
    } else if (first < 0) {
      first = t;
    } else if (!is_same(thread.place, threads[first].place)) {
      fail(FaultKind::barrier, [&] {
        return fmt::format("threads of a block wait at different barriers: {} at {}, {} at {}", name(first),
                           text(threads[first].place), name(t), text(thread.place));
      });
    }
  }
  if (absent >= 0)
    fail(FaultKind::barrier, [&] {
      return fmt::format("barrier at {}: {} of {} threads have returned, {} first", text(threads[first].place),
                         returned, thread_count, name(absent));
    });
  predicates_of_last_barrier = predicates;
  arrived = predicates = 0;
  for (int t = 0; t < thread_count; ++t) threads[t].state = State::ready;
  for (int w = 0; w < warp_count; ++w) set_ready(w, lanes_of(w));
  watch_barrier();
}

void leave_block() {
  const int warp = current / kLanes, lane = current % kLanes;
  threads[current].state = State::returned;
  clear_ready(current);
  ++returned;
  warps[warp].returned |= 1u << lane;
  for (std::uint32_t waiting = warps[warp].waiting; waiting != 0; waiting &= waiting - 1) {
    const int t = warp * kLanes + std::countr_zero(waiting);
    const CollectiveCall& call = threads[t].call;
    if (call.mask >> lane & 1)
      fail(FaultKind::collective, [&] {
        return fmt::format("{} waits at {} for lanes {:08x}, of which one has returned", name(t), text(call.place),
                           call.mask);
      });
  }
  open_barrier_if_complete();
}

/// A fiber runs one thread after another: whoever is next and has no fiber of its own yet.
void fiber_main() {
  arrive_in_fiber();
  for (;;) {
    try {
      (*body)();
    } catch (const std::exception& error) {
      record_fault(FaultKind::exception, std::string("an exception: ") + error.what());
    }
    if (fault) leave_kernel();
    const int finished = current;
    leave_block();
    threads[finished].fiber = nullptr;
    const int next = pick();
    if (next >= 0 && !threads[next].fiber) {
      threads[next].fiber = &current_fiber();
      give_turn(next);
      continue;
    }
    if (next < 0 && returned != thread_count) report_deadlock();
    give_back_current();
    if (next >= 0)
      give_turn(next);
    else
      jump(host_fiber());
  }
}

void begin_block() {
  for (const SharedArray& a : shared_arrays()) std::memset(a.data, 0xFF, a.size);  // NaN
  ready_warps = 0;
  arrived = returned = predicates = 0;
  for (int w = 0; w < warp_count; ++w) {
    warps[w] = {};
    set_ready(w, lanes_of(w));
  }
  for (int t = 0; t < thread_count; ++t) {
    threads[t].fiber = nullptr;
    threads[t].state = State::ready;
  }
  current = order == Order::reverse ? thread_count - 1 : 0;
  if (order == Order::random) current = pick();
}

std::vector<std::uint64_t> block_order(std::uint64_t count) {
  std::vector<std::uint64_t> blocks(count);
  std::iota(blocks.begin(), blocks.end(), 0u);
  if (order == Order::reverse) std::reverse(blocks.begin(), blocks.end());
  if (order == Order::random)
    for (std::uint64_t i = count; i > 1; --i) std::swap(blocks[i - 1], blocks[below(std::uint32_t(i))]);
  return blocks;
}

// ---- collectives

/// Checks what a lane can be blamed for at once.
void check_mask(const CollectiveCall& call, int warp, int lane) {
  const auto blame = [&](const char* what) {
    fail(FaultKind::collective,
         [&] { return fmt::format("collective at {}: mask {:08x} {}", text(call.place), call.mask, what); });
  };
  if (!(call.mask >> lane & 1)) blame("lacks the lane that calls");
  if (call.mask & ~lanes_of(warp)) blame("names lanes that the block does not have");
  if (call.mask & warps[warp].returned) blame("names lanes that have returned");
}

bool all_wait_for_each_other(const CollectiveCall& call, int warp) {
  if ((warps[warp].waiting & call.mask) != call.mask) return false;
  for (std::uint32_t m = call.mask; m != 0; m &= m - 1)
    if (threads[warp * kLanes + std::countr_zero(m)].call.mask != call.mask) return false;
  return true;
}

void check_same_call(const CollectiveCall& call, int warp) {
  for (std::uint32_t m = call.mask; m != 0; m &= m - 1) {
    const CollectiveCall& other = threads[warp * kLanes + std::countr_zero(m)].call;
    if (other.kind != call.kind || !is_same(other.place, call.place))
      fail(FaultKind::collective, [&] {
        return fmt::format("lanes of mask {:08x} meet in different collectives: at {} and at {}", call.mask,
                           text(call.place), text(other.place));
      });
  }
}

/// The lane whose value a shuffle gives to `lane`: its own when the one asked for is outside its segment.
int source_lane(const CollectiveCall& call, int lane) {
  const int begin = lane & ~(call.width - 1), end = begin + call.width;
  int from = lane;
  switch (call.kind) {
    case Collective::from_lane:
      return begin + (call.argument & (call.width - 1));
    case Collective::from_below:
      from = lane - call.argument;
      return from < begin ? lane : from;
    case Collective::from_above:
      from = lane + call.argument;
      return from >= end ? lane : from;
    default:
      from = lane ^ call.argument;
      return from >= end ? lane : from;
  }
}

std::uint64_t result_for(int lane, int warp, std::uint32_t ballot) {
  const CollectiveCall& call = threads[warp * kLanes + lane].call;
  if (call.kind == Collective::sync) return 0;
  if (call.kind == Collective::ballot) return ballot;
  const int from = source_lane(call, lane);
  if (!(call.mask >> from & 1))
    fail(FaultKind::collective, [&] {
      return fmt::format("shuffle at {}: lane {} reads lane {}, which is not in mask {:08x}", text(call.place), lane,
                         from, call.mask);
    });
  return threads[warp * kLanes + from].call.value;
}

}  // namespace

std::uint64_t meet(const CollectiveCall& call) {
  const int me = current, warp = me / kLanes, lane = me % kLanes;
  check_mask(call, warp, lane);
  threads[me].call = call;
  threads[me].state = State::at_collective;
  warps[warp].waiting |= 1u << lane;
  if (!all_wait_for_each_other(call, warp)) {
    clear_ready(me);
    go_on_with_another();
    return threads[me].result;
  }
  check_same_call(call, warp);
  std::uint32_t ballot = 0;
  for (std::uint32_t m = call.mask; m != 0; m &= m - 1) {
    const int l = std::countr_zero(m);
    ballot |= std::uint32_t(threads[warp * kLanes + l].call.value & 1) << l;
  }
  for (std::uint32_t m = call.mask; m != 0; m &= m - 1) {
    const int l = std::countr_zero(m);
    threads[warp * kLanes + l].result = result_for(l, warp, ballot);
    threads[warp * kLanes + l].state = State::ready;
  }
  warps[warp].waiting &= ~call.mask;
  set_ready(warp, call.mask);
  if (call.kind == Collective::sync) watch_warp_sync(warp, call.mask);
  if (order != Order::forward) give_turn(pick());  // forward: the last lane to come goes on
  return threads[me].result;
}

int wait_for_block(bool predicate, Place place) {
  threads[current].place = place;
  threads[current].state = State::at_barrier;
  predicates += predicate;
  ++arrived;
  clear_ready(current);
  open_barrier_if_complete();
  go_on_with_another();
  return predicates_of_last_barrier;
}

void trap(Place place) {
  fail(FaultKind::trap, [&] { return "__trap() at " + text(place); });
}

void expect_global(const void* p, Place place) {
  struct Range {
    const char *begin, *end;
  };
  static const Range all = [] {
    Range range{shared_arrays().front().data, shared_arrays().front().data};
    for (const SharedArray& a : shared_arrays())
      range = {std::min<const char*>(range.begin, a.data), std::max<const char*>(range.end, a.data + a.size)};
    return range;
  }();
  const auto* at = static_cast<const char*>(p);
  if (at < all.begin || at >= all.end) return;
  for (const SharedArray& a : shared_arrays())
    if (at >= a.data && at < a.data + a.size)
      fail(FaultKind::space, [&] {
        return fmt::format("an access to global memory at {} meets {} in shared memory", text(place), a.name);
      });
}

void record_fault(FaultKind kind, const std::string& text) { fault.emplace(kind, fmt::format("{} [{}]", text, who())); }

/// The address sanitizer calls this before it reports.
extern "C" void __asan_on_error() {
  if (current_thread() >= 0) fmt::print(stderr, "host model: in kernel {}\n", who());
}

void leave_kernel() {
  jump(host_fiber());
  std::abort();  // nobody comes back
}

int current_thread() { return is_running && &current_fiber() != &host_fiber() ? current : -1; }

void set_order(Order new_order, std::uint64_t seed) {
  order = new_order;
  dice = Random({.seed = seed});
}

const std::set<std::string>& launched_kernels() { return launched; }

bool is_valid(const Grid& g) {
  const std::uint64_t count = std::uint64_t(g.threads.x) * g.threads.y * g.threads.z;
  return count >= 1 && count <= kMostThreads && g.threads.z <= 64 && g.blocks.x >= 1 && g.blocks.y >= 1 &&
         g.blocks.z >= 1 && g.blocks.x <= 0x7fffffffu && g.blocks.y <= 65535 && g.blocks.z <= 65535;
}

void run(const Grid& g, const std::function<void()>& thread) {
  grid = g;
  body = &thread;
  gridDim = g.blocks;
  blockDim = g.threads;
  launched.insert(function_name(g.kernel));
  thread_count = int(g.threads.x * g.threads.y * g.threads.z);
  warp_count = (thread_count + kLanes - 1) / kLanes;
  for (int t = 0; t < thread_count; ++t) {
    const unsigned i = unsigned(t), x = g.threads.x, y = g.threads.y;
    threads[t].index = {i % x, i / x % y, i / (x * y)};
  }
  fault.reset();
  is_running = true;
  const std::uint64_t count = std::uint64_t(g.blocks.x) * g.blocks.y * g.blocks.z;
  watch_launch(count);
  std::uint64_t number = 0;
  for (const std::uint64_t b : block_order(count)) {
    blockIdx = {unsigned(b % g.blocks.x), unsigned(b / g.blocks.x % g.blocks.y), unsigned(b / g.blocks.x / g.blocks.y)};
    begin_block();
    watch_block(number++, thread_count);
    give_turn(current);
    if (fault) break;
  }
  is_running = false;
  if (fault) {
    abandon_fibers();
    throw Fault(*fault);
  }
}

}  // namespace graft::host_model
