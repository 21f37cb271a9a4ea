// Cases of the optimizer's passes: every rule and penalty over an arena with masks and gaps. What is frozen is NaN in
// gradients, moments and anchors: a visit would carry it into the results.
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <type_traits>

#include "tests/support/op_cases.h"

namespace graft {
namespace {

struct Arena {
  std::int64_t values = 0, states = 0;
  std::vector<UpdateSegment> segments;
  std::vector<std::vector<std::uint32_t>> masks;
};

constexpr std::int64_t kGroups = 3, kWindow = 4;

/// Five parameters: one with 3 of 5 rows frozen, one whole, one with more rows than a mask word has bits, one whose
/// rows can be moved four elements at a time, one longer than a CPU's chunk; frozen elements between them. Group 1 has
/// two segments, group 2 none.
std::shared_ptr<const Arena> small_arena() {
  auto a = std::make_shared<Arena>();
  a->masks = {{0b10010}, {0xA5A50FF1, 0x2B}, {0b0110}};
  a->segments = {{.value_offset = 3,
                  .state_offset = 0,
                  .size = 20,
                  .lr_scale = 0.3,
                  .decay = 0.2,
                  .row_size = 4,
                  .row_mask = a->masks[0].data(),
                  .rate_group = 1,
                  .first_step = 1},
                 {.value_offset = 31,
                  .state_offset = 20,
                  .size = 17,
                  .lr_scale = 1.5,
                  .decay = 0.05,
                  .row_size = 17,
                  .rate_group = 0},
                 {.value_offset = 50,
                  .state_offset = 40,
                  .size = 111,
                  .row_size = 3,
                  .row_mask = a->masks[1].data(),
                  .rate_group = 1,
                  .first_step = 3},
                 {.value_offset = 176,
                  .state_offset = 160,
                  .size = 32,
                  .lr_scale = 0.7,
                  .row_size = 8,
                  .row_mask = a->masks[2].data()},
                 {.value_offset = 212, .state_offset = 196, .size = 17003, .decay = 0.01, .row_size = 17003}};
  a->values = 17220, a->states = 17201;
  return a;
}

std::shared_ptr<const Arena> real_arena() {  // a quarter of ResNet-50's parameters
  auto a = std::make_shared<Arena>();
  for (std::int64_t i = 0; i < 40; ++i)
    a->segments.push_back({.value_offset = i * 159731,
                           .state_offset = i * 159731,
                           .size = 159731,
                           .row_size = 159731,
                           .rate_group = int(i % kGroups)});
  a->values = a->states = 40 * 159731;
  return a;
}

bool trains(const UpdateSegment& s, std::int64_t i) {
  const std::int64_t row = i / s.row_size;
  return !s.row_mask || (s.row_mask[row / 32] >> (row % 32) & 1);
}

/// Sets what `a` freezes to NaN, in the layout that `offset` names.
std::function<void(std::vector<double>&)> poison_frozen(std::shared_ptr<const Arena> a,
                                                        std::int64_t UpdateSegment::*offset) {
  return [a, offset](std::vector<double>& v) {
    std::vector<double> kept(v.size(), std::numeric_limits<double>::quiet_NaN());
    for (const UpdateSegment& s : a->segments)
      for (std::int64_t i = 0; i < s.size; ++i)
        if (trains(s, i)) kept[std::size_t(s.*offset + i)] = v[std::size_t(s.*offset + i)];
    v = kept;
  };
}

Operand control_operand(Operand o, double factor) {
  return o.of(DType::f64).adjusted([factor](std::vector<double>& v) {
    // Factor, norm, skipped steps, the gradients' scale, loss scale, good steps, the groups' rates.
    v = {factor, 3, 2, 1, 32, 6, 0.25, 0.625, 1};
  });
}

struct UpdateCase {
  PenaltySpec penalty;
  bool has_anchors = false, has_control = false, has_sums = false;
  double factor = 0.375;
  std::optional<DType> half = {};  // type of a 16-bit copy of the values
  bool has_clock = false, is_halted = false;
};

std::shared_ptr<const Arena> with_penalty(std::shared_ptr<const Arena> arena, const PenaltySpec& penalty) {
  auto copy = std::make_shared<Arena>(*arena);  // masks are on the heap of the original, which is kept below
  for (UpdateSegment& s : copy->segments) s.penalty = penalty;
  return {copy.get(), [copy, arena](const Arena*) {}};
}

template <class Step>
void add_update(std::vector<OpCase>& table, const std::string& name, const Step& step,
                std::shared_ptr<const Arena> plain, const UpdateCase& u = {}) {
  constexpr bool kAdam = std::is_same_v<Step, AdamStep>;
  const std::shared_ptr<const Arena> arena = with_penalty(plain, u.penalty);
  OpCase c{.call = kAdam ? "update:AdamStep" : "update:SgdStep", .name = "update/" + name};
  const Shape values{1, arena->values, 1, 1}, states{1, arena->states, 1, 1};
  const auto poison = poison_frozen(arena, &UpdateSegment::state_offset);
  c.operands = {updated("w", values), input("g", states).adjusted(poison), updated("m", states).adjusted(poison)};
  if (kAdam) c.operands.push_back(updated("v", states, uniform(0.01, 1)).adjusted(poison));
  if (u.has_anchors)
    c.operands.push_back(input("w0", values).adjusted(poison_frozen(arena, &UpdateSegment::value_offset)));
  if (u.has_control)
    c.operands.push_back(control_operand(input("control", {1, control_size(kGroups), 1, 1}), u.factor));
  if (u.has_sums) {
    c.operands.push_back(fresh("sums", {std::int64_t(arena->segments.size()), kUpdateSums, 1, 1}).of(DType::f64));
    c.terms = 20000;
  }
  if (u.half) c.operands.push_back(updated("half", values).of(*u.half));
  if (u.has_clock) {
    c.operands.push_back(input("clock", {1, 2, 1, 1}).of(DType::f64).adjusted([](auto& v) { v = {0.0625, 11}; }));
    c.operands.push_back(
        input("halt", {1, 1, 1, 1}).of(DType::f64).adjusted([u](auto& v) { v = {u.is_halted * 1.0}; }));
  }
  c.run = [step, arena, u](Backend& d, CaseOperands& o, Write) {
    d.update({.values = o["w"],
              .gradients = o["g"],
              .moment1 = o["m"],
              .moment2 = kAdam ? o["v"] : View{},
              .segments = arena->segments,
              .anchors = u.has_anchors ? o["w0"] : View{},
              .control = u.has_control ? o["control"] : View{},
              .sums = u.has_sums ? o["sums"] : View{},
              .half_values = u.half ? o["half"] : View{},
              .clock = u.has_clock ? o["clock"] : View{},
              .halt = u.has_clock ? o["halt"] : View{}},
             step);
  };
  table.push_back(c);
}

/// Every penalty: what it pulls to, how, and with or without the rest that a step may bring.
template <class Step>
void add_penalties(std::vector<OpCase>& table, const std::string& rule, const Step& step,
                   std::shared_ptr<const Arena> arena) {
  using enum PenaltyKind;
  using enum PenaltyMode;
  const std::pair<PenaltyKind, const char*> kinds[] = {{l2, "l2"}, {l1, "l1"}};
  const std::pair<PenaltyMode, const char*> modes[] = {
      {coupled, "coupled"}, {decoupled, "decoupled"}, {proximal, "proximal"}};
  for (const auto& [kind, kind_name] : kinds)
    for (const auto& [mode, mode_name] : modes)
      for (const bool to_anchor : {false, true}) {
        const std::string name = rule + "_" + kind_name + "_" + mode_name + (to_anchor ? "_to_anchor" : "");
        const PenaltySpec penalty{kind, mode, to_anchor, 0.6};
        add_update(table, name, step, arena, {.penalty = penalty, .has_anchors = to_anchor});
        add_update(table, name + "_all", step, arena,
                   {.penalty = penalty, .has_anchors = true, .has_control = true, .has_sums = true});
      }
}

/// Control starts with a loss scale of 32 and 6 good steps.
struct MeasureCase {
  MeasureSpec spec;
  bool is_finite = true;
};

void add_measure(std::vector<OpCase>& table, const std::string& name, std::shared_ptr<const Arena> arena,
                 const MeasureCase& m) {
  OpCase c{.call = "measure_gradients", .name = "measure_gradients/" + name};
  const auto poison_state = poison_frozen(arena, &UpdateSegment::state_offset);
  const auto gradients = [arena, poison_state, m](std::vector<double>& v) {
    poison_state(v);
    if (!m.is_finite) v[std::size_t(arena->segments.back().state_offset + 100)] = std::nan("");
  };
  c.operands = {input("w", {1, arena->values, 1, 1}).adjusted(poison_frozen(arena, &UpdateSegment::value_offset)),
                input("g", {1, arena->states, 1, 1}).adjusted(gradients),
                control_operand(updated("control", {1, control_size(kGroups), 1, 1}), 0.5)};
  if (m.spec.relative_rates)
    c.operands.push_back(updated("history", {kGroups, 1 + kWindow, 1, 1}).of(DType::f64).adjusted([](auto& v) {
      // Entries so far, then the ring: one that is not yet full, one that has come around, one that is empty.
      v = {2, 0.5, 0.25, 0, 0, 7, 3, 1, 2, 4, 0, 0, 0, 0, 0};
    }));
  c.terms = 20000;
  c.run = [arena, m](Backend& d, CaseOperands& o, Write) {
    MeasureSpec spec = m.spec;
    spec.groups = kGroups;
    d.measure_gradients(o["control"], spec.relative_rates ? o["history"] : View{},
                        {.values = o["w"], .gradients = o["g"], .segments = arena->segments}, spec);
  };
  table.push_back(c);
}

void add_measures(std::vector<OpCase>& table, std::shared_ptr<const Arena> arena, CaseSize size) {
  const MeasureSpec rates{.loss_scale = 4, .relative_rates = true, .epsilon = 0.03, .window = kWindow};
  add_measure(table, "relative_rates", arena, {rates});
  if (size == CaseSize::real) return;
  add_measure(table, "loss_scale", arena, {{.loss_scale = 8}});
  add_measure(table, "clipped", arena, {{.max_gradient_norm = 0.4}});
  add_measure(table, "not_clipped", arena, {{.loss_scale = 2, .max_gradient_norm = 1e4}});
  add_measure(table, "not_finite", arena, {rates, false});
  MeasureSpec scaled = rates;
  scaled.scales_loss = true, scaled.scaling = {.growth = 3, .backoff = 0.25, .interval = 8};
  add_measure(table, "scaled_loss", arena, {scaled});
  add_measure(table, "scaled_loss_not_finite", arena, {scaled, false});
  scaled.scaling.interval = 7;
  add_measure(table, "scaled_loss_grows", arena, {scaled});
  MeasureSpec small = rates;
  small.min_weight_norm = 4;  // group 0's weights are smaller
  add_measure(table, "small_weights", arena, {small});
}

}  // namespace

void add_update_cases(std::vector<OpCase>& table, CaseSize size) {
  const std::shared_ptr<const Arena> arena = size == CaseSize::real ? real_arena() : small_arena();
  const SgdStep sgd{.lr = 0.07, .momentum = 0.9, .step = 7};
  const AdamStep adam{.lr = 0.03, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3, .step = 7};
  SgdStep nesterov = sgd;
  nesterov.nesterov = true;
  AdamStep decoupled = adam;
  decoupled.decoupled = true;
  add_update(table, "sgd_momentum", sgd, arena);
  add_update(table, "adam", adam, arena);
  add_measures(table, arena, size);
  if (size == CaseSize::real) return;
  add_update(table, "sgd_plain", SgdStep{.lr = 0.11}, arena);
  add_update(table, "sgd_nesterov", nesterov, arena);
  add_update(table, "adamw", decoupled, arena);
  add_update(table, "sgd_control", nesterov, arena, {.has_control = true});
  add_update(table, "adamw_control_sums", decoupled, arena,
             {.has_anchors = true, .has_control = true, .has_sums = true});
  add_update(table, "adam_sums", adam, arena, {.has_sums = true});
  add_update(table, "sgd_clock", nesterov, arena, {.has_clock = true});
  add_update(table, "adam_clock", adam, arena, {.has_control = true, .has_clock = true});
  add_update(table, "adam_halted", adam, arena, {.has_clock = true, .is_halted = true});
  add_update(table, "sgd_halted_sums", sgd, arena, {.has_sums = true, .has_clock = true, .is_halted = true});
  add_update(table, "adam_skipped", adam, arena, {.has_control = true, .factor = 0});
  add_update(table, "adam_skipped_sums", adam, arena,
             {.penalty = {PenaltyKind::l2, PenaltyMode::decoupled, true, 0.6},
              .has_anchors = true,
              .has_control = true,
              .has_sums = true,
              .factor = 0});
  for (const DType half : {DType::bf16, DType::f16}) {
    const std::string name(to_string(half));
    add_update(table, "sgd_" + name, sgd, arena, {.half = half});
    add_update(table, "adam_sums_" + name, adam, arena, {.has_control = true, .has_sums = true, .half = half});
    add_update(table, "adam_skipped_sums_" + name, adam, arena,
               {.has_control = true, .has_sums = true, .factor = 0, .half = half});
  }
  add_penalties(table, "sgd", sgd, arena);
  add_penalties(table, "adam", adam, arena);
  add_penalties(table, "adamw", decoupled, arena);
}

}  // namespace graft
