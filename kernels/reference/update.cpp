// The optimizer's passes over the arenas, segment by segment; masked rows are never visited.
#include <cmath>

#include "kernels/half.h"
#include "kernels/reference/reference.h"
#include "kernels/update_control.h"

namespace graft {
namespace {

/// One segment's update; `sums` (5) may be null.
template <class Step>
void update_segment(const UpdateSegment& s, const UpdateArena& arena, const Step& step, double* sums) {
  const bool is_bf16 = arena.half_values.dtype == DType::bf16;
  auto* halves = Step::kMoments > 0 ? arena.half_values.as<std::uint16_t>() : nullptr;  // a skipped step stores nothing
  const UpdateTerms<double> terms = terms_of<double>(s, arena, step);
  const double* anchors = uses_anchor(s, arena) ? arena.anchors.as<double>() : nullptr;
  double unused = 0;
  for_each_trainable_range(s, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t value = s.value_offset + i, state = s.state_offset + i;
      double& w = arena.values.as<double>()[value];
      const double before = w, w0 = anchors ? anchors[value] : 0, g = arena.gradients.as<double>()[state];
      update_element(step, terms, w, g, Step::kMoments > 0 ? arena.moment1.as<double>()[state] : unused,
                     Step::kMoments > 1 ? arena.moment2.as<double>()[state] : unused, w0);
      if (halves) halves[value] = is_bf16 ? BFloat16(w).bits : Float16(w).bits;
      if (!sums) continue;
      sums[0] += g * g;
      sums[1] += before * before;
      sums[2] += (w - before) * (w - before);
      sums[3] += (before - w0) * (before - w0);
      sums[4] += std::abs(before - w0);
    }
  });
}

template <class Step>
void update_all(const UpdateArena& arena, const Step& step, int threads) {
  double* sums = arena.sums.as<double>();
  if (sums) std::fill(sums, sums + std::int64_t(arena.segments.size()) * kUpdateSums, 0.0);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (std::int64_t i = 0; i < std::int64_t(arena.segments.size()); ++i)
    update_segment(arena.segments[std::size_t(i)], arena, step, sums ? sums + i * kUpdateSums : nullptr);
}

template <class Step>
void run_update(const UpdateArena& arena, const Step& step, int threads) {
  check_update(arena);
  if (!is_skipped(arena))
    update_all(arena, clocked(step, arena), threads);
  else if (arena.sums.data)
    update_all(arena, SkippedStep{}, threads);
}

}  // namespace

void ReferenceBackend::measure_gradients(View control, View history, const UpdateArena& arena,
                                         const MeasureSpec& spec) {
  check_measure(control, history, arena, spec);
  std::vector<double> sums(2 * arena.segments.size(), 0.0);
#pragma omp parallel for num_threads(threads_) schedule(dynamic)
  for (std::int64_t i = 0; i < std::int64_t(arena.segments.size()); ++i) {
    const UpdateSegment& s = arena.segments[std::size_t(i)];
    const double* g = arena.gradients.as<double>() + s.state_offset;
    const double* w = arena.values.as<double>() + s.value_offset;
    double* to = &sums[2 * std::size_t(i)];
    for_each_trainable_range(s, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t e = begin; e < end; ++e) {
        to[0] += g[e] * g[e];
        to[1] += w[e] * w[e];
      }
    });
  }
  finish_measure(control, history, arena.segments, sums.data(), spec);
}

void ReferenceBackend::update(const UpdateArena& arena, const SgdStep& step) { run_update(arena, step, threads_); }
void ReferenceBackend::update(const UpdateArena& arena, const AdamStep& step) { run_update(arena, step, threads_); }

}  // namespace graft
