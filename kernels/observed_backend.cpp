#include "kernels/observed_backend.h"

#include <cstring>

#include <fmt/format.h>

namespace graft {
namespace {

const std::byte* bytes_at(const void* data) { return static_cast<const std::byte*>(data); }

Region region_of(const void* data, std::int64_t bytes) {
  return {.data = bytes_at(data), .rows = data ? 1 : 0, .row_bytes = bytes, .row_stride = bytes};
}

std::string describe(const ConvSpec& s) {
  std::string text = fmt::format("{}x{} {}->{}", s.r, s.s, s.x.c, s.k);
  if (s.stride_h != 1 || s.stride_w != 1) text += fmt::format(" /{}", s.stride_h);
  return text + " " + to_string(s.x);
}

std::string describe(const PoolSpec& s) {
  return fmt::format("{}x{} /{} {}", s.window_h, s.window_w, s.stride_h, to_string(s.x));
}

double conv_flops(const ConvSpec& s) { return 2.0 * double(s.y().size()) * double(s.r * s.s * s.x.c); }

double linear_flops(const Shape& rows, const Shape& weight) {
  return 2.0 * double(rows.n) * double(weight.n) * double(weight.c * weight.h * weight.w);
}

}  // namespace

Region region_of(const ConstView& v) {
  const std::int64_t element = size_of(v.dtype), pixels = v.shape.pixels();
  if (!v.data) return {.rows = 0};
  if (v.is_dense()) return region_of(v.data, v.shape.size() * element);
  if (v.format == kNhwc)
    return {.data = bytes_at(v.data),
            .rows = v.shape.n * pixels,
            .row_bytes = v.shape.c * element,
            .row_stride = v.pitch * element};
  return {.data = bytes_at(v.data),
          .rows = v.shape.n,
          .row_bytes = v.shape.c * pixels * element,
          .row_stride = v.pitch * pixels * element};
}

std::int64_t DeviceCall::bytes() const {
  std::int64_t sum = -unread_bytes;
  for (const Region& r : writes) sum += r.bytes();
  for (const Region& r : reads) sum += r.bytes();
  for (const Region& r : refreshes) sum += r.bytes();
  return sum;
}

/// The views of a call; those without data are left out.
struct ObservedBackend::Access {
  struct Output {
    View view;
    Write write = Write::overwrite;
  };
  std::vector<Output> out;
  std::vector<ConstView> in;
};

void ObservedBackend::observe(DeviceCall call, const Access& access, std::function<void()> run) {
  for (const auto& [view, write] : access.out) {
    if (!view.data) continue;
    call.writes.push_back(region_of(view));
    if (write == Write::add) call.reads.push_back(call.writes.back());
  }
  for (const ConstView& view : access.in)
    if (view.data) call.reads.push_back(region_of(view));
  observer_.call(call, run);
}

void ObservedBackend::copy_in(void* device, const void* host, std::int64_t bytes) {
  observer_.call({.op = "copy_in", .detail = {}, .writes = {region_of(device, bytes)}, .reads = {}, .uses_host = true},
                 [=, this] { inner_->copy_in(device, host, bytes); });
}

/// Shows what is sent, as a call named "upload".
class ObservedBackend::ObservedUpload final : public Upload {
 public:
  ObservedUpload(std::unique_ptr<Upload> inner, DeviceObserver& observer)
      : inner_(std::move(inner)), observer_(observer) {}
  std::byte* memory() override { return inner_->memory(); }
  void send(void* device, std::int64_t offset, std::int64_t bytes) override {
    observer_.call({.op = "upload", .detail = {}, .writes = {region_of(device, bytes)}, .reads = {}, .uses_host = true},
                   [=, this] { inner_->send(device, offset, bytes); });
  }
  void arrive() override { inner_->arrive(); }
  void follow_calls() override { inner_->follow_calls(); }

