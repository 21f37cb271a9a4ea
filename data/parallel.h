// A loop whose turns are shared among threads, for host-side work such as decoding. Each turn must depend on its index
// alone; then the number of threads changes nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace graft {

/// Calls body(0) … body(count-1) on up to `threads` threads and returns when all are done. The first exception (by
/// time) stops the rest and is thrown here.
template <typename Body>
void parallel_for(std::int64_t count, int threads, const Body& body) {
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;
  std::mutex mutex;
  const auto work = [&] {
    for (std::int64_t i = next++; i < count; i = next++) {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> others;
    for (int t = 1; t < threads && t < count; ++t) others.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace graft
