#include "tensor/context.h"

namespace graft {

std::string Context::scope() const {
  std::string joined;
  for (std::string_view part : scope_) joined += (joined.empty() ? "" : ".") + std::string(part);
  return joined.empty() ? "network" : joined;
}

}  // namespace graft