 private:
  std::unique_ptr<Upload> inner_;
  DeviceObserver& observer_;
};

std::unique_ptr<Upload> ObservedBackend::make_upload(std::int64_t bytes) {
  return std::make_unique<ObservedUpload>(inner_->make_upload(bytes), observer_);
}
void ObservedBackend::copy_out(void* host, const void* device, std::int64_t bytes) {
  observer_.call({.op = "copy_out",
                  .detail = {},
                  .writes = {},
                  .reads = {region_of(device, bytes)},
                  .waits = true,
                  .uses_host = true},
                 [=, this] { inner_->copy_out(host, device, bytes); });
}
std::unique_ptr<HostCopy> ObservedBackend::begin_copy_out(const void* device, std::int64_t bytes) {
  struct Zeros final : HostCopy {  // what a dry run answers
    explicit Zeros(std::int64_t count) : bytes(std::size_t(count)) {}
    const void* wait() override { return bytes.data(); }
    std::vector<std::byte> bytes;
  };
  std::unique_ptr<HostCopy> copy;
  observer_.call(
      {.op = "begin_copy_out", .detail = {}, .writes = {}, .reads = {region_of(device, bytes)}, .uses_host = true},
      [&] { copy = inner_->begin_copy_out(device, bytes); });
  return copy ? std::move(copy) : std::make_unique<Zeros>(bytes);
}
void ObservedBackend::zero(void* device, std::int64_t bytes) {
  observer_.call({.op = "zero", .detail = {}, .writes = {region_of(device, bytes)}, .reads = {}},
                 [=, this] { inner_->zero(device, bytes); });
}
void ObservedBackend::synchronize() {
  observer_.call({.op = "synchronize", .detail = {}, .writes = {}, .reads = {}, .waits = true},
                 [this] { inner_->synchronize(); });
}
void ObservedBackend::push_range(std::string_view name) {
  observer_.push_range(name);
  inner_->push_range(name);
}
void ObservedBackend::pop_range() {
  inner_->pop_range();
  observer_.pop_range();
}

void ObservedBackend::copy(View y, Write write, ConstView x) {
  observe({.op = "copy", .detail = to_string(x.shape)}, {.out = {{y, write}}, .in = {x}},
          [=, this] { inner_->copy(y, write, x); });
}
bool ObservedBackend::all_finite(ConstView x) {
  bool result = true;  // what a dry run answers
  observe({.op = "all_finite", .detail = to_string(x.shape), .waits = true, .uses_host = true}, {.out = {}, .in = {x}},
          [&] { result = inner_->all_finite(x); });
  return result;
}

void ObservedBackend::run_map(const MapCall& call) {
  const auto* begin = static_cast<const std::byte*>(call.parameters);
  const std::vector<std::byte> parameters(begin, begin + call.parameter_bytes);
  std::vector<ConstView> in(call.in, call.in + call.inputs);
  if (call.scale) in.push_back({.data = call.scale, .dtype = compute_type(), .pitch = 1});
  if (call.base) in.push_back({.data = call.base, .dtype = DType::f64, .pitch = 1});
  observe({.op = "map", .detail = std::string(call.name) + " " + to_string(call.out.shape)},
          {.out = {{call.out, call.write}}, .in = std::move(in)}, [this, call, parameters] {
            MapCall kept = call;
            kept.parameters = parameters.data();
            inner_->run_map(kept);
          });
}

void ObservedBackend::conv(const ConvSpec& spec, View y, ConstView x, WeightView w, const ConvEpilogue& epilogue) {
  observe({.op = "conv", .detail = describe(spec), .flops = conv_flops(spec)},
          {.out = {{y}}, .in = {x, w.value, epilogue.bias, epilogue.residual}},
          [=, this] { inner_->conv(spec, y, x, w, epilogue); });
}
void ObservedBackend::conv_data_grad(const ConvSpec& spec, View dx, Write write, ConstView dy, WeightView w) {
  observe({.op = "conv_data_grad", .detail = describe(spec), .flops = conv_flops(spec)},
          {.out = {{dx, write}}, .in = {dy, w.value}}, [=, this] { inner_->conv_data_grad(spec, dx, write, dy, w); });
}
void ObservedBackend::conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x) {
  observe({.op = "conv_weight_grad", .detail = describe(spec), .flops = conv_flops(spec)},
          {.out = {{dw, write}}, .in = {dy, x}}, [=, this] { inner_->conv_weight_grad(spec, dw, write, dy, x); });
}
void ObservedBackend::channel_sum(View db, Write write, ConstView dy) {
  observe({.op = "channel_sum", .detail = to_string(dy.shape)}, {.out = {{db, write}}, .in = {dy}},
          [=, this] { inner_->channel_sum(db, write, dy); });
}
void ObservedBackend::relu_grad_and_sum(View g, View db, Write write, ConstView dy, ConstView y) {
  observe({.op = "relu_grad_and_sum", .detail = to_string(dy.shape)}, {.out = {{g}, {db, write}}, .in = {dy, y}},
          [=, this] { inner_->relu_grad_and_sum(g, db, write, dy, y); });
}

