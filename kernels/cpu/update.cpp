// The optimizer's passes over the arenas, bound by memory: each element is read once by measure_gradients and read and
// written once by update. Work is cut into chunks; sums are taken per chunk and added in the chunks' order, so results
// do not depend on the number of threads. Every combination of rule and penalty has its own loop, without branches, for
// the compiler to vectorise.
#include <array>
#include <cmath>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/half.h"
#include "kernels/update_control.h"

namespace graft {
namespace {

struct Chunk {
  std::int64_t segment, begin, end;  // elements within the segment
};

/// Trainable pieces of every segment, in order, at most `kChunk` elements each.
std::vector<Chunk> chunks_of(std::span<const UpdateSegment> segments) {
  constexpr std::int64_t kChunk = 1 << 14;
  std::vector<Chunk> chunks;
  for (std::size_t s = 0; s < segments.size(); ++s)
    for_each_trainable_range(segments[s], [&](std::int64_t begin, std::int64_t end) {
      for (; begin < end; begin += kChunk) chunks.push_back({std::int64_t(s), begin, std::min(end, begin + kChunk)});
    });
  return chunks;
}

/// Where a chunk's numbers lie. Pointers that a loop does not use may be null.
struct ChunkPointers {
  std::int64_t count;
  float* w;
  const float* g;
  float *m, *v;
  const float* anchor;
  std::uint16_t* half;
  DType half_type;
};

ChunkPointers pointers(const UpdateArena& arena, const Chunk& c) {
  const UpdateSegment& s = arena.segments[std::size_t(c.segment)];
  const std::int64_t value = s.value_offset + c.begin, state = s.state_offset + c.begin;
  const auto at = [](auto* base, std::int64_t i) { return base ? base + i : nullptr; };
  return {.count = c.end - c.begin,
          .w = arena.values.as<float>() + value,
          .g = arena.gradients.as<float>() + state,
          .m = at(arena.moment1.as<float>(), state),
          .v = at(arena.moment2.as<float>(), state),
          .anchor = at(arena.anchors.as<float>(), value),
          .half = at(arena.half_values.as<std::uint16_t>(), value),
          .half_type = arena.half_values.dtype};
}

template <PenaltyKind Kind, PenaltyMode Mode, bool HasAnchor, bool HasSums>
struct Variant {};

/// The sums of one run: `before` and the new `w` are still in the first cache.
template <bool HasAnchor>
void add_sums(std::int64_t count, const float* before, const float* w, const float* g, const float* anchor,
              double* sums) {
  double g2 = 0, w2 = 0, change2 = 0, distance2 = 0, distance = 0;
#pragma omp simd reduction(+ : g2, w2, change2, distance2, distance)
  for (std::int64_t i = 0; i < count; ++i) {
    const double change = double(w[i] - before[i]), d = double(before[i] - (HasAnchor ? anchor[i] : 0));
    g2 += double(g[i]) * double(g[i]);
    w2 += double(before[i]) * double(before[i]);
    change2 += change * change;
    distance2 += d * d;
    distance += std::abs(d);
  }
  const std::array<double, kUpdateSums> all{g2, w2, change2, distance2, distance};
  for (std::size_t k = 0; k < all.size(); ++k) sums[k] += all[k];
}

void store_halves(const ChunkPointers& p) {
  for (std::int64_t i = 0; i < p.count; ++i)
    p.half[i] = p.half_type == DType::bf16 ? BFloat16(p.w[i]).bits : Float16(p.w[i]).bits;
}

template <class Step, PenaltyKind Kind, PenaltyMode Mode, bool HasAnchor, bool HasSums>
void update_chunk(Variant<Kind, Mode, HasAnchor, HasSums>, const Step& step_in, const UpdateTerms<float>& terms_in,
                  const ChunkPointers& p, double* sums) {
  // Copies, which no store can change: else the compiler reads them again for every element.
  const Step step = step_in;
  UpdateTerms<float> terms = terms_in;
  terms.kind = Kind, terms.mode = Mode;
  constexpr std::int64_t kRun = 1024;
  for (std::int64_t begin = 0; begin < p.count; begin += kRun) {
    const std::int64_t count = std::min(kRun, p.count - begin);
    const auto from = [&](auto* pointer, bool is_used) { return is_used ? pointer + begin : nullptr; };
    float *const pw = p.w + begin, *const pm = from(p.m, Step::kMoments > 0), *const pv = from(p.v, Step::kMoments > 1);
    const float *const pg = p.g + begin, *const anchor = from(p.anchor, HasAnchor);
    std::array<float, kRun> before;
    if constexpr (HasSums) std::copy(pw, pw + count, before.begin());
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
      float w = pw[i], m = Step::kMoments > 0 ? pm[i] : 0, v = Step::kMoments > 1 ? pv[i] : 0;
      update_element(step, terms, w, pg[i], m, v, HasAnchor ? anchor[i] : 0);
      pw[i] = w;
      if constexpr (Step::kMoments > 0) pm[i] = m;
      if constexpr (Step::kMoments > 1) pv[i] = v;
    }
    if constexpr (HasSums) add_sums<HasAnchor>(count, before.data(), pw, pg, anchor, sums);
  }
  if (p.half && Step::kMoments > 0) store_halves(p);  // a skipped step stores nothing
}

/// Calls body(Variant) with the variant that a penalty, an anchor and the wish for sums ask for.
template <bool HasAnchor, bool HasSums, class Body>
void with_penalty(const PenaltySpec& penalty, const Body& body) {
  using enum PenaltyKind;
  using enum PenaltyMode;
  const auto with_mode = [&]<PenaltyKind Kind>() {
    switch (penalty.mode) {
      case coupled:
        return body(Variant<Kind, coupled, HasAnchor, HasSums>{});
      case decoupled:
        return body(Variant<Kind, decoupled, HasAnchor, HasSums>{});
      case proximal:
        return body(Variant<Kind, proximal, HasAnchor, HasSums>{});
    }
  };
  switch (penalty.kind) {
    case none:
      return body(Variant<none, coupled, HasAnchor, HasSums>{});
    case l2:
      return with_mode.template operator()<l2>();
    case l1:
      return with_mode.template operator()<l1>();
  }
}

template <class Body>
void with_variant(const PenaltySpec& penalty, bool has_anchor, bool has_sums, const Body& body) {
  if (has_anchor)
    has_sums ? with_penalty<true, true>(penalty, body) : with_penalty<true, false>(penalty, body);
  else
    has_sums ? with_penalty<false, true>(penalty, body) : with_penalty<false, false>(penalty, body);
}

/// Adds every chunk's `width` sums, in the chunks' order, to its segment's.
void add_chunk_sums(const std::vector<Chunk>& chunks, const std::vector<double>& partial, std::int64_t width,
                    double* sums, std::int64_t segments) {
  std::fill(sums, sums + segments * width, 0.0);
  for (std::size_t i = 0; i < chunks.size(); ++i)
    for (std::int64_t k = 0; k < width; ++k)
      sums[chunks[i].segment * width + k] += partial[i * std::size_t(width) + std::size_t(k)];
}

template <class Step>
void update_all(const UpdateArena& arena, const Step& step) {
  const std::vector<Chunk> chunks = chunks_of(arena.segments);
  std::vector<UpdateTerms<float>> terms;
  for (const UpdateSegment& s : arena.segments) terms.push_back(terms_of<float>(s, arena, step));
  const bool has_sums = arena.sums.data != nullptr;
  std::vector<double> partial(has_sums ? chunks.size() * std::size_t(kUpdateSums) : 0);
  const std::int64_t count = std::int64_t(chunks.size());
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i) {
    const Chunk& c = chunks[std::size_t(i)];
    const UpdateSegment& s = arena.segments[std::size_t(c.segment)];
    double* sums = has_sums ? &partial[std::size_t(i * kUpdateSums)] : nullptr;
    const PenaltySpec penalty = Step::kMoments > 0 ? s.penalty : PenaltySpec{};  // a skipped step has none
    with_variant(penalty, uses_anchor(s, arena), has_sums, [&](auto variant) {
      update_chunk(variant, step, terms[std::size_t(c.segment)], pointers(arena, c), sums);
    });
  }
  if (has_sums)
    add_chunk_sums(chunks, partial, kUpdateSums, arena.sums.as<double>(), std::int64_t(arena.segments.size()));
}

