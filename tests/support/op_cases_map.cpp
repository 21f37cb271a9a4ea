// Cases of the element-wise formulas and of copies between memory orders.

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
    return o.in(format).slice(before * unit, after * unit).activation();
  }
};

std::vector<MapLayout> layouts(CaseSize size) {
  if (size == CaseSize::real) return {{"layer1", {8, 256, 56, 56}}};
  return {{"odd", {3, 5, 4, 7}},
          {"slice", {2, 6, 5, 3}, kNhwc, 1},
          {"eights_slice", {2, 8, 3, 5}, kNhwc, 8},  // channels that a GPU moves eight at a time
          {"blocks8_slice", {2, 24, 3, 5}, {8}, 8}};
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
  const Dropout dropout{.p = 0.3, .seed = 0x1234567890abcdef, .call = {5}};
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

/// Half the sum of squared differences of x and other, by SquaredDifference, and its gradient by ScaledDifference.
void add_distance(std::vector<OpCase>& table, const MapLayout& l, CaseSize size) {
  const SquaredDifference square{.factor = 0.7};
  OpCase c{.call = "map:ScaledDifference", .name = std::string("ScaledDifference/") + l.name};
  c.functor = functor_index<ScaledDifference>(static_cast<const MapFunctors*>(nullptr));
  c.operands = {l(output("dx", l.shape), 1, 2), l(input("x", l.shape, uniform(-2, 2)), 2, 1),
                l(input("other", l.shape), 1, 1), input("scale", {1, 1, 1, 1}, uniform(0.4, 0.9))};
  c.run = [=](Backend& d, CaseOperands& o, Write w) {
    d.map(ScaledDifference{2 * square.factor, o["scale"].data}, o["dx"], w, {o["x"], o["other"]});
  };
  if (size == CaseSize::small) {
    c.operands.push_back(l(aside("y", l.shape), 1, 0));
    c.operands.push_back(l(aside("dy", l.shape), 0, 1));
    c.forward = [=](Backend& d, CaseOperands& o) {
      d.map(square, o["y"], Write::overwrite, {o["x"], o["other"]});
      o.set("dy", std::vector<double>(std::size_t(l.shape.size()), o.values("scale")[0]));
    };
    c.objective = {{"y", "dy"}};
    c.claims = {{"dx", "x"}};
  }
  table.push_back(map_case("SquaredDifference", l, square));
  table.push_back(c);
}

/// Formulas that ask for a channel's number, so for NHWC alone.
void add_channel_choice(std::vector<OpCase>& table, const MapLayout& l, CaseSize size) {
  const ChannelChoice choice{.p = 0.4, .seed = 0x1234567890abcdef, .call = {7}, .channels = l.shape.c};
  const SelectChannels select{choice};
  const MaskChannels mask{choice};
  for (OpCase c : {map_case("SelectChannels", l, select), map_case("MaskChannels", l, mask)}) {
    c.exact = true;
    table.push_back(c);
  }
  if (size == CaseSize::real) return;
  table.push_back(gradient_case(
      "MaskChannels", l,
      [=](Backend& d, CaseOperands& o, Write w) {
        d.map(select, o["y"], w, {o["x"], o["other"]});
      },
      [=](Backend& d, CaseOperands& o, Write w) { d.map(mask, o["dx"], w, {o["dy"]}); }));
}

/// Random calls that count from a base on the device. `with_base` makes the functor.
template <class MakeFunctor>
OpCase counted_case(const std::string& functor, const MapLayout& l, const MakeFunctor& with_base) {
  using F = decltype(with_base(nullptr));
  OpCase c{.call = "map:" + functor, .name = functor + "/" + l.name + "_from_base"};
  c.functor = functor_index<F>(static_cast<const MapFunctors*>(nullptr));
  c.operands = {l(output("y", l.shape), 1, 2), l(input("a", l.shape, uniform(-2, 2)), 2, 1),
                input("base", {1, 1, 1, 1}).of(DType::f64).adjusted([](std::vector<double>& v) {
                  v = {16777216.0 * 250};  // more than a signed number of 32 bits holds
                })};
  c.run = [with_base](Backend& d, CaseOperands& o, Write w) {
    d.map(with_base(o["base"].as<double>()), o["y"], w, {o["a"]});
  };
  return c;
}

void add_counted(std::vector<OpCase>& table, const MapLayout& l) {
  table.push_back(counted_case("Dropout", l, [](const double* base) {
    return Dropout{.p = 0.3, .seed = 0x1234567890abcdef, .call = {5, base}};
  }));
  if (l.format != kNhwc) return;
  table.push_back(counted_case("MaskChannels", l, [channels = l.shape.c](const double* base) {
    return MaskChannels{{.p = 0.4, .seed = 0x1234567890abcdef, .call = {7, base}, .channels = channels}};
  }));
}

void add_scale_by(std::vector<OpCase>& table, const MapLayout& l) {
  OpCase c{.call = "map:ScaleBy", .name = std::string("ScaleBy/") + l.name};
  c.functor = functor_index<ScaleBy>(static_cast<const MapFunctors*>(nullptr));
  c.operands = {l(output("y", l.shape), 1, 2), l(input("a", l.shape, uniform(-2, 2)), 2, 1),
                input("scale", {1, 1, 1, 1}, uniform(0.4, 0.9))};
  c.run = [](Backend& d, CaseOperands& o, Write w) { d.map(ScaleBy{o["scale"].data}, o["y"], w, {o["a"]}); };
  table.push_back(c);
}

void add_copy(std::vector<OpCase>& table, const std::string& name, const Operand& y, const Operand& x) {
  OpCase c{.call = "copy", .name = "copy/" + name};
  c.operands = {y, x};
  c.exact = true;
  c.run = [](Backend& d, CaseOperands& o, Write w) { d.copy(o["y"], w, o["x"]); };
  table.push_back(c);
}

}  // namespace