void ObservedBackend::linear(View y, ConstView x, WeightView w, ConstView bias) {
  observe({.op = "linear",
           .detail = to_string(x.shape) + " x " + to_string(w.value.shape),
           .flops = linear_flops(x.shape, w.value.shape)},
          {.out = {{y}}, .in = {x, w.value, bias}}, [=, this] { inner_->linear(y, x, w, bias); });
}
void ObservedBackend::linear_data_grad(View dx, Write write, ConstView dy, WeightView w) {
  observe({.op = "linear_data_grad",
           .detail = to_string(dy.shape) + " x " + to_string(w.value.shape),
           .flops = linear_flops(dy.shape, w.value.shape)},
          {.out = {{dx, write}}, .in = {dy, w.value}}, [=, this] { inner_->linear_data_grad(dx, write, dy, w); });
}
void ObservedBackend::linear_weight_grad(View dw, Write write, ConstView dy, ConstView x) {
  observe({.op = "linear_weight_grad",
           .detail = to_string(dy.shape) + " x " + to_string(x.shape),
           .flops = linear_flops(dy.shape, dw.shape)},
          {.out = {{dw, write}}, .in = {dy, x}}, [=, this] { inner_->linear_weight_grad(dw, write, dy, x); });
}

void ObservedBackend::batch_statistics(View stats, ConstView x) {
  observe({.op = "batch_statistics", .detail = to_string(x.shape)}, {.out = {{stats}}, .in = {x}},
          [=, this] { inner_->batch_statistics(stats, x); });
}
void ObservedBackend::batch_statistics_and_running(View stats, View running, double momentum, ConstView x) {
  observe({.op = "batch_statistics_and_running", .detail = to_string(x.shape)},
          {.out = {{stats}, {running, Write::add}}, .in = {x}},
          [=, this] { inner_->batch_statistics_and_running(stats, running, momentum, x); });
}
void ObservedBackend::normalize(View y, ConstView x, const NormalizeArgs& args, ConstView residual) {
  observe({.op = "normalize", .detail = to_string(x.shape)},
          {.out = {{y}, {args.relu_mask}}, .in = {x, args.stats, args.gamma, args.beta, residual}},
          [=, this] { inner_->normalize(y, x, args, residual); });
}
void ObservedBackend::normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x,
                                          const NormalizeArgs& args) {
  observe({.op = "normalize_grad_sums", .detail = to_string(x.shape)},
          {.out = {{sums}}, .in = {dy, y, x, args.stats, args.relu_mask}},
          [=, this] { inner_->normalize_grad_sums(sums, dy, y, x, args); });
}
void ObservedBackend::normalize_parameter_grads(View sums, const NormalizeParameterGrads& to, ConstView dy, ConstView y,
                                                ConstView x, const NormalizeArgs& args) {
  observe({.op = "normalize_parameter_grads", .detail = to_string(x.shape)},
          {.out = {{sums}, {to.dgamma, to.gamma_write}, {to.dbeta, to.beta_write}, {to.weighted, to.weighted_write}},
           .in = {dy, y, x, args.stats, args.gamma, args.relu_mask}},
          [=, this] { inner_->normalize_parameter_grads(sums, to, dy, y, x, args); });
}
void ObservedBackend::normalize_grad(View dx, Write write, View dresidual, Write residual_write, ConstView dy,
                                     ConstView y, ConstView x, const NormalizeArgs& args, ConstView sums) {
  observe({.op = "normalize_grad", .detail = to_string(x.shape)},
          {.out = {{dx, write}, {dresidual, residual_write}},
           .in = {dy, y, x, args.stats, args.gamma, args.relu_mask, sums}},
          [=, this] { inner_->normalize_grad(dx, write, dresidual, residual_write, dy, y, x, args, sums); });
}
void ObservedBackend::normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon,
                                                ConstView weighted) {
  observe({.op = "normalize_grad_correction", .detail = to_string(x.shape)},
          {.out = {{dx, Write::add}}, .in = {x, stats, weighted}},
          [=, this] { inner_->normalize_grad_correction(dx, x, stats, epsilon, weighted); });
}
void ObservedBackend::update_running(View running, ConstView stats, double momentum, std::int64_t elements) {
  observe({.op = "update_running", .detail = to_string(running.shape)}, {.out = {{running, Write::add}}, .in = {stats}},
          [=, this] { inner_->update_running(running, stats, momentum, elements); });
}

void ObservedBackend::fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs& args) {
  observe({.op = "fold_normalize", .detail = to_string(w.shape)},
          {.out = {{folded}, {shift}}, .in = {w, bias, args.stats, args.gamma, args.beta}},
          [=, this] { inner_->fold_normalize(folded, shift, w, bias, args); });
}

