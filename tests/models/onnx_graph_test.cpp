// ONNX files are read back by a decoder of protocol buffers and run by a plain interpreter, written here from the
// operators' definitions alone: what it answers for a picture must be what the network answers. Other programs read the
// same files in tests/reference/check_exports.py.
#include "models/onnx_graph.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "models/network_io.h"
#include "models_testing.h"
#include "tests/data/data_testing.h"
#include "tests/data/protobuf_testing.h"

namespace graft {
namespace {

using testing::TemporaryFolder;
using namespace testing_protobuf;

/// N C H W, row-major.
struct Value {
  std::vector<std::int64_t> shape;
  std::vector<double> data;
  std::int64_t dim(std::size_t i) const { return i < shape.size() ? shape[i] : 1; }
};

Value made(std::vector<std::int64_t> shape, double fill = 0) {
  std::int64_t size = 1;
  for (std::int64_t s : shape) size *= s;
  return {std::move(shape), std::vector<double>(std::size_t(size), fill)};
}

struct Node {
  std::string op;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, std::vector<std::int64_t>> whole;
  double epsilon = 0;
};

Node node_of(std::string_view message) {
  Node node{.op = text(message, 4), .inputs = {}, .outputs = {}, .whole = {}};
  for (const Field& f : every(message, 1)) node.inputs.emplace_back(f.bytes);
  for (const Field& f : every(message, 2)) node.outputs.emplace_back(f.bytes);
  for (const Field& f : every(message, 5)) {
    const std::string name = text(f.bytes, 1);
    for (const Field& part : fields(f.bytes)) {
      if (part.number == 3 || part.number == 8) node.whole[name].push_back(std::int64_t(part.value));
      if (part.number != 2) continue;
      float number = 0;
      std::memcpy(&number, part.bytes.data(), 4);
      EXPECT_EQ(name, "epsilon");
      node.epsilon = number;
    }
  }
  return node;
}

/// Calls `use(output, input)` with offsets for every pair that a window joins, within one image and channel.
struct Windows {
  std::int64_t h, w, kh, kw, sh, sw, top, left, oh, ow;
  Windows(const Value& x, const Node& n, std::int64_t kernel_h, std::int64_t kernel_w)
      : h(x.dim(2)), w(x.dim(3)), kh(kernel_h), kw(kernel_w) {
    const auto& strides = n.whole.at("strides");
    const auto pads = n.whole.count("pads") ? n.whole.at("pads") : std::vector<std::int64_t>(4, 0);
    sh = strides[0], sw = strides[1], top = pads[0], left = pads[1];
    oh = (h + pads[0] + pads[2] - kh) / sh + 1, ow = (w + pads[1] + pads[3] - kw) / sw + 1;
  }
  template <class Use>
  void each(const Use& use) const {
    for (std::int64_t y = 0; y < oh; ++y)
      for (std::int64_t r = std::max<std::int64_t>(0, top - y * sh); r < std::min(kh, h + top - y * sh); ++r)
        for (std::int64_t s = 0; s < kw; ++s)
          for (std::int64_t x = 0; x < ow; ++x) {
            const std::int64_t column = x * sw + s - left;
            if (column >= 0 && column < w) use(y * ow + x, (y * sh + r - top) * w + column, r * kw + s);
          }
  }
};

Value conv(const Node& n, const Value& x, const Value& w, const Value* bias) {
  const Windows win(x, n, w.dim(2), w.dim(3));
  Value y = made({x.dim(0), w.dim(0), win.oh, win.ow});
  const std::int64_t in = win.h * win.w, out = win.oh * win.ow, area = win.kh * win.kw, channels = x.dim(1);
#pragma omp parallel for
  for (std::int64_t k = 0; k < w.dim(0); ++k)
    for (std::int64_t i = 0; i < x.dim(0); ++i) {
      double* to = y.data.data() + (i * w.dim(0) + k) * out;
      std::fill_n(to, out, bias ? bias->data[std::size_t(k)] : 0.0);
      for (std::int64_t c = 0; c < channels; ++c) {
        const double* from = x.data.data() + (i * channels + c) * in;
        const double* weight = w.data.data() + (k * channels + c) * area;
        win.each([&](std::int64_t o, std::int64_t at, std::int64_t tap) { to[o] += from[at] * weight[tap]; });
      }
    }
  return y;
}

Value pool(const Node& n, const Value& x, bool is_max) {
  const auto& kernel = n.whole.at("kernel_shape");
  const Windows win(x, n, kernel[0], kernel[1]);
  Value y = made({x.dim(0), x.dim(1), win.oh, win.ow}, is_max ? -std::numeric_limits<double>::infinity() : 0);
  for (std::int64_t i = 0; i < x.dim(0) * x.dim(1); ++i) {
    double* to = y.data.data() + i * win.oh * win.ow;
    const double* from = x.data.data() + i * win.h * win.w;
    win.each([&](std::int64_t o, std::int64_t at, std::int64_t) {
      to[o] = is_max ? std::max(to[o], from[at]) : to[o] + from[at] / double(win.kh * win.kw);
    });
  }
  return y;
}

/// One of the two is a matrix, the other [N,C,rows,columns].
Value matmul(const Value& a, const Value& b) {
  const std::int64_t rows = a.shape[a.shape.size() - 2], inner = a.shape.back(), columns = b.shape.back();
  const Value& many = a.shape.size() > 2 ? a : b;
  const std::int64_t count = many.dim(0) * many.dim(1);
  Value y = made({many.dim(0), many.dim(1), rows, columns});
  for (std::int64_t i = 0; i < count; ++i)
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c)
        for (std::int64_t k = 0; k < inner; ++k)
          y.data[std::size_t(((i * rows) + r) * columns + c)] +=
              a.data[std::size_t((a.shape.size() > 2 ? i * rows * inner : 0) + r * inner + k)] *
              b.data[std::size_t((b.shape.size() > 2 ? i * inner * columns : 0) + k * columns + c)];
  return y;
}

Value per_channel(Value x, const std::function<double(double, std::size_t)>& f) {
  const auto pixels = std::size_t(x.dim(2) * x.dim(3)), channels = std::size_t(x.dim(1));
  for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] = f(x.data[i], i / pixels % channels);
  return x;
}

