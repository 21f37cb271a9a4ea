#include <fmt/format.h>

#include "data/decoders.h"
#include "kernels/core.h"

namespace graft {

void decoders::check_size(std::int64_t height, std::int64_t width, std::string_view name) {
  constexpr std::int64_t kMaxPixels = std::int64_t{1} << 28;
  if (height < 1 || width < 1 || height > kMaxPixels / width) {
    throw Error(fmt::format("cannot decode {}: a size of {}x{} pixels is not supported (at most 2^28 pixels)", name,
                            width, height));
  }
}

}  // namespace graft
