// A norm, its ReLU and the pointwise convolution behind it, as one call: of shapes that a GPU's kernel takes, and of
// others, which a device computes by its parts.
#include "tests/support/op_cases.h"

namespace graft {
namespace {

constexpr double kConvEpsilon = 3e-3;  // not the default

struct NormConv {
  const char* name;
  ConvSpec spec;
  std::int64_t before = 0, after = 0;  // channels of x's buffer; dx's are the other way round

  Shape weight() const { return {spec.k, spec.x.c, 1, 1}; }
  Operand x(Operand o) const { return o.from(FormatFrom::conv_x).slice(before, after).activation(); }
  Operand dx(Operand o) const { return o.from(FormatFrom::conv_x).slice(after, before).activation(); }
  Operand y(Operand o) const { return o.from(FormatFrom::conv_y).activation(); }
  OpCase of(const char* call, const char* variant = "") const {
    OpCase c{.call = call, .name = std::string(call) + "/" + name + variant};
    c.conv = spec;
    c.flops = 2.0 * double(spec.weight_size() * spec.x.n * spec.x.pixels());
    c.stores = 2;  // what lies between is rounded
    c.objective = {{"y", "dy"}};
    return c;
  }
};

/// Sizes that a GPU's kernels treat differently are one formula to the reference, and central differences run it twice
/// for each element: those of the smaller layers, with and without slices, tell what there is to tell.
bool claims_gradients(const NormConv& l) { return l.spec.x.size() < 10000; }

std::vector<NormConv> layers(CaseSize size) {
  if (size == CaseSize::real)
    return {{"block1", {.x = {16, 128, 56, 56}, .k = 128}, 0, 128},
            {"block3", {.x = {16, 640, 14, 14}, .k = 128}, 0, 384},
            {"block4", {.x = {16, 768, 7, 7}, .k = 128}, 0, 256}};
  // More pixels than a GPU's blocks have tiles for, a last tile that is cut, and three steps in each.
  if (size == CaseSize::large) return {{"tiles", {.x = {1, 96, 264, 265}, .k = 128}, 0, 32}};
  return {
      {"odd", {.x = {2, 5, 4, 3}, .k = 7}},
      {"bottleneck", {.x = {3, 96, 7, 9}, .k = 128}, 32, 16},
      {"deep", {.x = {1, 160, 5, 9}, .k = 128}, 0, 32},
      {"many", {.x = {2, 96, 17, 16}, .k = 128}, 16, 0},  // more than a block of a GPU takes at once, in three steps
      {"narrow", {.x = {2, 32, 3, 3}, .k = 128}}};
}

/// Far from the ReLU's kink, as in op_cases_norm.cpp.
std::vector<Operand> inputs(const NormConv& l) {
  const std::int64_t channels = l.spec.x.c;
  const Shape vector{1, channels, 1, 1};
  return {l.x(input("x", l.spec.x, separated(0.6, 1.4))),
          input("stats", {2, channels, 1, 1}).adjusted([channels](std::vector<double>& v) {
            for (std::size_t i = 0; i < v.size(); ++i)
              v[i] = std::int64_t(i) < channels ? v[i] * 0.1 : 0.5 + v[i] * v[i];
          }),
          input("gamma", vector, uniform(0.8, 1.4)), input("beta", vector, uniform(-0.1, 0.1))};
}

NormalizeArgs args(const CaseOperands& o) {
  return {.stats = o["stats"], .gamma = o["gamma"], .beta = o["beta"], .epsilon = kConvEpsilon, .relu = true};
}

enum class Epilogue { none, bias, bias_and_relu, statistics, running };

void add_forward(std::vector<OpCase>& table, const NormConv& l, Epilogue epilogue) {
  constexpr const char* kVariants[] = {"", "_bias", "_bias_relu", "_statistics", "_running"};
  OpCase c = l.of("norm_conv", kVariants[int(epilogue)]);
  const bool has_bias = epilogue == Epilogue::bias || epilogue == Epilogue::bias_and_relu;
  const bool has_statistics = epilogue == Epilogue::statistics || epilogue == Epilogue::running;
  const Shape per_channel{2, l.spec.k, 1, 1};
  c.operands = inputs(l);
  c.operands.push_back(input("w", l.weight()).activation());
  c.operands.push_back(l.y(fresh("y", l.spec.y())));
  if (has_bias) c.operands.push_back(input("bias", {1, l.spec.k, 1, 1})), c.stores = 3;
  if (has_statistics) c.operands.push_back(fresh("y_stats", per_channel).by_way_of_activation());
  if (epilogue == Epilogue::running) c.operands.push_back(updated("running", per_channel).by_way_of_activation());
  c.terms = double(l.spec.x.c);
  c.run = [=, s = l.spec](Backend& d, CaseOperands& o, Write) {
    d.norm_conv(s, o["y"],
                {.bias = has_bias ? ConstView(o["bias"]) : ConstView{},
                 .relu = epilogue == Epilogue::bias_and_relu,
                 .stats = has_statistics ? o["y_stats"] : View{},
                 .running = epilogue == Epilogue::running ? o["running"] : View{},
                 .momentum = 0.3},
                o["x"], args(o), o.weight("w"));
  };
  c.objective.clear();
  table.push_back(c);
}

void forward(const ConvSpec& s, Backend& d, CaseOperands& o) {
  d.norm_conv(s, o["y"], {}, o["x"], args(o), o.weight("w"));
}

void add_weight_grad(std::vector<OpCase>& table, const NormConv& l) {
  OpCase c = l.of("norm_conv_weight_grad");
  c.operands = inputs(l);
  for (const Operand& o : {l.y(input("dy", l.spec.y())), output("dw", l.weight()).by_way_of_activation(),
                           aside("w", l.weight()).activation(), l.y(aside("y", l.spec.y()))})
    c.operands.push_back(o);
  c.terms = double(l.spec.x.n * l.spec.x.pixels());
  c.run = [s = l.spec](Backend& d, CaseOperands& o, Write w) {
    d.norm_conv_weight_grad(s, o["dw"], w, o["dy"], o["x"], args(o));
  };
  c.forward = [s = l.spec](Backend& d, CaseOperands& o) { forward(s, d, o); };
  if (claims_gradients(l)) c.claims = {{"dw", "w"}};
  table.push_back(c);
}

/// With all that the sums give and dx, or without dx.
void add_data_grad(std::vector<OpCase>& table, const NormConv& l, bool has_dx) {
  OpCase c = l.of("norm_conv_data_grad", has_dx ? "" : "_only_sums");
  const std::int64_t channels = l.spec.x.c;
  const Shape per_channel{2, channels, 1, 1}, vector{1, channels, 1, 1};
  c.operands = inputs(l);
  for (const Operand& o :
       {input("w", l.weight()).activation(), l.y(input("dy", l.spec.y())), l.y(aside("y", l.spec.y())),
        fresh("sums", per_channel).by_way_of_activation(), output("weighted", per_channel).by_way_of_activation(),
        output("dgamma", vector).by_way_of_activation(), output("dbeta", vector).by_way_of_activation()})
    c.operands.push_back(o);
  if (has_dx) c.operands.push_back(l.dx(output("dx", l.spec.x)));
  c.terms = double(l.spec.k * l.spec.x.n * l.spec.x.pixels());
  c.stores = 3;  // its gradient too
  c.run = [s = l.spec, has_dx](Backend& d, CaseOperands& o, Write w) {
    d.norm_conv_data_grad(s, has_dx ? o["dx"] : View{}, w, o["sums"],
                          {.dgamma = o["dgamma"],
                           .gamma_write = w,
                           .dbeta = o["dbeta"],
                           .beta_write = w,
                           .weighted = o["weighted"],
                           .weighted_write = w},
                          o["dy"], o["x"], args(o), o.weight("w"));
  };
  c.forward = [s = l.spec](Backend& d, CaseOperands& o) { forward(s, d, o); };
  if (claims_gradients(l)) {
    c.claims = {{"sums", "beta"}, {"sums", "gamma", channels}, {"dgamma", "gamma"}, {"dbeta", "beta"}};
    if (has_dx) c.claims.push_back({"dx", "x"});
  }
  table.push_back(c);
}

}  // namespace

void add_norm_conv_cases(std::vector<OpCase>& table, CaseSize size) {
  for (const NormConv& l : layers(size)) {
    add_forward(table, l, Epilogue::running);
    add_weight_grad(table, l);
    add_data_grad(table, l, true);
  }
  if (size == CaseSize::large) return;
  const NormConv last = layers(size).back();
  for (const Epilogue e : {Epilogue::none, Epilogue::bias, Epilogue::bias_and_relu, Epilogue::statistics})
    add_forward(table, last, e);
  add_data_grad(table, last, false);
}

}  // namespace graft
