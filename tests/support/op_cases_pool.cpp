// Pooling and softmax cross-entropy cases.
#include <algorithm>
#include <cmath>

#include "tests/support/op_cases.h"

namespace graft {
namespace {

struct PoolCase {
  const char* name;
  PoolSpec spec;
  Format format = kNhwc;
  std::int64_t before = 0, after = 0;  // channels around y and dy in their buffer
};

std::vector<PoolCase> max_pools(CaseSize size) {
  if (size == CaseSize::real)
    return {{"resnet", {.x = {8, 64, 112, 112}, .window_h = 3, .window_w = 3, .pad_h = 1, .pad_w = 1}},
            {"vgg_blocks16", {.x = {4, 64, 224, 224}}, {16}}};
  return {
      {"odd",
       {.x = {2, 5, 11, 10}, .window_h = 5, .window_w = 4, .stride_h = 3, .stride_w = 2, .pad_h = 2, .pad_w = 1}},
      {"resnet_blocks16", {.x = {2, 16, 9, 8}, .window_h = 3, .window_w = 3, .pad_h = 1, .pad_w = 1}, {16}},
      {"vgg_blocks8", {.x = {1, 24, 7, 6}}, {8}},
      {"into_slice", {.x = {2, 19, 5, 8}, .window_h = 3, .window_w = 2, .stride_h = 1, .pad_h = 1}, kNhwc, 3, 2},
      // Windows that a GPU has kernels for, at odd sizes, in slices, and where channels go one at a time.
      {"halving_3x3", {.x = {2, 16, 13, 9}, .window_h = 3, .window_w = 3, .pad_h = 1, .pad_w = 1}, kNhwc, 8, 8},
      {"halving_3x3_square", {.x = {3, 8, 7, 7}, .window_h = 3, .window_w = 3, .pad_h = 1, .pad_w = 1}},
      {"halving_3x3_singles", {.x = {2, 5, 8, 7}, .window_h = 3, .window_w = 3, .pad_h = 1, .pad_w = 1}, kNhwc, 3, 2},
      {"halving_3x3_one_pixel", {.x = {2, 3, 1, 1}, .window_h = 3, .window_w = 3, .pad_h = 1, .pad_w = 1}},
      {"halving_2x2", {.x = {2, 16, 13, 9}}, kNhwc, 8, 8},
      {"halving_2x2_singles", {.x = {3, 5, 7, 7}}, kNhwc, 3, 2},
      {"nchw", {.x = {2, 3, 6, 7}, .window_h = 2, .window_w = 3, .stride_h = 2, .stride_w = 1}, kNchw},
      // Channels that a GPU moves four, and eight, at a time; the same for averages below.
      {"quads", {.x = {2, 12, 5, 7}, .window_h = 3, .window_w = 2, .stride_w = 1, .pad_h = 1}, kNhwc, 4, 8},
      {"eights", {.x = {1, 16, 4, 5}, .window_h = 2, .window_w = 3, .stride_w = 1, .pad_h = 1}, kNhwc, 8, 16}};
}

std::vector<PoolCase> avg_pools(CaseSize size) {
  if (size == CaseSize::real) return {{"densenet", {.x = {8, 128, 56, 56}}}};
  const PoolSpec odd{
      .x = {2, 5, 11, 10}, .window_h = 5, .window_w = 4, .stride_h = 3, .stride_w = 2, .pad_h = 2, .pad_w = 1};
  PoolSpec inside = odd;
  inside.count_padding = false;
  return {{"odd", odd},
          {"odd_inside_only", inside},
          {"densenet_blocks16", {.x = {2, 32, 7, 8}}, {16}},
          {"into_slice", {.x = {2, 70, 4, 6}}, kNhwc, 1, 4},
          {"halving", {.x = {2, 16, 13, 9}}, kNhwc, 8, 8},
          {"halving_strips", {.x = {420, 8, 9, 2}}},
          {"halving_singles", {.x = {3, 5, 7, 7}}, kNhwc, 3, 2},
          {"quads", {.x = {2, 12, 5, 7}, .window_h = 3, .window_w = 2, .stride_w = 1, .pad_h = 1}, kNhwc, 4, 8},
          {"eights", {.x = {1, 16, 4, 5}, .window_h = 2, .window_w = 3, .stride_w = 1, .pad_h = 1}, kNhwc, 8, 16}};
}

struct AdaptiveCase {
  const char* name;
  Shape x;
  std::int64_t out_h, out_w;
  Format x_format = kNhwc, y_format = kNhwc;
  Shape y() const { return {x.n, x.c, out_h, out_w}; }
};

std::vector<AdaptiveCase> adaptive_pools(CaseSize size) {
  if (size == CaseSize::real)
    return {{"resnet_head", {32, 2048, 7, 7}, 1, 1}, {"vgg", {8, 512, 7, 7}, 7, 7, {16}, kNhwc}};
  return {{"odd", {2, 5, 10, 9}, 4, 7},     {"to_one_blocks16", {3, 32, 5, 4}, 1, 1, {16}, kNhwc},
          {"upwards", {2, 70, 2, 3}, 7, 5}, {"blocks8", {2, 24, 7, 6}, 3, 2, {8}, {8}},
          {"quads", {2, 12, 7, 6}, 3, 4},   {"eights", {1, 16, 7, 6}, 4, 3}};
}

void add_max(std::vector<OpCase>& table, const PoolCase& p, bool ties) {
  const PoolSpec s = p.spec;
  const std::string name = std::string(p.name) + (ties ? "_ties" : "");
  OpCase c{.call = "max_pool", .name = "max_pool/" + name};
  c.operands = {fresh("y", s.y()).in(p.format).slice(p.before, p.after),
                fresh("index", s.y()).in(p.format).of(DType::u8),
                input("x", s.x, ties ? whole(3) : distinct()).in(p.format)};
  c.exact = true;
  c.run = [s](Backend& d, CaseOperands& o, Write) { d.max_pool(s, o["y"], o["index"], o["x"]); };
  table.push_back(c);
  if (ties) return;

  OpCase g{.call = "max_pool_grad", .name = "max_pool_grad/" + name};
  g.operands = c.operands;
  g.operands.push_back(output("dx", s.x).in(p.format));
  g.operands.push_back(input("dy", s.y()).in(p.format).slice(p.after, p.before));
  g.terms = double(s.window_h * s.window_w);
  g.forward = [s](Backend& d, CaseOperands& o) { d.max_pool(s, o["y"], o["index"], o["x"]); };
  g.run = [s](Backend& d, CaseOperands& o, Write w) {
    d.max_pool(s, o["y"], o["index"], o["x"]);
    d.max_pool_grad(s, o["dx"], w, o["dy"], o["index"]);
  };
  g.objective = {{"y", "dy"}};
  g.claims = {{"dx", "x"}};
  table.push_back(g);
}

void add_avg(std::vector<OpCase>& table, const PoolCase& p) {
  const PoolSpec s = p.spec;
  OpCase c{.call = "avg_pool", .name = std::string("avg_pool/") + p.name};
  c.operands = {fresh("y", s.y()).in(p.format).slice(p.before, p.after), input("x", s.x).in(p.format)};
  c.terms = double(s.window_h * s.window_w);
  c.run = [s](Backend& d, CaseOperands& o, Write) { d.avg_pool(s, o["y"], o["x"]); };
  table.push_back(c);

  OpCase g{.call = "avg_pool_grad", .name = std::string("avg_pool_grad/") + p.name};
  g.operands = {output("dx", s.x).in(p.format), input("dy", s.y()).in(p.format).slice(p.after, p.before),
                aside("x", s.x).in(p.format), aside("y", s.y()).in(p.format)};
  g.terms = c.terms;
  g.run = [s](Backend& d, CaseOperands& o, Write w) { d.avg_pool_grad(s, o["dx"], w, o["dy"]); };
  g.forward = [s](Backend& d, CaseOperands& o) { d.avg_pool(s, o["y"], o["x"]); };
  g.objective = {{"y", "dy"}};
  g.claims = {{"dx", "x"}};
  table.push_back(g);
}

void add_adaptive(std::vector<OpCase>& table, const AdaptiveCase& a) {
  OpCase c{.call = "adaptive_avg_pool", .name = std::string("adaptive_avg_pool/") + a.name};
  c.operands = {fresh("y", a.y()).in(a.y_format), input("x", a.x).in(a.x_format)};
  c.terms = double(a.x.pixels());
  c.run = [](Backend& d, CaseOperands& o, Write) { d.adaptive_avg_pool(o["y"], o["x"]); };
  table.push_back(c);

  OpCase g{.call = "adaptive_avg_pool_grad", .name = std::string("adaptive_avg_pool_grad/") + a.name};
  g.operands = {output("dx", a.x).in(a.x_format), input("dy", a.y()).in(a.y_format), aside("x", a.x).in(a.x_format),
                aside("y", a.y()).in(a.y_format)};
  g.terms = double(a.out_h * a.out_w);
  g.run = [](Backend& d, CaseOperands& o, Write w) { d.adaptive_avg_pool_grad(o["dx"], w, o["dy"]); };
  g.forward = [](Backend& d, CaseOperands& o) { d.adaptive_avg_pool(o["y"], o["x"]); };
  g.objective = {{"y", "dy"}};
  g.claims = {{"dx", "x"}};
  table.push_back(g);
}

struct SoftmaxCase {
  const char* name;
  std::int64_t rows, classes;
  double smoothing;
  bool weights;
  double logits;  // their magnitude
};

void add_softmax(std::vector<OpCase>& table, const SoftmaxCase& s) {
  const Shape logits{s.rows, s.classes, 1, 1}, one{1, 1, 1, 1};
  OpCase c{.call = "softmax_cross_entropy", .name = std::string("softmax_cross_entropy/") + s.name};
  c.operands = {fresh("loss", one), fresh("probabilities", logits),
                input("logits", logits, uniform(-s.logits, s.logits)).activation(),
                input("labels", {s.rows, 1, 1, 1}, whole(double(s.classes))).of(DType::i32),
                input("weights", {1, s.classes, 1, 1}, uniform(0.2, 3))};
  c.terms = double(s.classes + s.rows);
  const auto spec = [s](const CaseOperands& o) {
    return SoftmaxSpec{s.smoothing, s.weights ? ConstView(o["weights"]) : ConstView{}};
  };
  c.forward = [spec](Backend& d, CaseOperands& o) {
    d.softmax_cross_entropy(o["loss"], o["probabilities"], o["logits"], o["labels"], spec(o));
  };
  c.run = [forward = c.forward](Backend& d, CaseOperands& o, Write) { forward(d, o); };
  table.push_back(c);

  OpCase g = c;
  g.call = "softmax_cross_entropy_grad";
  g.name = std::string("softmax_cross_entropy_grad/") + s.name;
  g.operands.push_back(output("dlogits", logits).activation());
  g.operands.push_back(input("dloss", one, uniform(0.4, 0.9)));
  g.run = [forward = c.forward, spec](Backend& d, CaseOperands& o, Write w) {
    forward(d, o);
    d.softmax_cross_entropy_grad(o["dlogits"], w, o["dloss"], o["probabilities"], o["labels"], spec(o));
  };
  g.objective = {{"loss", "dloss"}};
  g.claims = {{"dlogits", "logits"}};
  table.push_back(g);
}

struct SigmoidCase {
  const char* name;
  std::int64_t rows, classes, labels;
  double smoothing = 0;
  bool weights = false;
  double logits = 3;  // their magnitude
};

void add_sigmoid(std::vector<OpCase>& table, const SigmoidCase& s) {
  const Shape logits{s.rows, s.classes, 1, 1}, one{1, 1, 1, 1};
  OpCase c{.call = "sigmoid_cross_entropy", .name = std::string("sigmoid_cross_entropy/") + s.name};
  c.operands = {fresh("loss", one),
                fresh("probabilities", logits),
                input("logits", logits, uniform(-s.logits, s.logits)).activation(),
                input("labels", {s.rows, 1, 1, 1}, whole(double(s.labels))).of(DType::i32),
                input("targets", {s.labels, s.classes, 1, 1}, whole(2)),
                input("weights", {1, s.classes, 1, 1}, uniform(0.2, 3))};
  c.terms = double(s.classes + s.rows);
  const auto spec = [s](const CaseOperands& o) {
    return SigmoidSpec{o["targets"], s.smoothing, s.weights ? ConstView(o["weights"]) : ConstView{}};
  };
  c.forward = [spec](Backend& d, CaseOperands& o) {
    d.sigmoid_cross_entropy(o["loss"], o["probabilities"], o["logits"], o["labels"], spec(o));
  };
  c.run = [forward = c.forward](Backend& d, CaseOperands& o, Write) { forward(d, o); };
  table.push_back(c);

  OpCase g = c;
  g.call = "sigmoid_cross_entropy_grad";
  g.name = std::string("sigmoid_cross_entropy_grad/") + s.name;
  g.operands.push_back(output("dlogits", logits).activation());
  g.operands.push_back(input("dloss", one, uniform(0.4, 0.9)));
  g.run = [forward = c.forward, spec](Backend& d, CaseOperands& o, Write w) {
    forward(d, o);
    d.sigmoid_cross_entropy_grad(o["dlogits"], w, o["dloss"], o["probabilities"], o["labels"], spec(o));
  };
  g.objective = {{"loss", "dloss"}};
  g.claims = {{"dlogits", "logits"}};
  table.push_back(g);
}

struct ReportCase {
  const char* name;
  std::int64_t rows, classes;
  bool has_penalty = false;
  double loss = 1.5, halted = 0;
  bool has_nan = false;  // among the probabilities
  bool has_targets = false;
};

void add_report(std::vector<OpCase>& table, const ReportCase& r) {
  OpCase c{.call = "report_batch", .name = std::string("report_batch/") + r.name};
  const auto one_number = [](double value) { return [value](std::vector<double>& v) { v = {value}; }; };
  // Few different values, so that many rows have several largest ones.
  const auto probabilities = [r](std::vector<double>& v) {
    if (r.has_nan) v[0] = v[v.size() - 2] = std::nan("");  // in front of the first row, within the last
  };
  c.operands = {updated("report", {1, kReportSize, 1, 1}).of(DType::f64).adjusted([r](std::vector<double>& v) {
                  v = {7, 7, 7, r.halted};
                }),
                input("loss", {1, 1, 1, 1}).adjusted(one_number(r.loss)),
                input("penalty", {1, 1, 1, 1}, uniform(0.4, 0.9)),
                input("p", {r.rows, r.classes, 1, 1}, whole(4)).adjusted(probabilities),
                input("labels", {r.rows, 1, 1, 1}, whole(double(std::min<std::int64_t>(3, r.classes)))).of(DType::i32),
                input("targets", {3, r.classes, 1, 1}, whole(2))};
  c.exact = true;
  c.run = [r](Backend& d, CaseOperands& o, Write) {
    d.report_batch(o["report"], o["loss"], r.has_penalty ? ConstView(o["penalty"]) : ConstView{}, o["p"], o["labels"],
                   r.has_targets ? ConstView(o["targets"]) : ConstView{});
  };
  table.push_back(c);
}

}  // namespace

void add_report_cases(std::vector<OpCase>& table, CaseSize size) {
  if (size == CaseSize::real) return add_report(table, {"imagenet", 256, 1000});
  add_report(table, {"plain", 41, 5});
  add_report(table, {"penalty", 3, 2, true});
  add_report(table, {"many_classes", 9, 77, true});
  add_report(table, {"one_class", 2, 1});
  add_report(table, {.name = "targets", .rows = 37, .classes = 45, .has_penalty = true, .has_targets = true});
  add_report(table, {.name = "nan", .rows = 4, .classes = 35, .has_nan = true});
  add_report(table, {.name = "halts", .rows = 4, .classes = 3, .loss = std::nan("")});
  add_report(table, {.name = "stays_halted", .rows = 4, .classes = 3, .halted = 1});
}

void add_pool_cases(std::vector<OpCase>& table, CaseSize size) {
  const std::size_t before = table.size();
  for (const PoolCase& p : max_pools(size)) add_max(table, p, false);
  if (size == CaseSize::small) add_max(table, max_pools(size)[0], true), add_max(table, max_pools(size)[1], true);
  for (const PoolCase& p : avg_pools(size)) add_avg(table, p);
  for (const AdaptiveCase& a : adaptive_pools(size)) add_adaptive(table, a);
  for (std::size_t i = before; i < table.size(); ++i)
    for (Operand& o : table[i].operands) o.is_activation = !o.dtype;
}

void add_softmax_cases(std::vector<OpCase>& table, CaseSize size) {
  if (size == CaseSize::real) {
    add_softmax(table, {"imagenet", 32, 1000, 0.1, true, 5});
    return add_sigmoid(table, {.name = "findings", .rows = 256, .classes = 14, .labels = 800, .weights = true});
  }
  add_softmax(table, {"plain", 5, 7, 0, false, 3});
  add_softmax(table, {"weights", 6, 3, 0, true, 3});
  add_softmax(table, {"smoothing", 4, 9, 0.2, false, 3});
  add_softmax(table, {"weights_smoothing", 7, 5, 0.1, true, 3});
  add_softmax(table, {"many_classes", 3, 1001, 0.3, true, 3});
  add_softmax(table, {"large_logits", 5, 4, 0.1, true, 300});
  add_sigmoid(table, {.name = "plain", .rows = 5, .classes = 7, .labels = 4});
  add_sigmoid(table, {.name = "weights", .rows = 6, .classes = 3, .labels = 2, .weights = true});
  add_sigmoid(table,
              {.name = "weights_smoothing", .rows = 7, .classes = 131, .labels = 9, .smoothing = 0.1, .weights = true});
  add_sigmoid(table, {.name = "large_logits", .rows = 5, .classes = 4, .labels = 3, .weights = true, .logits = 300});
}

}  // namespace graft