Value concatenated(const std::vector<const Value*>& all) {
  std::int64_t channels = 0;
  for (const Value* v : all) channels += v->dim(1);
  Value y = made({all[0]->dim(0), channels, all[0]->dim(2), all[0]->dim(3)});
  auto to = y.data.begin();
  for (std::int64_t i = 0; i < y.dim(0); ++i)
    for (const Value* v : all) {
      const std::int64_t size = v->dim(1) * v->dim(2) * v->dim(3);
      to = std::copy_n(v->data.begin() + i * size, size, to);
    }
  return y;
}

Value gemm(const Value& x, const Value& w, const Value& bias) {
  Value y = made({x.dim(0), w.dim(0)});
  for (std::int64_t i = 0; i < x.dim(0); ++i)
    for (std::int64_t k = 0; k < w.dim(0); ++k) {
      double sum = bias.data[std::size_t(k)];
      for (std::int64_t c = 0; c < w.dim(1); ++c)
        sum += x.data[std::size_t(i * w.dim(1) + c)] * w.data[std::size_t(k * w.dim(1) + c)];
      y.data[std::size_t(i * w.dim(0) + k)] = sum;
    }
  return y;
}

Value run_node(const Node& n, const std::vector<const Value*>& in) {
  const Value& x = *in[0];
  if (n.op == "Conv") return conv(n, x, *in[1], in.size() > 2 ? in[2] : nullptr);
  if (n.op == "MaxPool" || n.op == "AveragePool") return pool(n, x, n.op == "MaxPool");
  if (n.op == "MatMul") return matmul(x, *in[1]);
  if (n.op == "Concat") return concatenated(in);
  if (n.op == "Gemm") {
    EXPECT_EQ(n.whole.at("transB"), std::vector<std::int64_t>{1});
    return gemm(x, *in[1], *in[2]);
  }
  if (n.op == "Relu") return per_channel(x, [](double v, std::size_t) { return v < 0 ? 0 : v; });
  if (n.op == "BatchNormalization")
    return per_channel(x, [&](double v, std::size_t c) {
      return (v - in[3]->data[c]) / std::sqrt(in[4]->data[c] + n.epsilon) * in[1]->data[c] + in[2]->data[c];
    });
  if (n.op == "Flatten") return {{x.dim(0), x.dim(1) * x.dim(2) * x.dim(3)}, x.data};
  if (n.op == "GlobalAveragePool") {
    Value y = made({x.dim(0), x.dim(1), 1, 1});
    const std::size_t pixels = x.data.size() / y.data.size();
    for (std::size_t i = 0; i < x.data.size(); ++i) y.data[i / pixels] += x.data[i] / double(pixels);
    return y;
  }
  if (n.op == "Add") {
    Value y = x;
    for (std::size_t i = 0; i < y.data.size(); ++i) y.data[i] += in[1]->data[i];
    return y;
  }
  throw Error("no operator " + n.op);
}

