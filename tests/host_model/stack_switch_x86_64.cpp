// The switch between stacks for x86-64: saves what the calling convention lets a callee keep. Some 2 ns; the portable
// one asks the kernel about signals each time and takes a hundred times as long.
#include <cstdint>

#include "tests/host_model/fiber.h"

extern "C" void graft_host_model_switch(void** from, void* to);
asm(R"(
.text
.globl graft_host_model_switch
.type graft_host_model_switch,@function
graft_host_model_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size graft_host_model_switch,.-graft_host_model_switch
)");

namespace graft::host_model {

void prepare_context(void*& context, char* low, std::size_t size, void (*entry)()) {
  auto* top = reinterpret_cast<std::uint64_t*>(low + size / 16 * 16);
  top[-1] = 0;  // entry's return address, never used
  top[-2] = reinterpret_cast<std::uint64_t>(entry);
  for (int i = 3; i <= 8; ++i) top[-i] = 0;  // the six registers
  context = top - 8;
}

void switch_context(void*& from, void*& to) { graft_host_model_switch(&from, to); }

}  // namespace graft::host_model
