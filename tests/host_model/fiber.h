// Execution stacks, one per CUDA thread that is under way, and the switch between them. All run on one OS thread.
#pragma once

#include <cstddef>

namespace graft::host_model {

struct Fiber {
  void* context = nullptr;  // where it goes on; owned by stack_switch_*.cpp
  char* low = nullptr;      // its stack is [low, low + size)
  std::size_t size = 0;
  void* fake_stack = nullptr;  // of the address sanitizer
  bool is_busy = false;

  bool holds(const void* p) const { return p >= low && p < low + size; }
};

/// The fiber that runs, and the one that launches kernels.
Fiber& current_fiber();
Fiber& host_fiber();

/// A fiber that will call entry() when first jumped to; entry never returns.
Fiber& take_fiber(void (*entry)());
/// Gives a fiber back while it still runs; it must then jump away and is not resumed.
void give_back_current();
/// Leaves off the current fiber until somebody jumps back to it.
void jump(Fiber& to);
/// The first thing that entry() calls.
void arrive_in_fiber();
/// After a fault: every fiber is free again. Their stacks are dropped without running destructors.
void abandon_fibers();

// The part that depends on the processor: stack_switch_x86_64.cpp or, everywhere else, stack_switch_ucontext.cpp.
/// Lets `context` call entry() on the given stack when switched to.
void prepare_context(void*& context, char* low, std::size_t size, void (*entry)());
void switch_context(void*& from, void*& to);

}  // namespace graft::host_model