template <class Step>
void run_update(const UpdateArena& arena, const Step& step) {
  check_update(arena);
  if (!is_skipped(arena))
    update_all(arena, clocked(step, arena));
  else if (arena.sums.data)
    update_all(arena, SkippedStep{});
}

/// Sums of g^2 and, if `HasWeights`, w^2.
template <bool HasWeights>
void measure_chunk(const ChunkPointers& p, double* sums) {
  const std::int64_t count = p.count;
  const float *const w = p.w, *const g = p.g;
  double g2 = 0, w2 = 0;
#pragma omp simd reduction(+ : g2, w2)
  for (std::int64_t i = 0; i < count; ++i) {
    g2 += double(g[i]) * double(g[i]);
    if constexpr (HasWeights) w2 += double(w[i]) * double(w[i]);
  }
  sums[0] = g2, sums[1] = w2;
}

}  // namespace

void CpuBackend::measure_gradients(View control, View history, const UpdateArena& arena, const MeasureSpec& spec) {
  check_measure(control, history, arena, spec);
  const std::vector<Chunk> chunks = chunks_of(arena.segments);
  std::vector<double> partial(2 * chunks.size()), sums(2 * arena.segments.size());
  const std::int64_t count = std::int64_t(chunks.size());
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < count; ++i) {
    const ChunkPointers p = pointers(arena, chunks[std::size_t(i)]);
    double* to = &partial[2 * std::size_t(i)];
    spec.relative_rates ? measure_chunk<true>(p, to) : measure_chunk<false>(p, to);
  }
  add_chunk_sums(chunks, partial, 2, sums.data(), std::int64_t(arena.segments.size()));
  finish_measure(control, history, arena.segments, sums.data(), spec);
}

void CpuBackend::update(const UpdateArena& arena, const SgdStep& step) { run_update(arena, step); }
void CpuBackend::update(const UpdateArena& arena, const AdamStep& step) { run_update(arena, step); }

}  // namespace graft
