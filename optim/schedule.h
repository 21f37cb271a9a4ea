// The learning rate as a pure function of epoch and step: nothing is remembered, so a resumed run continues exactly.
// Formulas are PyTorch's closed forms; warm-up comes before them. The optimizer that uses the rate is optimizer.h.
#pragma once

#include <cstdint>
#include <string_view>

namespace graft {

enum class ScheduleKind { constant, step, cosine, one_cycle, slanted_triangular };

/// "constant", "step", "cosine", "one-cycle", "slanted-triangular". Errors: any other (UsageError).
ScheduleKind parse_schedule(std::string_view name);

struct Schedule {
  ScheduleKind kind = ScheduleKind::cosine;
  double lr = 1e-3;  // base rate; of one-cycle and slanted-triangular the maximum
  std::int64_t epochs = 1, steps_per_epoch = 1;

  /// The rate climbs evenly from lr / steps to lr over this many epochs, step by step; the schedule follows.
  double warmup_epochs = 0;
  double min_lr = 0;             // cosine: where it ends
  std::int64_t t_max = 0;        // cosine: epochs of the half wave; 0: all epochs after the warm-up
  std::int64_t step_epochs = 1;  // step: multiply by gamma every so many epochs
  double gamma = 0.1;
  double pct_start = 0.3, div = 25, final_div = 1e4;  // one-cycle
  double cut = 0.1, ratio = 32;                       // slanted-triangular: share of steps that climb; highest / lowest

  /// The rate of optimizer step `step` (from 0) of `epoch` (from 0). Cosine and step change once per epoch, one-cycle,
  /// slanted-triangular and the warm-up every step.
  ///   slanted-triangular, step t of T, c = max(1, floor(T cut)):  lr (1 + p (ratio - 1)) / ratio,
  ///   p = t / c while t < c, then 1 - (t - c) / (T - c)
  /// Source: torch.optim.lr_scheduler: CosineAnnealingLR, StepLR, OneCycleLR (cosine annealing, two phases); Howard,
  /// Ruder 2018 (ULMFiT), where the fall is divided by c (1 / cut - 1): the same when T cut is whole, else it could end
  /// below 0.
  double at(std::int64_t epoch, std::int64_t step) const;
};

}  // namespace graft
