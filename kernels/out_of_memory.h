// The error of a device whose memory is used up, and how amounts of memory are written.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/core.h"

namespace graft {

/// "310 MiB", "1.46 GiB": for people.
std::string memory_text(std::int64_t bytes);

/// "310 MiB are left of the limit of 4.00 GiB on the address space (ulimit -v)"; empty if there is no such limit.
std::string address_space_text();

/// A device has no memory left. The text says what was needed, what is in use and what to change.
class OutOfMemory : public Error {
 public:
  /// `left`: "310 MiB of 24 GiB are free", or empty if nobody knows.
  OutOfMemory(const std::string& device, std::int64_t needed_bytes, std::int64_t used_bytes, const std::string& left);
};

/// What a run that needs less memory would set: "use a smaller --batch (…), …", the end of such an error's text.
inline constexpr const char* kLessMemoryAdvice =
    "use a smaller --batch (--accumulate keeps the update's size), a smaller --size or --recompute norms; graft "
    "plan-memory tells what fits";

/// The same for memory of the host (std::bad_alloc), where nobody knows how much was asked for, with what to do.
std::string host_out_of_memory_text(std::string_view advice);

}  // namespace graft
