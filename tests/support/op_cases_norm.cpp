// Batch-norm cases: each part alone, in every memory order and as channel slices, then whole chains from statistics to
// gradients, whose gradients can be checked.
#include "tests/support/op_cases.h"

namespace graft {
namespace {

constexpr double kEpsilon = 3e-3;  // not the default

/// A memory order for activations: all of one call share the format, each has its own pitch.
struct NormLayout {
  const char* name;
  Shape shape;
  Format format = kNhwc;
  std::int64_t unit = 0;  // slices begin and end at multiples of this many channels; 0: dense
  Operand operator()(Operand o, std::int64_t before, std::int64_t after) const {
    return o.in(format).slice(before * unit, after * unit).activation();
  }
};

std::vector<NormLayout> norm_layouts(CaseSize size) {
  if (size == CaseSize::real)
    return {{"layer1", {8, 256, 56, 56}}, {"layer1_blocks16", {8, 256, 56, 56}, {16}}, {"layer4", {8, 512, 7, 7}}};
  return {{"odd", {3, 5, 4, 7}},
          {"slice", {2, 6, 5, 3}, kNhwc, 1},
          {"nchw", {2, 7, 3, 5}, kNchw},
          {"blocks8_slice", {3, 24, 5, 2}, {8}, 8},
          {"blocks16", {2, 32, 3, 7}, {16}},
          {"many_pixels", {2, 19, 33, 35}},
          {"one_pixel", {9, 33, 1, 1}},
          {"quads", {2, 140, 9, 7}},  // channels that a GPU moves four at a time
          {"quads_slice", {3, 12, 5, 2}, kNhwc, 4},
          {"eights", {2, 264, 7, 9}},
          {"eights_slice", {3, 24, 5, 2}, kNhwc, 8}};
}

Operand stats_of(const NormLayout& l, const char* name = "stats") {
  return input(name, {2, l.shape.c, 1, 1}, uniform(0.3, 2));  // the means too: they may be anything
}
Operand gamma_of(const NormLayout& l, const char* name = "gamma") {
  return input(name, {1, l.shape.c, 1, 1}, uniform(0.5, 1.5));
}
Operand beta_of(const NormLayout& l, const char* name = "beta") { return input(name, {1, l.shape.c, 1, 1}); }

NormalizeArgs args(const CaseOperands& o, bool relu, const char* gamma = "gamma", const char* beta = "beta") {
  return {.stats = o["stats"], .gamma = o[gamma], .beta = o[beta], .epsilon = kEpsilon, .relu = relu};
}

std::string named(const char* call, const NormLayout& l, const char* variant) {
  return std::string(call) + "/" + l.name + variant;
}
double elements(const NormLayout& l) { return double(l.shape.n * l.shape.pixels()); }

void add_statistics(std::vector<OpCase>& table, const NormLayout& l) {
  OpCase c{.call = "batch_statistics", .name = named("batch_statistics", l, "")};
  c.operands = {fresh("stats", {2, l.shape.c, 1, 1}), l(input("x", l.shape, uniform(0, 3)), 1, 2)};
  c.terms = elements(l);
  c.run = [](Backend& d, CaseOperands& o, Write) { d.batch_statistics(o["stats"], o["x"]); };
  table.push_back(c);
}

void add_statistics_and_running(std::vector<OpCase>& table, const NormLayout& l) {
  OpCase c{.call = "batch_statistics_and_running", .name = named("batch_statistics_and_running", l, "")};
  c.operands = {fresh("stats", {2, l.shape.c, 1, 1}), updated("running", {2, l.shape.c, 1, 1}),
                l(input("x", l.shape, uniform(0, 3)), 1, 2)};
  c.terms = elements(l);
  c.run = [](Backend& d, CaseOperands& o, Write) {
    d.batch_statistics_and_running(o["stats"], o["running"], 0.3, o["x"]);
  };
  table.push_back(c);
}

void add_normalize(std::vector<OpCase>& table, const NormLayout& l, bool relu, bool residual) {
  OpCase c{.call = "normalize", .name = named("normalize", l, relu ? (residual ? "_residual_relu" : "_relu") : "")};
  c.operands = {l(fresh("y", l.shape), 2, 0), l(input("x", l.shape), 1, 2), stats_of(l), gamma_of(l), beta_of(l)};
  if (residual) c.operands.push_back(l(input("residual", l.shape), 0, 1));
  c.run = [=](Backend& d, CaseOperands& o, Write) {
    d.normalize(o["y"], o["x"], args(o, relu), residual ? ConstView(o["residual"]) : ConstView{});
  };
  table.push_back(c);
}

/// What every call that takes a norm's gradient sums has.
std::vector<Operand> grad_sum_operands(const NormLayout& l) {
  return {fresh("sums", {2, l.shape.c, 1, 1}),
          l(input("dy", l.shape), 0, 2),
          l(input("x", l.shape), 1, 0),
          stats_of(l),
          gamma_of(l),
          beta_of(l)};
}

/// The forward that writes a mask, and both gradients that read one: y is not shown to them.
void add_mask(std::vector<OpCase>& table, const NormLayout& l) {
  const Shape bits = relu_mask_shape(l.shape), per_channel{2, l.shape.c, 1, 1};
  const auto masked = [](const CaseOperands& o) {
    NormalizeArgs a = args(o, true);
    a.relu_mask = o["mask"];
    return a;
  };
  OpCase c{.call = "normalize", .name = named("normalize", l, "_mask")};
  c.needs_relu_masks = true;
  c.operands = {l(fresh("y", l.shape), 2, 0),
                l(input("x", l.shape), 1, 2),
                l(input("residual", l.shape), 0, 1),
                stats_of(l),
                gamma_of(l),
                beta_of(l),
                fresh("mask", bits).of(DType::u8)};
  c.run = [masked](Backend& d, CaseOperands& o, Write) { d.normalize(o["y"], o["x"], masked(o), o["residual"]); };
  table.push_back(c);

  OpCase sums{.call = "normalize_grad_sums", .name = named("normalize_grad_sums", l, "_mask")};
  sums.needs_relu_masks = true;
  sums.operands = grad_sum_operands(l);
  sums.operands.push_back(input("mask", bits, whole(256)).of(DType::u8));
  sums.terms = elements(l);
  sums.run = [masked](Backend& d, CaseOperands& o, Write) {
    d.normalize_grad_sums(o["sums"], o["dy"], {}, o["x"], masked(o));
  };
  table.push_back(sums);

  OpCase grad{.call = "normalize_grad", .name = named("normalize_grad", l, "_mask")};
  grad.needs_relu_masks = true;
  grad.operands = {l(input("dy", l.shape), 0, 2),
                   l(input("x", l.shape), 1, 0),
                   stats_of(l),
                   gamma_of(l),
                   beta_of(l),
                   l(output("dx", l.shape), 1, 2),
                   l(output("dresidual", l.shape), 2, 1),
                   input("sums", per_channel, uniform(-9, 9)),
                   input("mask", bits, whole(256)).of(DType::u8)};
  grad.run = [masked](Backend& d, CaseOperands& o, Write w) {
    d.normalize_grad(o["dx"], w, o["dresidual"], w, o["dy"], {}, o["x"], masked(o), o["sums"]);
  };
  table.push_back(grad);
}

void add_grad_sums(std::vector<OpCase>& table, const NormLayout& l, bool relu) {
  OpCase c{.call = "normalize_grad_sums", .name = named("normalize_grad_sums", l, relu ? "_relu" : "")};
  c.operands = grad_sum_operands(l);
  if (relu) c.operands.push_back(l(input("y", l.shape, separated(0.1, 1)), 1, 1));
  c.terms = elements(l);
  c.run = [=](Backend& d, CaseOperands& o, Write) {
    d.normalize_grad_sums(o["sums"], o["dy"], relu ? ConstView(o["y"]) : ConstView{}, o["x"], args(o, relu));
  };
  table.push_back(c);
}

/// With all that the sums give besides, or with a part of it.
void add_parameter_grads(std::vector<OpCase>& table, const NormLayout& l, bool all) {
  OpCase c{.call = "normalize_parameter_grads",
           .name = named("normalize_parameter_grads", l, all ? "" : "_only_weighted")};
  const Shape per_channel{2, l.shape.c, 1, 1};
  c.operands = grad_sum_operands(l);
  c.operands.push_back(l(input("y", l.shape, separated(0.1, 1)), 1, 1));
  c.operands.push_back(output("weighted", per_channel));
  for (const char* name : {"dgamma", "dbeta"})
    if (all) c.operands.push_back(output(name, {1, l.shape.c, 1, 1}));
  c.terms = elements(l);
  c.run = [=](Backend& d, CaseOperands& o, Write w) {
    const auto of_all = [&](const char* name) { return all ? o[name] : View{}; };
    d.normalize_parameter_grads(o["sums"],
                                {.dgamma = of_all("dgamma"),
                                 .gamma_write = w,
                                 .dbeta = of_all("dbeta"),
                                 .beta_write = w,
                                 .weighted = o["weighted"],
                                 .weighted_write = w},
                                o["dy"], o["y"], o["x"], args(o, true));
  };
  table.push_back(c);
}

void add_relu_grad_and_sum(std::vector<OpCase>& table, const NormLayout& l) {
  OpCase c{.call = "relu_grad_and_sum", .name = named("relu_grad_and_sum", l, "")};
  c.operands = {l(fresh("g", l.shape), 1, 1), output("db", {1, l.shape.c, 1, 1}), l(input("dy", l.shape), 1, 1),
                l(input("y", l.shape), 1, 1)};
  c.terms = elements(l);
  c.run = [](Backend& d, CaseOperands& o, Write w) { d.relu_grad_and_sum(o["g"], o["db"], w, o["dy"], o["y"]); };
  table.push_back(c);
}

/// w [K,C,R,S] and the norm behind it.
void add_fold(std::vector<OpCase>& table, const char* name, const Shape& w, bool bias) {
  OpCase c{.call = "fold_normalize", .name = std::string("fold_normalize/") + name};
  const Shape vector{1, w.n, 1, 1};
  c.operands = {fresh("folded", w),
                fresh("shift", vector),
                input("w", w),
                input("stats", {2, w.n, 1, 1}, uniform(0.3, 2)),
                input("gamma", vector, uniform(0.5, 1.5)),
                input("beta", vector)};
  if (bias) c.operands.push_back(input("bias", vector));
  c.run = [bias](Backend& d, CaseOperands& o, Write) {
    d.fold_normalize(o["folded"], o["shift"], o["w"], bias ? ConstView(o["bias"]) : ConstView{}, args(o, false));
  };
  table.push_back(c);
}

struct GradVariant {
  const char* name;
  bool batch, relu, dx, dresidual;
};

void add_grad(std::vector<OpCase>& table, const NormLayout& l, const GradVariant& v) {
  OpCase c{.call = "normalize_grad", .name = named("normalize_grad", l, v.name)};
  c.operands = {l(input("dy", l.shape), 0, 2), l(input("x", l.shape), 1, 0), stats_of(l), gamma_of(l), beta_of(l)};
  if (v.dx) c.operands.push_back(l(output("dx", l.shape), 1, 2));
  if (v.dresidual) c.operands.push_back(l(output("dresidual", l.shape), 2, 1));
  if (v.relu) c.operands.push_back(l(input("y", l.shape, separated(0.1, 1)), 1, 1));
  if (v.batch) c.operands.push_back(input("sums", {2, l.shape.c, 1, 1}, uniform(-9, 9)));
  c.run = [v](Backend& d, CaseOperands& o, Write w) {
    d.normalize_grad(v.dx ? o["dx"] : View{}, w, v.dresidual ? o["dresidual"] : View{}, w, o["dy"],
                     v.relu ? ConstView(o["y"]) : ConstView{}, o["x"], args(o, v.relu),
                     v.batch ? ConstView(o["sums"]) : ConstView{});
  };
  table.push_back(c);
}

void add_grad_mixed_writes(std::vector<OpCase>& table, const NormLayout& l, bool dx_adds) {
  OpCase c{.call = "normalize_grad",
           .name = named("normalize_grad", l, dx_adds ? "_only_dx_adds" : "_only_dx_overwrites")};
  const auto role = [&](const char* name, bool adds) { return adds ? updated(name, l.shape) : fresh(name, l.shape); };
  c.operands = {l(role("dx", dx_adds), 1, 2),
                l(role("dresidual", !dx_adds), 2, 1),
                l(input("dy", l.shape), 0, 2),
                l(input("x", l.shape), 1, 0),
                l(input("y", l.shape, separated(0.1, 1)), 1, 1),
                stats_of(l),
                gamma_of(l),
                beta_of(l),
                input("sums", {2, l.shape.c, 1, 1}, uniform(-9, 9))};
  c.run = [dx_adds](Backend& d, CaseOperands& o, Write) {
    d.normalize_grad(o["dx"], dx_adds ? Write::add : Write::overwrite, o["dresidual"],
                     dx_adds ? Write::overwrite : Write::add, o["dy"], o["y"], o["x"], args(o, true), o["sums"]);
  };
  table.push_back(c);
}

void add_correction(std::vector<OpCase>& table, const NormLayout& l) {
  OpCase c{.call = "normalize_grad_correction", .name = named("normalize_grad_correction", l, "")};
  c.operands = {l(updated("dx", l.shape), 1, 2), l(input("x", l.shape), 1, 0), stats_of(l),
                input("weighted", {2, l.shape.c, 1, 1}, uniform(-9, 9))};
  c.run = [](Backend& d, CaseOperands& o, Write) {
    d.normalize_grad_correction(o["dx"], o["x"], o["stats"], kEpsilon, o["weighted"]);
  };
  table.push_back(c);
}

void add_running(std::vector<OpCase>& table, const char* name, std::int64_t channels, std::int64_t count) {
  OpCase c{.call = "update_running", .name = std::string("update_running/") + name};
  c.operands = {updated("running", {2, channels, 1, 1}), input("stats", {2, channels, 1, 1}, uniform(0.1, 2))};
  c.run = [count](Backend& d, CaseOperands& o, Write) { d.update_running(o["running"], o["stats"], 0.3, count); };
  table.push_back(c);
}

/// Statistics (of the batch, or fixed), normalisation and its gradients by x, gamma, beta and the residual.
void add_chain(std::vector<OpCase>& table, const NormLayout& l, bool batch, bool relu, bool residual) {
  OpCase c{
      .call = "normalize_grad",
      .name = named("chain", l, batch ? "_batch" : "_fixed") + (relu ? "_relu" : "") + (residual ? "_residual" : "")};
  const Shape per_channel{2, l.shape.c, 1, 1};
  // Far from the ReLU's kink: |xhat| is above 0.4, gamma above 0.8, and beta and the residual cannot make up for it.
  c.operands = {l(input("x", l.shape, separated(0.6, 1.4)), 1, 2),
                batch ? fresh("stats", per_channel)
                      : input("stats", per_channel).adjusted([channels = l.shape.c](std::vector<double>& v) {
                          for (std::size_t i = 0; i < v.size(); ++i)
                            v[i] = std::int64_t(i) < channels ? v[i] * 0.1 : 0.5 + v[i] * v[i];
                        }),
                input("gamma", {1, l.shape.c, 1, 1}, uniform(0.8, 1.4)),
                input("beta", {1, l.shape.c, 1, 1}, uniform(-0.1, 0.1)),
                l(fresh("y", l.shape), 0, 1),
                l(input("dy", l.shape), 2, 0),
                fresh("sums", per_channel),
                l(output("dx", l.shape), 1, 0)};
  if (residual) {
    c.operands.push_back(l(input("residual", l.shape, uniform(-0.1, 0.1)), 0, 2));
    c.operands.push_back(l(output("dresidual", l.shape), 1, 1));
  }
  c.terms = elements(l);
  c.forward = [=](Backend& d, CaseOperands& o) {
    if (batch) d.batch_statistics(o["stats"], o["x"]);
    d.normalize(o["y"], o["x"], args(o, relu), residual ? ConstView(o["residual"]) : ConstView{});
  };
  c.run = [=, forward = c.forward](Backend& d, CaseOperands& o, Write w) {
    forward(d, o);
    const ConstView y = relu ? ConstView(o["y"]) : ConstView{};
    d.normalize_grad_sums(o["sums"], o["dy"], y, o["x"], args(o, relu));
    d.normalize_grad(o["dx"], w, residual ? o["dresidual"] : View{}, w, o["dy"], y, o["x"], args(o, relu),
                     batch ? ConstView(o["sums"]) : ConstView{});
  };
  c.objective = {{"y", "dy"}};
  c.claims = {{"dx", "x"}, {"sums", "beta"}, {"sums", "gamma", l.shape.c}};
  if (residual) c.claims.push_back({"dresidual", "residual"});
  table.push_back(c);
  if (batch) c.call = "normalize_grad_sums", table.push_back(c), table.back().name += "_sums";
}

/// Scale's and shift's gradients alone.
void add_parameter_chain(std::vector<OpCase>& table, const NormLayout& l) {
  OpCase c{.call = "normalize_parameter_grads", .name = named("chain", l, "_parameters")};
  const Shape per_channel{2, l.shape.c, 1, 1}, vector{1, l.shape.c, 1, 1};
  c.operands = {l(input("x", l.shape), 1, 2),
                input("stats", per_channel, uniform(0.5, 1)),
                input("gamma", vector, uniform(0.8, 1.4)),
                input("beta", vector),
                l(fresh("y", l.shape), 0, 1),
                l(input("dy", l.shape), 2, 0),
                fresh("sums", per_channel),
                output("dgamma", vector),
                output("dbeta", vector)};
  c.terms = elements(l);
  c.forward = [](Backend& d, CaseOperands& o) { d.normalize(o["y"], o["x"], args(o, false), {}); };
  c.run = [forward = c.forward](Backend& d, CaseOperands& o, Write w) {
    forward(d, o);
    d.normalize_parameter_grads(
        o["sums"], {.dgamma = o["dgamma"], .gamma_write = w, .dbeta = o["dbeta"], .beta_write = w, .weighted = {}},
        o["dy"], {}, o["x"], args(o, false));
  };
  c.objective = {{"y", "dy"}};
  c.claims = {{"dgamma", "gamma"}, {"dbeta", "beta"}};
  table.push_back(c);
}

/// y = ReLU(x), and the gradient behind it.
void add_relu_chain(std::vector<OpCase>& table, const NormLayout& l) {
  OpCase c{.call = "relu_grad_and_sum", .name = named("chain", l, "_relu_grad_and_sum")};
  c.operands = {l(input("x", l.shape, separated(0.1, 1)), 1, 2), l(fresh("y", l.shape), 0, 1),
                l(input("dy", l.shape), 2, 0), l(fresh("g", l.shape), 1, 0), output("db", {1, l.shape.c, 1, 1})};
  c.terms = elements(l);
  c.forward = [](Backend& d, CaseOperands& o) { d.map(Relu{}, o["y"], Write::overwrite, {o["x"]}); };
  c.run = [forward = c.forward](Backend& d, CaseOperands& o, Write w) {
    forward(d, o);
    d.relu_grad_and_sum(o["g"], o["db"], w, o["dy"], o["y"]);
  };
  c.objective = {{"y", "dy"}};
  c.claims = {{"g", "x"}};
  table.push_back(c);
}

/// DenseNet's way: two consumers normalise one x with shared batch statistics; each hands back its gradient as if these
/// were fixed, and one correction adds the statistics' part.
void add_shared_chain(std::vector<OpCase>& table, const NormLayout& l) {
  OpCase c{.call = "normalize_grad_correction", .name = named("chain", l, "_shared")};
  const Shape per_channel{2, l.shape.c, 1, 1}, vector{1, l.shape.c, 1, 1};
  c.operands = {l(input("x", l.shape, separated(0.6, 1.4)), 1, 2), fresh("stats", per_channel),
                l(output("dx", l.shape), 1, 0), fresh("weighted", per_channel)};
  for (const std::string i : {"1", "2"})
    for (const Operand& o :
         {input("gamma" + i, vector, uniform(0.8, 1.4)), input("beta" + i, vector, uniform(-0.1, 0.1)),
          l(fresh("y" + i, l.shape), 0, 1), l(input("dy" + i, l.shape), 2, 0), fresh("sums" + i, per_channel)})
      c.operands.push_back(o);
  c.terms = elements(l);
  c.forward = [](Backend& d, CaseOperands& o) {
    d.batch_statistics(o["stats"], o["x"]);
    d.normalize(o["y1"], o["x"], args(o, true, "gamma1", "beta1"), {});
    d.normalize(o["y2"], o["x"], args(o, true, "gamma2", "beta2"), {});
  };
  c.run = [forward = c.forward](Backend& d, CaseOperands& o, Write w) {
    forward(d, o);
    for (const std::string i : {"1", "2"}) {
      const NormalizeArgs a = args(o, true, i == "1" ? "gamma1" : "gamma2", i == "1" ? "beta1" : "beta2");
      const Write write = i == "1" ? Write::overwrite : Write::add;
      d.normalize_grad_sums(o["sums" + i], o["dy" + i], o["y" + i], o["x"], a);
      d.normalize_grad(o["dx"], i == "1" ? w : Write::add, {}, write, o["dy" + i], o["y" + i], o["x"], a, {});
      for (const std::int64_t row : {0, 1})
        d.map(Multiply{}, o.row("weighted", row), write, {o["gamma" + i], o.row("sums" + i, row)});
    }
    d.normalize_grad_correction(o["dx"], o["x"], o["stats"], kEpsilon, o["weighted"]);
  };
  c.stores = 3;
  c.objective = {{"y1", "dy1"}, {"y2", "dy2"}};
  c.claims = {{"dx", "x"}, {"sums2", "beta2"}, {"sums1", "gamma1", l.shape.c}};
  table.push_back(c);
}

}  // namespace

void add_norm_cases(std::vector<OpCase>& table, CaseSize size) {
  for (const NormLayout& l : norm_layouts(size)) {
    add_statistics(table, l);
    add_statistics_and_running(table, l);
    add_parameter_grads(table, l, true);
    add_relu_grad_and_sum(table, l);
    add_normalize(table, l, true, true);
    add_grad_sums(table, l, true);
    add_grad(table, l, {"_batch_relu_residual", true, true, true, true});
    add_correction(table, l);
    add_mask(table, l);
  }
  const NormLayout first = norm_layouts(size)[0];
  add_normalize(table, first, false, false);
  add_normalize(table, first, true, false);
  add_grad_sums(table, first, false);
  add_parameter_grads(table, first, false);
  add_grad(table, first, {"_fixed_relu", false, true, true, false});
  add_grad(table, first, {"_batch", true, false, true, false});
  add_grad(table, first, {"_only_residual_relu", true, true, false, true});
  add_running(table, size == CaseSize::real ? "layer4" : "odd", size == CaseSize::real ? 2048 : 5, 12);
  if (size == CaseSize::real) return add_fold(table, "layer4_3x3", {512, 512, 3, 3}, false);
  add_fold(table, "odd", {5, 3, 2, 4}, false);
  add_fold(table, "odd_bias", {19, 7, 3, 1}, true);
  add_fold(table, "1x1_bias", {33, 66, 1, 1}, true);
  add_running(table, "one_element", 7, 1);
  add_grad_mixed_writes(table, first, true);
  add_grad_mixed_writes(table, first, false);
}

void add_norm_chains(std::vector<OpCase>& table) {
  const std::vector<NormLayout> all = norm_layouts(CaseSize::small);
  for (const NormLayout& l : {all[0], all[1], all[3]}) {
    for (const bool batch : {false, true}) {
      add_chain(table, l, batch, true, true);
      add_chain(table, l, batch, false, false);
    }
    add_shared_chain(table, l);
    add_parameter_chain(table, l);
    add_relu_chain(table, l);
  }
}

}  // namespace graft
