#include "kernels/update_control.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/half.h"

namespace graft {
namespace {

struct Group {
  double gradient_squares = 0, weight_squares = 0;
  bool is_present = false;  // some segment of this step belongs to it
  double ratio = -1;
};

std::vector<Group> gather_groups(std::span<const UpdateSegment> segments, const double* sums, std::int64_t count) {
  std::vector<Group> groups(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].rate_group < 0) continue;
    Group& group = groups[std::size_t(segments[i].rate_group)];
    group.gradient_squares += sums[2 * i];
    group.weight_squares += sums[2 * i + 1];
    group.is_present = true;
  }
  return groups;
}

void check_segments(std::span<const UpdateSegment> segments, std::int64_t groups) {
  for (const UpdateSegment& s : segments) {
    if (s.row_mask && (s.row_size <= 0 || s.size % s.row_size != 0))
      throw Error("update: a masked segment of " + std::to_string(s.size) + " elements cannot have rows of " +
                  std::to_string(s.row_size));
    if (s.rate_group >= groups)
      throw Error("update: rate group " + std::to_string(s.rate_group) + " is not among the " + std::to_string(groups) +
                  " that control has room for");
  }
}

}  // namespace

void check_update(const UpdateArena& arena) {
  if (arena.half_values.data && !is_half(arena.half_values.dtype))
    throw Error("update: half_values takes bf16 or f16, got " + std::string(to_string(arena.half_values.dtype)));
  for (const UpdateSegment& s : arena.segments)
    if (s.penalty.kind != PenaltyKind::none && s.penalty.to_anchor && !arena.anchors.data)
      throw Error("update: a penalty pulls to anchors, but none are kept; call keep_anchors() first");
  const bool has_rates = arena.control.data != nullptr;
  check_segments(arena.segments, has_rates ? arena.control.shape.c - control_size(0) : std::numeric_limits<int>::max());
}

void check_measure(const ConstView& control, const ConstView& history, const UpdateArena& arena,
                   const MeasureSpec& spec) {
  if (control.shape.c != control_size(spec.groups))
    throw Error("measure_gradients: control of " + std::to_string(spec.groups) + " groups has " +
                std::to_string(control_size(spec.groups)) + " numbers, got " + std::to_string(control.shape.c));
  if (spec.relative_rates && spec.groups > 0 && history.shape != Shape{spec.groups, 1 + spec.window, 1, 1})
    throw Error("measure_gradients: history must be [groups,1 + window], got " + to_string(history.shape));
  check_segments(arena.segments, spec.groups);
}

void finish_measure(const View& control, const View& history, std::span<const UpdateSegment> segments,
                    const double* sums, const MeasureSpec& spec) {
  double squares = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) squares += sums[2 * i];
  double* c = control.as<double>();
  const double scale = spec.scales_loss ? c[kControlLossScale] : spec.loss_scale;
  c[kControlFactor] = gradient_factor(squares, scale, spec.max_gradient_norm);
  c[kControlNorm] = std::sqrt(squares) / scale;
  c[kControlGradientScale] = scale;
  const bool is_finite = c[kControlFactor] != 0;
  if (spec.scales_loss) adapt_loss_scale(spec.scaling, is_finite, c[kControlLossScale], c[kControlGoodSteps]);
  if (!is_finite) ++c[kControlSkipped];
  if (!is_finite || !spec.relative_rates) return;
  std::vector<Group> groups = gather_groups(segments, sums, spec.groups);
  double largest = 0;
  for (std::int64_t k = 0; k < spec.groups; ++k) {
    Group& group = groups[std::size_t(k)];
    if (!group.is_present) continue;
    group.ratio = enter_ratio(history.as<double>() + k * (1 + spec.window), spec.window,
                              std::sqrt(group.gradient_squares) / scale, std::sqrt(group.weight_squares), spec.epsilon,
                              spec.min_weight_norm);
    largest = std::max(largest, group.ratio);
  }
  for (std::int64_t k = 0; k < spec.groups; ++k)
    c[kControlRates + k] = relative_rate(groups[std::size_t(k)].ratio, largest);
}

}  // namespace graft
