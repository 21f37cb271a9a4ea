#include "tests/host_model/fiber.h"

#include <sys/mman.h>

#include <cstdlib>
#include <deque>
#include <new>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace graft::host_model {
namespace {

constexpr std::size_t kStackBytes = 256 << 10, kGuardBytes = 4096;
constexpr std::size_t kStagger = 320, kStaggers = 64;

Fiber host;
Fiber* current = &host;
std::deque<Fiber> pool;  // as many as the largest block has had threads under way
std::vector<Fiber*> idle;

void make_ready(Fiber& fiber, std::size_t number, void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.low, fiber.size);  // an abandoned fiber leaves poisoned frames behind
#endif
  fiber.fake_stack = nullptr;
  // Stacks begin at different offsets: else they all share the same few cache sets, and every switch misses.
  prepare_context(fiber.context, fiber.low, fiber.size - number % kStaggers * kStagger, entry);
}

Fiber& add_fiber(void (*entry)()) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);  // a stack that overflows faults
  Fiber& fiber = pool.emplace_back();
  fiber.low = static_cast<char*>(memory) + kGuardBytes;
  fiber.size = kStackBytes;
  make_ready(fiber, pool.size(), entry);
  return fiber;
}

void (*entry_of_all)() = nullptr;

}  // namespace

Fiber& current_fiber() { return *current; }
Fiber& host_fiber() { return host; }

Fiber& take_fiber(void (*entry)()) {
  entry_of_all = entry;
  if (idle.empty()) idle.push_back(&add_fiber(entry));
  Fiber& fiber = *idle.back();
  idle.pop_back();
  fiber.is_busy = true;
  return fiber;
}

void give_back_current() {
  current->is_busy = false;
  idle.push_back(current);
}

void arrive_in_fiber() {
#if defined(__SANITIZE_ADDRESS__)
  const void* low = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(current->fake_stack, &low, &size);
  if (!host.low) {  // the first arrival of all comes from the host's own stack
    host.low = static_cast<char*>(const_cast<void*>(low));
    host.size = size;
  }
#endif
}

void jump(Fiber& to) {
  Fiber& from = *current;
  current = &to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.low, to.size);
#endif
  switch_context(from.context, to.context);
  arrive_in_fiber();
}

void abandon_fibers() {
  std::size_t number = 0;
  for (Fiber& fiber : pool) {
    ++number;
    if (!fiber.is_busy) continue;
    make_ready(fiber, number, entry_of_all);
    fiber.is_busy = false;
    idle.push_back(&fiber);
  }
}

}  // namespace graft::host_model