void ObservedBackend::norm_conv(const ConvSpec& spec, View y, const NormConvEpilogue& epilogue, ConstView x,
                                const NormalizeArgs& args, WeightView w) {
  observe({.op = "norm_conv", .detail = describe(spec), .flops = conv_flops(spec)},
          {.out = {{y}, {epilogue.stats}, {epilogue.running, Write::add}},
           .in = {x, args.stats, args.gamma, args.beta, w.value, epilogue.bias}},
          [=, this] { inner_->norm_conv(spec, y, epilogue, x, args, w); });
}
void ObservedBackend::norm_conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x,
                                            const NormalizeArgs& args) {
  observe({.op = "norm_conv_weight_grad", .detail = describe(spec), .flops = conv_flops(spec)},
          {.out = {{dw, write}}, .in = {dy, x, args.stats, args.gamma, args.beta}},
          [=, this] { inner_->norm_conv_weight_grad(spec, dw, write, dy, x, args); });
}
void ObservedBackend::norm_conv_data_grad(const ConvSpec& spec, View dx, Write write, View sums,
                                          const NormalizeParameterGrads& to, ConstView dy, ConstView x,
                                          const NormalizeArgs& args, WeightView w) {
  observe({.op = "norm_conv_data_grad", .detail = describe(spec), .flops = conv_flops(spec)},
          {.out = {{dx, write},
                   {sums},
                   {to.dgamma, to.gamma_write},
                   {to.dbeta, to.beta_write},
                   {to.weighted, to.weighted_write}},
           .in = {dy, x, args.stats, args.gamma, args.beta, w.value}},
          [=, this] { inner_->norm_conv_data_grad(spec, dx, write, sums, to, dy, x, args, w); });
}

void ObservedBackend::max_pool(const PoolSpec& spec, View y, View index, ConstView x) {
  observe({.op = "max_pool", .detail = describe(spec)}, {.out = {{y}, {index}}, .in = {x}},
          [=, this] { inner_->max_pool(spec, y, index, x); });
}
void ObservedBackend::max_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index) {
  observe({.op = "max_pool_grad", .detail = describe(spec)}, {.out = {{dx, write}}, .in = {dy, index}},
          [=, this] { inner_->max_pool_grad(spec, dx, write, dy, index); });
}
void ObservedBackend::avg_pool(const PoolSpec& spec, View y, ConstView x) {
  observe({.op = "avg_pool", .detail = describe(spec)}, {.out = {{y}}, .in = {x}},
          [=, this] { inner_->avg_pool(spec, y, x); });
}
void ObservedBackend::avg_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy) {
  observe({.op = "avg_pool_grad", .detail = describe(spec)}, {.out = {{dx, write}}, .in = {dy}},
          [=, this] { inner_->avg_pool_grad(spec, dx, write, dy); });
}
void ObservedBackend::adaptive_avg_pool(View y, ConstView x) {
  observe({.op = "adaptive_avg_pool", .detail = to_string(x.shape)}, {.out = {{y}}, .in = {x}},
          [=, this] { inner_->adaptive_avg_pool(y, x); });
}
void ObservedBackend::adaptive_avg_pool_grad(View dx, Write write, ConstView dy) {
  observe({.op = "adaptive_avg_pool_grad", .detail = to_string(dx.shape)}, {.out = {{dx, write}}, .in = {dy}},
          [=, this] { inner_->adaptive_avg_pool_grad(dx, write, dy); });
}

void ObservedBackend::index_select(View y, ConstView x, ConstView index) {
  const std::int64_t unread = (x.shape.size() - y.shape.size()) * size_of(x.dtype);
  observe({.op = "index_select", .detail = to_string(y.shape), .unread_bytes = unread},
          {.out = {{y}}, .in = {x, index}}, [=, this] { inner_->index_select(y, x, index); });
}

void ObservedBackend::images_to_input(View x, std::span<const ConstView> pixels, std::span<const ImageChange> changes,
                                      const PixelScaling& scaling) {
  check_images_to_input(x, pixels, changes);
  DeviceCall call{.op = "images_to_input", .detail = to_string(x.shape)};
  for (const ImageChange& c : changes) {
    const std::int64_t pitch = std::int64_t(c.width) * 3;
    call.reads.push_back({.data = bytes_at(pixels[std::size_t(c.block)].data) + c.first_byte + c.from_y * pitch +
                                  std::int64_t(c.from_x) * 3,
                          .rows = c.from_h,
                          .row_bytes = std::int64_t(c.from_w) * 3,
                          .row_stride = pitch});
  }
  observe(std::move(call), {.out = {{x}}, .in = {}},
          [=, this, blocks = std::vector(pixels.begin(), pixels.end()),
           kept = std::vector(changes.begin(), changes.end())] { inner_->images_to_input(x, blocks, kept, scaling); });
}

