#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "kernels/core.h"

namespace graft {
namespace {

/// From `begin` at 0 to `end` at 1 along half a cosine wave.
double anneal(double begin, double end, double share) {
  return end + (begin - end) / 2 * (1 + std::cos(std::numbers::pi * share));
}

double one_cycle(const Schedule& s, std::int64_t step) {
  const double initial = s.lr / s.div, last = initial / s.final_div;
  const double total = double(s.epochs * s.steps_per_epoch);
  const double peak = s.pct_start * total - 1;
  const double position = double(step);
  if (position <= peak) return anneal(initial, s.lr, position / peak);
  return anneal(s.lr, last, std::fmin(1.0, (position - peak) / std::fmax(total - 1 - peak, 1e-12)));
}

double slanted_triangular(const Schedule& s, std::int64_t step) {
  const double total = double(s.epochs * s.steps_per_epoch), t = double(step);
  const double cut = std::fmax(1, std::floor(total * s.cut));
  const double p = t < cut ? t / cut : 1 - (t - cut) / std::fmax(total - cut, 1);
  return s.lr * (1 + std::fmax(p, 0) * (s.ratio - 1)) / s.ratio;
}

}  // namespace

ScheduleKind parse_schedule(std::string_view name) {
  if (name == "constant") return ScheduleKind::constant;
  if (name == "step") return ScheduleKind::step;
  if (name == "cosine") return ScheduleKind::cosine;
  if (name == "one-cycle") return ScheduleKind::one_cycle;
  if (name == "slanted-triangular") return ScheduleKind::slanted_triangular;
  throw UsageError("schedule: '" + std::string(name) +
                   "' is unknown; choose constant, step, cosine, one-cycle or slanted-triangular");
}

double Schedule::at(std::int64_t epoch, std::int64_t step) const {
  if (kind == ScheduleKind::one_cycle) return one_cycle(*this, epoch * steps_per_epoch + step);
  if (kind == ScheduleKind::slanted_triangular) return slanted_triangular(*this, epoch * steps_per_epoch + step);
  const double warmup_steps = std::round(warmup_epochs * double(steps_per_epoch));
  const double steps_done = double(epoch * steps_per_epoch + step) + 1;
  if (steps_done < warmup_steps) return lr * steps_done / warmup_steps;
  const std::int64_t warmup = std::int64_t(std::floor(warmup_epochs));
  const std::int64_t after = std::max<std::int64_t>(0, epoch - warmup);  // the climb's last step has the whole rate
  switch (kind) {
    case ScheduleKind::step:
      return lr * std::pow(gamma, double(after / step_epochs));
    case ScheduleKind::cosine: {
      const std::int64_t half_wave = t_max > 0 ? t_max : std::max<std::int64_t>(1, epochs - warmup);
      return anneal(lr, min_lr, double(after) / double(half_wave));
    }
    default:
      return lr;
  }
}

}  // namespace graft