void add_map_cases(std::vector<OpCase>& table, CaseSize size) {
  for (const MapLayout& l : layouts(size)) {
    add_maps(table, l, size);
    add_distance(table, l, size);
    add_scale_by(table, l);
    if (size == CaseSize::small) add_counted(table, l);
    if (l.format == kNhwc) add_channel_choice(table, l, size);
  }
}

/// `count` images of a set of `of`, some of them more than once.
void add_index_select(std::vector<OpCase>& table, const char* name, const Shape& image, std::int64_t of,
                      std::int64_t count) {
  OpCase c{.call = "index_select", .name = std::string("index_select/") + name};
  Shape x = image, y = image;
  x.n = of, y.n = count;
  c.operands = {fresh("y", y).activation(), input("x", x).activation(),
                input("index", {count, 1, 1, 1}, whole(double(of))).of(DType::i32)};
  c.exact = true;
  c.run = [](Backend& d, CaseOperands& o, Write) { d.index_select(o["y"], o["x"], o["index"]); };
  table.push_back(c);
}

void add_copy_cases(std::vector<OpCase>& table, CaseSize size) {
  const bool real = size == CaseSize::real;
  const Shape s = real ? Shape{8, 256, 56, 56} : Shape{2, 48, 3, 5}, odd{3, 5, 4, 7};
  const Operand y = output("y", s), x = input("x", s);
  add_copy(table, "nhwc_to_blocks8", y.in({8}), x);
  add_copy(table, "blocks16_to_nhwc", y, x.in({16}));
  if (real) return add_index_select(table, "layer3", {1, 1024, 14, 14}, 256, 64);
  add_index_select(table, "wide", {1, 16, 3, 5}, 7, 9);
  add_index_select(table, "narrow", {1, 3, 3, 5}, 5, 2);
  add_index_select(table, "pieces", {1, 64, 12, 12}, 3, 4);
  add_copy(table, "nhwc", y, x);
  add_copy(table, "blocks8_to_blocks16", y.in({16}), x.in({8}));
  add_copy(table, "blocks16_to_nchw", y.in(kNchw), x.in({16}));
  add_copy(table, "nchw_to_nhwc", output("y", odd), input("x", odd).in(kNchw));
  add_copy(table, "slice_to_slice", output("y", odd).slice(2, 3), input("x", odd).slice(4, 1));
  add_copy(table, "quads_slice_to_slice", output("y", s).slice(8, 4), input("x", s).slice(4, 12));
  add_copy(table, "blocks8_slice_to_blocks16_slice", y.in({16}).slice(16, 32), x.in({8}).slice(24, 8));
  add_copy(table, "nhwc_slice_to_nchw", output("y", odd).in(kNchw).slice(1, 2), input("x", odd).slice(0, 3));
  add_copy(table, "f32_to_f64", output("y", odd).of(DType::f64), input("x", odd).of(DType::f32).in(kNchw));
  add_copy(table, "f64_to_f32", output("y", odd).of(DType::f32).in(kNchw), input("x", odd).of(DType::f64).slice(1, 0));
  add_copy(table, "f32_to_f32", output("y", odd).of(DType::f32), input("x", odd).of(DType::f32));
  for (const DType half : {DType::bf16, DType::f16}) {
    const std::string name(to_string(half));
    const Operand yh = output("y", odd).of(half), xh = input("x", odd).of(half);
    add_copy(table, name + "_to_" + name, yh, xh.slice(1, 2));
    for (const DType wide : {DType::f32, DType::f64}) {
      const std::string wide_name(to_string(wide));
      const Operand yw = output("y", odd).of(wide), xw = input("x", odd).of(wide);
      add_copy(table, name + "_to_" + wide_name, yw.in(kNchw), xh);
      add_copy(table, wide_name + "_to_" + name, yh, xw.slice(2, 1));
      add_copy(table, name + "_to_" + wide_name + "_dense", yw, xh);
      add_copy(table, wide_name + "_to_" + name + "_dense", yh, xw);
    }
  }
  add_copy(table, "bf16_to_f16", output("y", odd).of(DType::f16), input("x", odd).of(DType::bf16));
  add_copy(table, "f16_to_bf16", output("y", odd).of(DType::bf16), input("x", odd).of(DType::f16));
  add_copy(table, "bf16_to_bf16_nchw", output("y", odd).of(DType::bf16), input("x", odd).of(DType::bf16).in(kNchw));
  add_copy(table, "f16_to_f16_nchw", output("y", odd).of(DType::f16).in(kNchw), input("x", odd).of(DType::f16));
  add_copy(table, "f64_to_f64", output("y", odd).of(DType::f64), input("x", odd).of(DType::f64));
}

}  // namespace graft
