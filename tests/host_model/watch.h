// Who is told of a kernel's progress: race_check.cpp, or no_race_check.cpp, which ignores it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace graft::host_model {

void watch_launch(std::uint64_t blocks);
void watch_block(std::uint64_t number, int threads);  // `number` counts the blocks of this launch as they run
void watch_barrier();
void watch_warp_sync(int warp, std::uint32_t mask);

// Called by device code, with where it will go on.
void watch_atomic(const void* address, std::size_t bytes, const void* return_address);
/// A read that passes by the first-level cache.
void watch_coherent_read(const void* address, std::size_t bytes, const void* return_address);
void watch_fence();

}  // namespace graft::host_model
