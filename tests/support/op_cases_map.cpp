// Cases of the element-wise formulas, of copies between memory orders, and of the optimizers' pass.
#include <cmath>
#include <limits>
#include <memory>
#include <type_traits>

#include "tests/support/op_cases.h"

namespace graft {
namespace {

/// Where the operands of an element-wise call lie.
struct MapLayout {
  const char* name;
  Shape shape;
  Format format = kNhwc;
  std::int64_t unit = 0;  // slices begin and end at multiples of this many channels
  Operand operator()(Operand o, std::int64_t before, std::int64_t after) const {
    return o.in(format).slice(before * unit, after * unit);
  }
};

std::vector<MapLayout> layouts(CaseSize size) {
  if (size == CaseSize::real) return {{"layer1", {8, 256, 56, 56}}};
  return {{"odd", {3, 5, 4, 7}}, {"slice", {2, 6, 5, 3}, kNhwc, 1}, {"blocks8_slice", {2, 24, 3, 5}, {8}, 8}};
}

template <class F>
OpCase map_case(const std::string& functor, const MapLayout& l, const F& f) {
  OpCase c{.call = "map:" + functor, .name = functor + "/" + l.name};
  c.functor = functor_index<F>(static_cast<const MapFunctors*>(nullptr));
  static const char* const kNames[] = {"a", "b", "c"};
  c.operands = {l(output("y", l.shape), 1, 2)};
  for (int i = 0; i < F::kInputs; ++i) c.operands.push_back(l(input(kNames[i], l.shape, uniform(-2, 2)), 2 - i, i));
  c.run = [f](Backend& d, CaseOperands& o, Write w) {
    if constexpr (F::kInputs == 1) d.map(f, o["y"], w, {o["a"]});
    if constexpr (F::kInputs == 2) d.map(f, o["y"], w, {o["a"], o["b"]});
    if constexpr (F::kInputs == 3) d.map(f, o["y"], w, {o["a"], o["b"], o["c"]});
  };
  return c;
}

/// The gradient of y = forward(x), computed by run from dy (and y) into dx.
OpCase gradient_case(const std::string& functor, const MapLayout& l, RunCase forward, RunCase run) {
  OpCase c{.call = "map:" + functor, .name = functor + "/" + l.name + "_gradient"};
  c.operands = {l(output("dx", l.shape), 1, 2), l(input("dy", l.shape), 0, 1),
                l(input("x", l.shape, separated(0.1, 2)), 2, 1), l(input("other", l.shape), 1, 1),
                l(fresh("y", l.shape), 1, 0)};
  c.forward = [forward](Backend& d, CaseOperands& o) { forward(d, o, Write::overwrite); };
  c.run = [forward, run](Backend& d, CaseOperands& o, Write w) {
    forward(d, o, Write::overwrite);
    run(d, o, w);
  };
  c.objective = {{"y", "dy"}};
  c.claims = {{"dx", "x"}};
  return c;
}

void add_maps(std::vector<OpCase>& table, const MapLayout& l, CaseSize size) {
  const Dropout dropout{.p = 0.3, .seed = 0x1234567890abcdef, .call = 5};
  const Scale scale{.factor = -1.7};
  OpCase relu = map_case("Relu", l, Relu{}), relu_grad = map_case("ReluGrad", l, ReluGrad{}),
         identity = map_case("Identity", l, Identity{});
  relu.exact = relu_grad.exact = identity.exact = true;
  for (const OpCase& c : {relu, relu_grad, identity, map_case("Add", l, Add{}), map_case("Multiply", l, Multiply{}),
                          map_case("Scale", l, scale), map_case("Dropout", l, dropout)})
    table.push_back(c);
  if (size == CaseSize::real) return;

  const auto unary = [](auto f, const char* out, const char* in) -> RunCase {
    return [=](Backend& d, CaseOperands& o, Write w) { d.map(f, o[out], w, {o[in]}); };
  };
  const auto binary = [](auto f, const char* out, const char* a, const char* b) -> RunCase {
    return [=](Backend& d, CaseOperands& o, Write w) { d.map(f, o[out], w, {o[a], o[b]}); };
  };
  table.push_back(gradient_case("ReluGrad", l, unary(Relu{}, "y", "x"), binary(ReluGrad{}, "dx", "dy", "y")));
  table.push_back(gradient_case("Add", l, binary(Add{}, "y", "other", "x"), unary(Identity{}, "dx", "dy")));
  table.push_back(
      gradient_case("Multiply", l, binary(Multiply{}, "y", "x", "other"), binary(Multiply{}, "dx", "dy", "other")));
  table.push_back(gradient_case("Scale", l, unary(scale, "y", "x"), unary(scale, "dx", "dy")));
  table.push_back(gradient_case("Dropout", l, unary(dropout, "y", "x"), unary(dropout, "dx", "dy")));
}

void add_copy(std::vector<OpCase>& table, const std::string& name, const Operand& y, const Operand& x) {
  OpCase c{.call = "copy", .name = "copy/" + name};
  c.operands = {y, x};
  c.exact = true;
  c.run = [](Backend& d, CaseOperands& o, Write w) { d.copy(o["y"], w, o["x"]); };
  table.push_back(c);
}

/// Three parameters in the arenas: one with 3 of 5 rows frozen, one whole, one with more rows than a mask word has
/// bits; frozen elements between them. Frozen gradients and moments are NaN: a visit would carry them into the values.
struct Arena {
  std::int64_t values = 0, states = 0;
  std::vector<UpdateSegment> segments;
  std::vector<std::vector<std::uint32_t>> masks;
};

std::shared_ptr<const Arena> small_arena() {
  auto a = std::make_shared<Arena>();
  a->masks = {{0b10010}, {0xA5A50FF1, 0x2B}};
  a->segments = {{.value_offset = 3,
                  .state_offset = 0,
                  .size = 20,
                  .lr_scale = 0.3,
                  .decay = 0.2,
                  .row_size = 4,
                  .row_mask = a->masks[0].data()},
                 {.value_offset = 31, .state_offset = 20, .size = 17, .lr_scale = 1.5, .decay = 0.05, .row_size = 17},
                 {.value_offset = 50, .state_offset = 40, .size = 111, .row_size = 3, .row_mask = a->masks[1].data()}};
  a->values = 170, a->states = 155;
  return a;
}

std::shared_ptr<const Arena> real_arena() {  // a quarter of ResNet-50's parameters
  auto a = std::make_shared<Arena>();
  for (std::int64_t i = 0; i < 40; ++i)
    a->segments.push_back({.value_offset = i * 159731, .state_offset = i * 159731, .size = 159731, .row_size = 159731});
  a->values = a->states = 40 * 159731;
  return a;
}

/// Sets the gradients or moments of what `a` freezes to NaN.
std::function<void(std::vector<double>&)> poison_frozen(std::shared_ptr<const Arena> a) {
  return [a](std::vector<double>& v) {
    std::vector<double> kept(v.size(), std::numeric_limits<double>::quiet_NaN());
    for (const UpdateSegment& s : a->segments)
      for (std::int64_t i = 0; i < s.size; ++i) {
        const std::int64_t row = i / s.row_size;
        if (s.row_mask && !(s.row_mask[row / 32] >> (row % 32) & 1)) continue;
        const std::size_t at = std::size_t(s.state_offset + i);
        kept[at] = v[at];
      }
    v = kept;
  };
}

template <class Step>
void add_update(std::vector<OpCase>& table, const std::string& call, const std::string& name, const Step& step,
                std::shared_ptr<const Arena> arena) {
  OpCase c{.call = "update:" + call, .name = "update/" + name};
  const Shape values{1, arena->values, 1, 1}, states{1, arena->states, 1, 1};
  c.operands = {updated("w", values), input("g", states).adjusted(poison_frozen(arena)),
                updated("m", states).adjusted(poison_frozen(arena))};
  constexpr bool kAdam = std::is_same_v<Step, AdamStep>;
  if (kAdam) c.operands.push_back(updated("v", states, uniform(0.01, 1)).adjusted(poison_frozen(arena)));
  c.run = [step, arena](Backend& d, CaseOperands& o, Write) {
    d.update({.values = o["w"],
              .gradients = o["g"],
              .moment1 = o["m"],
              .moment2 = kAdam ? o["v"] : View{},
              .segments = arena->segments},
             step);
  };
  table.push_back(c);
}

}  // namespace

void add_map_cases(std::vector<OpCase>& table, CaseSize size) {
  for (const MapLayout& l : layouts(size)) add_maps(table, l, size);
}

void add_copy_cases(std::vector<OpCase>& table, CaseSize size) {
  const bool real = size == CaseSize::real;
  const Shape s = real ? Shape{8, 256, 56, 56} : Shape{2, 48, 3, 5}, odd{3, 5, 4, 7};
  const Operand y = output("y", s), x = input("x", s);
  add_copy(table, "nhwc_to_blocks8", y.in({8}), x);
  add_copy(table, "blocks16_to_nhwc", y, x.in({16}));
  if (real) return;
  add_copy(table, "nhwc", y, x);
  add_copy(table, "blocks8_to_blocks16", y.in({16}), x.in({8}));
  add_copy(table, "blocks16_to_nchw", y.in(kNchw), x.in({16}));
  add_copy(table, "nchw_to_nhwc", output("y", odd), input("x", odd).in(kNchw));
  add_copy(table, "slice_to_slice", output("y", odd).slice(2, 3), input("x", odd).slice(4, 1));
  add_copy(table, "blocks8_slice_to_blocks16_slice", y.in({16}).slice(16, 32), x.in({8}).slice(24, 8));
  add_copy(table, "nhwc_slice_to_nchw", output("y", odd).in(kNchw).slice(1, 2), input("x", odd).slice(0, 3));
  add_copy(table, "f32_to_f64", output("y", odd).of(DType::f64), input("x", odd).of(DType::f32).in(kNchw));
  add_copy(table, "f64_to_f32", output("y", odd).of(DType::f32).in(kNchw), input("x", odd).of(DType::f64).slice(1, 0));
  add_copy(table, "f32_to_f32", output("y", odd).of(DType::f32), input("x", odd).of(DType::f32));
  add_copy(table, "f64_to_f64", output("y", odd).of(DType::f64), input("x", odd).of(DType::f64));
}

void add_update_cases(std::vector<OpCase>& table, CaseSize size) {
  const std::shared_ptr<const Arena> arena = size == CaseSize::real ? real_arena() : small_arena();
  const SgdStep sgd{.lr = 0.07, .momentum = 0.9};
  const AdamStep adam{
      .lr = 0.03, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3, .correction1 = 0.36, .correction2 = 0.1};
  SgdStep nesterov = sgd;
  nesterov.nesterov = true;
  AdamStep decoupled = adam;
  decoupled.decoupled = true;
  add_update(table, "SgdStep", "sgd_momentum", sgd, arena);
  add_update(table, "AdamStep", "adam", adam, arena);
  if (size == CaseSize::real) return;
  add_update(table, "SgdStep", "sgd_plain", SgdStep{.lr = 0.11}, arena);
  add_update(table, "SgdStep", "sgd_nesterov", nesterov, arena);
  add_update(table, "AdamStep", "adamw", decoupled, arena);
}

}  // namespace graft
