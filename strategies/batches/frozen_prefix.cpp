#include "strategies/batches/frozen_prefix.h"

namespace graft {

FrozenPrefix frozen_prefix(const Network& network, const FreezePlan& plan) {
  FrozenPrefix prefix{.parts = network.head_part(), .limit = {}, .frozen_parameters = 0};
  std::int64_t i = 0;
  for (const Parameter& p : network.parameters().parameters())
    if (plan.trains(i++) && !network.is_head(p)) prefix.parts = std::min(prefix.parts, p.block);
  prefix.frozen_parameters = prefix.parts;
  prefix.limit = network.part_name(prefix.parts) + " trains";
  i = 0;
  for (const RunningStatistics& s : network.parameters().statistics()) {
    const NormSwitches norm = plan.norm(i++);
    if (norm == kBatchNormFixed || s.block >= prefix.parts) continue;
    prefix.parts = s.block;
    prefix.limit = "batch norm of " + network.part_name(s.block) +
                   (norm.uses_batch_statistics ? " uses batch statistics" : " updates its running statistics");
  }
  return prefix;
}

}  // namespace graft