/// An ONNX file in memory.
class OnnxFile {
 public:
  explicit OnnxFile(const std::filesystem::path& path) : bytes_(read_text(path)), graph_(text(bytes_, 7)) {
    for (const Field& f : every(graph_, 5)) {
      Value value{{}, {}};
      for (const Field& d : every(f.bytes, 1)) value.shape.push_back(std::int64_t(d.value));
      EXPECT_EQ(every(f.bytes, 2)[0].value, 1u);  // float
      const std::string raw = text(f.bytes, 9);
      std::vector<float> floats(raw.size() / 4);
      std::memcpy(floats.data(), raw.data(), raw.size());
      value.data.assign(floats.begin(), floats.end());
      initializers_[text(f.bytes, 8)] = std::move(value);
    }
    for (const Field& f : every(graph_, 1)) nodes_.push_back(node_of(f.bytes));
    for (const Field& f : every(bytes_, 14)) metadata_[text(f.bytes, 1)] = text(f.bytes, 2);
  }

  Value run(const Value& images) const {
    std::map<std::string, Value> values = initializers_;
    values["images"] = images;
    for (const Node& n : nodes_) {
      std::vector<const Value*> in;
      for (const std::string& name : n.inputs) in.push_back(&values.at(name));  // throws: not in running order
      EXPECT_EQ(values.count(n.outputs.at(0)), 0u) << n.outputs[0] << " is written twice";
      values[n.outputs[0]] = run_node(n, in);
    }
    return values.at("logits");
  }

