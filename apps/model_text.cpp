#include "apps/model_text.h"

#include <fmt/format.h>

#include <vector>

namespace graft {

std::string input_text(const ModelInfo& info) {
  return fmt::format("{} px of a {} px resize, {}, value / {:g}, mean {:g} {:g} {:g}, std {:g} {:g} {:g}{}",
                     info.input_size, info.resize, info.channel_order, info.input_scale, info.mean[0], info.mean[1],
                     info.mean[2], info.std[0], info.std[1], info.std[2],
                     info.window ? ", of 16-bit images the numbers " + to_string(*info.window) : "");
}

std::string layers_text(const ModelInfo& info) {
  const Architecture& architecture = architecture_of(info.architecture);
  std::vector<std::string> parts;
  if (architecture.has_bottlenecks) parts.push_back(fmt::format("strides on the {} convolutions", info.stride_on));
  if (architecture.has_norms) parts.push_back(fmt::format("batch-norm epsilon {:g}", info.bn_epsilon));
  return parts.empty() ? "no batch norm" : fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace graft
