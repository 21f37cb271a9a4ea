#include "tests/host_model/host_model.h"
#include "tests/host_model/watch.h"

namespace graft::host_model {

bool checks_races() { return false; }
void watch_launch(std::uint64_t) {}
void watch_block(std::uint64_t, int) {}
void watch_barrier() {}
void watch_warp_sync(int, std::uint32_t) {}
void watch_atomic(const void*, std::size_t, const void*) {}
void watch_coherent_read(const void*, std::size_t, const void*) {}
void watch_fence() {}

}  // namespace graft::host_model
