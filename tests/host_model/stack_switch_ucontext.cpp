// The switch between stacks by the C library, for processors without an own one.
#include <ucontext.h>

#include "tests/host_model/fiber.h"

namespace graft::host_model {
namespace {

ucontext_t& in(void*& context) {
  if (!context) context = new ucontext_t;  // kept for the life of the process, as the stacks are
  return *static_cast<ucontext_t*>(context);
}

}  // namespace

void prepare_context(void*& context, char* low, std::size_t size, void (*entry)()) {
  ucontext_t& c = in(context);
  getcontext(&c);
  c.uc_stack.ss_sp = low;
  c.uc_stack.ss_size = size / 16 * 16;
  c.uc_link = nullptr;
  makecontext(&c, entry, 0);
}

void switch_context(void*& from, void*& to) { swapcontext(&in(from), &in(to)); }

}  // namespace graft::host_model
