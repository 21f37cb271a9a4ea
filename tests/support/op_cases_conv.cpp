// Convolution and linear cases. The convolutions are those of the three networks at small sizes, with channel counts
// that blocked formats hold, and two with every parameter different.
#include "tests/support/op_cases.h"

namespace graft {
namespace {

struct NamedSpec {
  const char* name;
  ConvSpec spec;
};

std::vector<NamedSpec> conv_specs(CaseSize size) {
  if (size == CaseSize::large)  // for kernels whose tiles depend on the number of images
    return {{"3x3_to_32_of_many", {.x = {41, 32, 57, 57}, .k = 32, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}},
            {"3x3_to_32_of_some", {.x = {23, 64, 57, 57}, .k = 32, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}}};
  if (size == CaseSize::real)  // ResNet-50 at 224 pixels, DenseNet's 128 -> 32
    return {{"stem_7x7",
             {.x = {8, 3, 224, 224}, .k = 64, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2, .pad_h = 3, .pad_w = 3}},
            {"layer1_3x3", {.x = {8, 64, 56, 56}, .k = 64, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}},
            {"layer1_1x1", {.x = {8, 64, 56, 56}, .k = 256}},
            {"layer2_3x3_stride2",
             {.x = {8, 128, 56, 56}, .k = 128, .r = 3, .s = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1}},
            {"layer3_1x1", {.x = {8, 1024, 14, 14}, .k = 256}},
            {"layer4_3x3", {.x = {8, 512, 7, 7}, .k = 512, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}},
            {"dense_3x3", {.x = {8, 128, 28, 28}, .k = 32, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}}};
  return {{"odd",
           {.x = {2, 5, 11, 14},
            .k = 6,
            .r = 3,
            .s = 4,
            .stride_h = 2,
            .stride_w = 3,
            .pad_h = 1,
            .pad_w = 2,
            .dilation_h = 3,
            .dilation_w = 4}},
          {"odd_blocks",
           {.x = {2, 16, 13, 10},
            .k = 32,
            .r = 2,
            .s = 3,
            .stride_h = 3,
            .stride_w = 1,
            .pad_h = 2,
            .pad_w = 4,
            .dilation_h = 4,
            .dilation_w = 2}},
          {"7x7_stride2",
           {.x = {2, 3, 17, 15}, .k = 16, .r = 7, .s = 7, .stride_h = 2, .stride_w = 2, .pad_h = 3, .pad_w = 3}},
          {"3x3_of_an_image", {.x = {2, 3, 6, 16}, .k = 16, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}},
          {"3x3_stride2",
           {.x = {2, 16, 10, 11}, .k = 32, .r = 3, .s = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1}},
          {"3x3", {.x = {3, 32, 7, 6}, .k = 16, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}},
          {"3x3_to_32", {.x = {2, 64, 9, 11}, .k = 32, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}},
          {"3x3_to_32_large", {.x = {3, 32, 13, 14}, .k = 32, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}},
          {"3x3_to_32_larger", {.x = {5, 32, 13, 15}, .k = 32, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}},
          {"3x3_to_32_widest", {.x = {1, 32, 5, 186}, .k = 32, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1}},
          {"3x3_to_many", {.x = {2, 2, 5, 4}, .k = 128, .r = 3, .s = 3, .stride_w = 2, .pad_h = 1, .pad_w = 1}},
          {"1x1_stride2", {.x = {3, 32, 8, 7}, .k = 16, .stride_h = 2, .stride_w = 2}},
          {"1x1", {.x = {2, 16, 5, 7}, .k = 48}},
          {"5x3", {.x = {2, 24, 6, 9}, .k = 8, .r = 5, .s = 3, .pad_h = 2, .pad_w = 1}},
          {"one_pixel", {.x = {1, 64, 1, 1}, .k = 32}},
          {"nothing_divides", {.x = {2, 17, 5, 9}, .k = 13, .r = 3, .s = 1, .stride_w = 2, .pad_h = 1}}};
}

Shape weight_shape(const ConvSpec& s) { return {s.k, s.x.c, s.r, s.s}; }

Operand conv_x(Operand o) { return o.from(FormatFrom::conv_x).activation(); }
Operand conv_y(Operand o) { return o.from(FormatFrom::conv_y).activation(); }
Operand conv_w(Operand o) { return o.activation(); }

double multiply_adds(const ConvSpec& s) { return double(s.weight_size()) * double(s.x.n * s.out_h() * s.out_w()); }

OpCase forward(const NamedSpec& n, bool bias, bool relu, bool residual = false) {
  const ConvSpec s = n.spec;
  OpCase c;
  c.call = "conv";
  c.name =
      std::string("conv/") + n.name + (bias ? "_bias" : "") + (residual ? "_residual" : "") + (relu ? "_relu" : "");
  c.operands = {conv_y(fresh("y", s.y())), conv_x(input("x", s.x)), conv_w(input("w", weight_shape(s)))};
  if (bias) c.operands.push_back(input("b", {1, s.k, 1, 1}));
  if (residual) c.operands.push_back(conv_y(input("residual", s.y())));
  c.conv = s;
  c.terms = double(s.r * s.s * s.x.c);
  c.stores = 1 + bias + residual;  // where the device does not fuse them; a ReLU rounds nothing
  c.flops = 2 * multiply_adds(s);
  c.run = [s, bias, relu, residual](Backend& d, CaseOperands& o, Write) {
    d.conv(s, o["y"], o["x"], o.weight("w"),
           {.bias = bias ? ConstView(o["b"]) : ConstView{},
            .relu = relu,
            .residual = residual ? ConstView(o["residual"]) : ConstView{}});
  };
  return c;
}

OpCase data_grad(const NamedSpec& n) {
  const ConvSpec s = n.spec;
  OpCase c;
  c.call = "conv_data_grad";
  c.name = std::string("conv_data_grad/") + n.name;
  c.operands = {conv_x(output("dx", s.x)), conv_y(input("dy", s.y())), conv_w(input("w", weight_shape(s))),
                conv_x(aside("x", s.x)), conv_y(aside("y", s.y()))};
  c.conv = s;
  c.terms = double(s.r * s.s * s.k);
  c.stores = 2;  // a device may add in a pass of its own
  c.flops = 2 * multiply_adds(s);
  c.run = [s](Backend& d, CaseOperands& o, Write w) { d.conv_data_grad(s, o["dx"], w, o["dy"], o.weight("w")); };
  c.forward = [s](Backend& d, CaseOperands& o) { d.conv(s, o["y"], o["x"], o.weight("w"), {}); };
  c.objective = {{"y", "dy"}};
  c.claims = {{"dx", "x"}};
  return c;
}

OpCase weight_grad(const NamedSpec& n) {
  const ConvSpec s = n.spec;
  OpCase c;
  c.call = "conv_weight_grad";
  c.name = std::string("conv_weight_grad/") + n.name;
  c.operands = {output("dw", weight_shape(s)).by_way_of_activation(), conv_y(input("dy", s.y())),
                conv_x(input("x", s.x)), conv_w(aside("w", weight_shape(s))), conv_y(aside("y", s.y()))};
  c.conv = s;
  c.terms = double(s.y().n * s.y().pixels());
  c.flops = 2 * multiply_adds(s);
  c.run = [s](Backend& d, CaseOperands& o, Write w) { d.conv_weight_grad(s, o["dw"], w, o["dy"], o["x"]); };
  c.forward = [s](Backend& d, CaseOperands& o) { d.conv(s, o["y"], o["x"], o.weight("w"), {}); };
  c.objective = {{"y", "dy"}};
  c.claims = {{"dw", "w"}};
  return c;
}

OpCase bias_grad(const NamedSpec& n) {
  const ConvSpec s = n.spec;
  OpCase c;
  c.call = "channel_sum";
  c.name = std::string("channel_sum/") + n.name;
  c.operands = {output("db", {1, s.k, 1, 1}),        conv_y(input("dy", s.y())), conv_x(aside("x", s.x)),
                conv_w(aside("w", weight_shape(s))), aside("b", {1, s.k, 1, 1}), conv_y(aside("y", s.y()))};
  c.conv = s;
  c.terms = double(s.y().n * s.y().pixels());
  c.run = [](Backend& d, CaseOperands& o, Write w) { d.channel_sum(o["db"], w, o["dy"]); };
  c.forward = [s](Backend& d, CaseOperands& o) { d.conv(s, o["y"], o["x"], o.weight("w"), {.bias = o["b"]}); };
  c.objective = {{"y", "dy"}};
  c.claims = {{"db", "b"}};
  return c;
}

struct LinearShape {
  const char* name;
  Shape x;
  std::int64_t outputs;
};

void add_linear(std::vector<OpCase>& table, const LinearShape& l) {
  const Shape y{l.x.n, l.outputs, 1, 1}, w{l.outputs, l.x.size() / l.x.n, 1, 1}, b{1, l.outputs, 1, 1};
  const double flops = 2.0 * double(l.x.size()) * double(l.outputs);
  for (const bool bias : {false, true}) {
    OpCase c{.call = "linear", .name = std::string("linear/") + l.name + (bias ? "_bias" : "")};
    c.operands = {fresh("y", y).activation(), input("x", l.x).activation(), input("w", w).activation(), input("b", b)};
    c.terms = double(w.c);
    c.stores = 1 + bias;
    c.flops = flops;
    c.run = [bias](Backend& d, CaseOperands& o, Write) {
      d.linear(o["y"], o["x"], o.weight("w"), bias ? ConstView(o["b"]) : ConstView{});
    };
    table.push_back(c);
  }
  const auto forward = [](Backend& d, CaseOperands& o) { d.linear(o["y"], o["x"], o.weight("w"), o["b"]); };

  OpCase data{.call = "linear_data_grad", .name = std::string("linear_data_grad/") + l.name};
  data.operands = {output("dx", l.x).activation(),
                   input("dy", y).activation(),
                   input("w", w).activation(),
                   aside("x", l.x).activation(),
                   aside("b", b),
                   aside("y", y).activation()};
  data.terms = double(l.outputs);
  data.stores = 2;
  data.flops = flops;
  data.run = [](Backend& d, CaseOperands& o, Write write) {
    d.linear_data_grad(o["dx"], write, o["dy"], o.weight("w"));
  };
  data.forward = forward;
  data.objective = {{"y", "dy"}};
  data.claims = {{"dx", "x"}};
  table.push_back(data);

  OpCase weight{.call = "linear_weight_grad", .name = std::string("linear_weight_grad/") + l.name};
  weight.operands = {
      output("dw", w), input("dy", y).activation(), input("x", l.x).activation(), aside("w", w).activation(),
      aside("b", b),   aside("y", y).activation()};
  weight.terms = double(l.x.n);
  weight.flops = flops;
  weight.run = [](Backend& d, CaseOperands& o, Write write) { d.linear_weight_grad(o["dw"], write, o["dy"], o["x"]); };
  weight.forward = forward;
  weight.objective = {{"y", "dy"}};
  weight.claims = {{"dw", "w"}};
  table.push_back(weight);

  OpCase sum{.call = "channel_sum", .name = std::string("channel_sum/linear_") + l.name};
  sum.operands = {
      output("db", b), input("dy", y).activation(), aside("w", w).activation(), aside("x", l.x).activation(),
      aside("b", b),   aside("y", y).activation()};
  sum.terms = double(l.x.n);
  sum.run = [](Backend& d, CaseOperands& o, Write write) { d.channel_sum(o["db"], write, o["dy"]); };
  sum.forward = forward;
  sum.objective = {{"y", "dy"}};
  sum.claims = {{"db", "b"}};
  table.push_back(sum);
}

}  // namespace

void add_conv_cases(std::vector<OpCase>& table, CaseSize size) {
  for (const NamedSpec& n : conv_specs(size)) {
    table.push_back(forward(n, false, false));
    if (size == CaseSize::large) {
      table.push_back(data_grad(n));
      table.push_back(weight_grad(n));
      continue;
    }
    table.push_back(forward(n, true, true));
    table.push_back(forward(n, true, true, true));
    table.push_back(data_grad(n));
    table.push_back(weight_grad(n));
    table.push_back(bias_grad(n));
  }
  if (size != CaseSize::small) return;
  const NamedSpec odd = conv_specs(size)[0], blocks = conv_specs(size)[4];
  for (const NamedSpec& n : {odd, blocks}) {
    table.push_back(forward(n, true, false));
    table.push_back(forward(n, false, true));
    table.push_back(forward(n, false, false, true));
    table.push_back(forward(n, true, false, true));
  }
}

void add_linear_cases(std::vector<OpCase>& table, CaseSize size) {
  if (size == CaseSize::real) {
    add_linear(table, {"resnet_head", {32, 2048, 1, 1}, 1000});
    add_linear(table, {"vgg_fc2", {8, 4096, 1, 1}, 4096});
    return;
  }
  add_linear(table, {"odd", {5, 7, 1, 1}, 3});
  add_linear(table, {"flattened", {4, 6, 2, 3}, 5});
  add_linear(table, {"one_row", {1, 65, 1, 1}, 33});
  add_linear(table, {"nearly_whole_tiles", {63, 72, 1, 1}, 67});
}

}  // namespace graft