  const std::string& bytes() const { return bytes_; }
  const std::string& graph() const { return graph_; }
  const std::map<std::string, Value>& initializers() const { return initializers_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  std::int64_t count(std::string_view op) const {
    return std::ranges::count_if(nodes_, [&](const Node& n) { return n.op == op; });
  }

 private:
  std::string bytes_, graph_;
  std::map<std::string, Value> initializers_;
  std::vector<Node> nodes_;
  std::map<std::string, std::string> metadata_;
};

struct Case {
  std::string architecture, stride_on, head;
  double epsilon;
  std::int64_t size, batch = 2;
};

class OnnxGraphs : public ::testing::TestWithParam<Case> {};

TEST_P(OnnxGraphs, AnswerAsTheNetworkDoes) {
  const Case& c = GetParam();
  const TemporaryFolder folder;
  Context context(make_backend(test_device(DeviceKind::reference)));
  ModelInfo info{.architecture = c.architecture,
                 .stride_on = c.stride_on,
                 .bn_epsilon = c.epsilon,
                 .num_classes = 3,
                 .head = c.head,
                 .input_size = c.size};
  const auto network = make_network(context, info);
  fill_by_formula(*network);
  const ModelFile file{info, weights_of(*network)};
  write_onnx(folder / "model.onnx", onnx_graph(file));
  const OnnxFile onnx(folder / "model.onnx");

  context.set_training(false);
  const NoGrad no_grad(context);
  const Shape shape{c.batch, 3, c.size, c.size};  // the graph was written down with one image
  const std::vector<double> pixels = formula_values("images", shape.size(), 0, 2);
  const std::vector<double> expected = network->forward(from_host(context, shape, pixels)).to_host();
  const Value got = onnx.run({{c.batch, 3, c.size, c.size}, pixels});
  ASSERT_EQ(got.data.size(), expected.size());
  double largest = 0;
  for (double v : expected) largest = std::max(largest, std::abs(v));
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(got.data[i], expected[i], 1e-6 * largest);  // epsilon and averages are float32 in the file
  for (const WeightTensor& t : file.weights.tensors()) {
    EXPECT_EQ(onnx.initializers().at(t.name).shape, t.shape) << t.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Networks, OnnxGraphs,
                         ::testing::Values(Case{"resnet50", "3x3", "original", 1e-5, 40},
                                           Case{"resnet50", "1x1", "original", 1e-3, 33},
                                           Case{"densenet121", "3x3", "original", 1.001e-5, 36},
                                           Case{"vgg19", "3x3", "original", 1e-5, 64, 1},  // 2 x 2 to 7 x 7
                                           Case{"vgg19", "3x3", "gap", 1e-5, 40}));

TEST(OnnxGraph, SaysWhatReadersNeed) {
  const TemporaryFolder folder;
  Context context(make_backend(test_device(DeviceKind::cpu)));
  ModelInfo info{.architecture = "resnet50", .num_classes = 2, .input_size = 64, .resize = 73, .channel_order = "bgr"};
  info.input_scale = 1;
  info.mean = {103.939, 116.779, 123.68};
  info.std = {1, 1, 1};
  info.class_names = {"no finding", "pneumonia"};
  const auto network = make_network(context, info);
  const ModelFile file{info, weights_of(*network)};
  write_onnx(folder / "model.onnx", onnx_graph(file));
  const OnnxFile onnx(folder / "model.onnx");
  EXPECT_EQ(every(onnx.bytes(), 1)[0].value, 7u);
  EXPECT_EQ(every(text(onnx.bytes(), 8), 2)[0].value, 13u);
  EXPECT_EQ(onnx.metadata().at("mean"), "103.939 116.779 123.68");
  EXPECT_EQ(onnx.metadata().at("resize"), "73");
  EXPECT_EQ(onnx.metadata().at("channel_order"), "bgr");
  EXPECT_EQ(nlohmann::json::parse(onnx.metadata().at("class_names")), nlohmann::json(info.class_names));
  EXPECT_EQ(onnx.count("Conv"), 53);
  EXPECT_EQ(onnx.count("BatchNormalization"), 53);
  EXPECT_EQ(onnx.count("Add"), 16);
  EXPECT_EQ(onnx.count("Gemm"), 1);

  // images: float [batch,3,64,64]
  const std::string tensor = text(text(text(onnx.graph(), 11), 2), 1);
  const std::string type = text(tensor, 2);
  const std::vector<Field> dimensions = every(type, 1);
  ASSERT_EQ(dimensions.size(), 4u);
  EXPECT_EQ(text(dimensions[0].bytes, 2), "batch");
  EXPECT_EQ(every(dimensions[3].bytes, 1)[0].value, 64u);

  ModelFile partial = file;
  partial.info.random_tensors = {"fc.weight"};
  EXPECT_THROW(onnx_graph(partial), Error);
}

}  // namespace
}  // namespace graft
