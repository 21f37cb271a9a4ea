#include "strategies/training/epoch_steps.h"

namespace graft {

std::int64_t usable_batches(std::int64_t images, std::int64_t batch, const FreezePlan& freeze) {
  const bool ends_with_lone_image = batch > 1 && images % batch == 1;
  const std::int64_t all = (images + batch - 1) / batch;
  return ends_with_lone_image && freeze.uses_batch_statistics() ? all - 1 : all;
}

Schedule schedule_of(const TrainSettings& s, const EpochPlan& plan, std::int64_t updates_per_epoch) {
  const std::int64_t end = plan.schedule_end < 0 ? s.epochs : plan.schedule_end;
  return {.kind = parse_schedule(s.schedule),
          .lr = s.lr * plan.lr_factor,
          .epochs = end - plan.schedule_begin,
          .steps_per_epoch = updates_per_epoch,
          .warmup_epochs = s.warmup_epochs,
          .min_lr = s.min_lr,
          .t_max = s.cosine_t_max,
          .step_epochs = s.step_epochs,
          .gamma = s.step_gamma,
          .pct_start = s.one_cycle_pct_start,
          .div = s.one_cycle_div,
          .final_div = s.one_cycle_final_div,
          .cut = s.slanted_cut,
          .ratio = s.slanted_ratio};
}

}  // namespace graft