void ObservedBackend::softmax_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                            const SoftmaxSpec& spec) {
  observe({.op = "softmax_cross_entropy", .detail = to_string(logits.shape)},
          {.out = {{loss}, {probabilities}}, .in = {logits, labels, spec.class_weights}},
          [=, this] { inner_->softmax_cross_entropy(loss, probabilities, logits, labels, spec); });
}
void ObservedBackend::softmax_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                                 ConstView labels, const SoftmaxSpec& spec) {
  observe({.op = "softmax_cross_entropy_grad", .detail = to_string(dlogits.shape)},
          {.out = {{dlogits, write}}, .in = {dloss, probabilities, labels, spec.class_weights}},
          [=, this] { inner_->softmax_cross_entropy_grad(dlogits, write, dloss, probabilities, labels, spec); });
}

void ObservedBackend::sigmoid_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                            const SigmoidSpec& spec) {
  observe({.op = "sigmoid_cross_entropy", .detail = to_string(logits.shape)},
          {.out = {{loss}, {probabilities}}, .in = {logits, labels, spec.targets, spec.positive_weights}},
          [=, this] { inner_->sigmoid_cross_entropy(loss, probabilities, logits, labels, spec); });
}
void ObservedBackend::sigmoid_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                                 ConstView labels, const SigmoidSpec& spec) {
  observe({.op = "sigmoid_cross_entropy_grad", .detail = to_string(dlogits.shape)},
          {.out = {{dlogits, write}}, .in = {dloss, probabilities, labels, spec.targets, spec.positive_weights}},
          [=, this] { inner_->sigmoid_cross_entropy_grad(dlogits, write, dloss, probabilities, labels, spec); });
}

void ObservedBackend::report_batch(View report, ConstView loss, ConstView penalty, ConstView probabilities,
                                   ConstView labels, ConstView targets) {
  observe({.op = "report_batch", .detail = to_string(probabilities.shape)},
          {.out = {{report, Write::add}}, .in = {loss, penalty, probabilities, labels, targets}},
          [=, this] { inner_->report_batch(report, loss, penalty, probabilities, labels, targets); });
}

namespace {

/// Elements [begin, begin + size) of a dense vector.
Region part_of(const ConstView& v, std::int64_t begin, std::int64_t size) {
  if (!v.data) return {.rows = 0};
  return region_of(bytes_at(v.data) + begin * size_of(v.dtype), size * size_of(v.dtype));
}

void add(std::vector<Region>& regions, const Region& region) {
  if (region.rows > 0) regions.push_back(region);
}

}  // namespace

void ObservedBackend::measure_gradients(View control, View history, const UpdateArena& arena, const MeasureSpec& spec) {
  DeviceCall call{.op = "measure_gradients", .detail = fmt::format("{} segments", arena.segments.size())};
  for (const UpdateSegment& s : arena.segments) {
    add(call.reads, part_of(arena.gradients, s.state_offset, s.size));
    if (spec.relative_rates) add(call.reads, part_of(arena.values, s.value_offset, s.size));
  }
  observe(std::move(call), {.out = {{control, Write::add}, {history, Write::add}}, .in = {}},
          [=, this] { inner_->measure_gradients(control, history, arena, spec); });
}

template <class Step>
void ObservedBackend::observe_update(const UpdateArena& arena, const Step& step) {
  DeviceCall call{.op = "update", .detail = fmt::format("{} segments", arena.segments.size())};
  for (const UpdateSegment& s : arena.segments) {
    add(call.reads, part_of(arena.gradients, s.state_offset, s.size));
    for (const Region& changed :
         {part_of(arena.values, s.value_offset, s.size), part_of(arena.moment1, s.state_offset, s.size),
          Step::kMoments > 1 ? part_of(arena.moment2, s.state_offset, s.size) : Region{.rows = 0}}) {
      add(call.writes, changed);
      add(call.reads, changed);
    }
    // Masked rows and skipped steps leave what is there, and not every value has a reader in 16 bits that had it
    // written.
    add(call.refreshes, part_of(arena.half_values, s.value_offset, s.size));
    if (uses_anchor(s, arena)) add(call.reads, part_of(arena.anchors, s.value_offset, s.size));
  }
  observe(std::move(call), {.out = {{arena.sums}}, .in = {arena.control, arena.clock, arena.halt}},
          [=, this] { inner_->update(arena, step); });
}
void ObservedBackend::update(const UpdateArena& arena, const SgdStep& step) { observe_update(arena, step); }
void ObservedBackend::update(const UpdateArena& arena, const AdamStep& step) { observe_update(arena, step); }

}  // namespace graft
