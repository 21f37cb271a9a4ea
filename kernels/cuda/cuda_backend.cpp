// The calls that are kernels of ours: each takes the stream, scratch memory where sums need it, and launches.
#include "kernels/cuda/cuda_backend.h"

#include <utility>

#include "kernels/scratch.h"
#include "kernels/update_control.h"

namespace graft {

void CudaBackend::run_map(const MapCall& call) {
  gpu::map({.functor = call.functor,
            .parameters = call.parameters,
            .out = call.out,
            .write = call.write,
            .in = {call.in[0], call.in[1], call.in[2]}},
           stream());
}

void CudaBackend::copy(View y, Write write, ConstView x) { gpu::copy(y, write, x, stream()); }

void CudaBackend::index_select(View y, ConstView x, ConstView index) { gpu::index_select(y, x, index, stream()); }

bool CudaBackend::all_finite(ConstView x) {
  const Scratch flag(*this, sizeof(int));
  zero(flag.as<void>(), sizeof(int));
  gpu::find_not_finite(flag.as<int>(), x, stream());
  int found = 0;
  copy_out(&found, flag.as<void>(), sizeof(int));
  return found == 0;
}

void CudaBackend::channel_sum(View db, Write write, ConstView dy) {
  const Scratch scratch(*this, gpu::sum_scratch_bytes(dy.shape));
  gpu::channel_sum(db, write, dy, scratch.as<double>(), stream());
}

void CudaBackend::relu_grad_and_sum(View g, View db, Write write, ConstView dy, ConstView y) {
  const Scratch scratch(*this, gpu::sum_scratch_bytes(dy.shape));
  gpu::relu_grad_and_sum(g, db, write, dy, y, scratch.as<double>(), stream());
}

void CudaBackend::batch_statistics(View stats, ConstView x) {
  const Scratch scratch(*this, gpu::sum_scratch_bytes(x.shape));
  gpu::batch_statistics(stats, {}, x, scratch.as<double>(), stream());
}

void CudaBackend::batch_statistics_and_running(View stats, View running, double momentum, ConstView x) {
  const Scratch scratch(*this, gpu::sum_scratch_bytes(x.shape));
  gpu::batch_statistics(stats, {running, momentum}, x, scratch.as<double>(), stream());
}

void CudaBackend::normalize(View y, ConstView x, const NormalizeArgs& args, ConstView residual) {
  gpu::normalize(y, x, args, residual, stream());
}

void CudaBackend::normalize_grad_sums(View sums, ConstView dy, ConstView y, ConstView x, const NormalizeArgs& args) {
  const Scratch scratch(*this, gpu::sum_scratch_bytes(x.shape));
  gpu::normalize_grad_sums(sums, {}, dy, y, x, args, scratch.as<double>(), stream());
}

void CudaBackend::normalize_parameter_grads(View sums, const NormalizeParameterGrads& to, ConstView dy, ConstView y,
                                            ConstView x, const NormalizeArgs& args) {
  const Scratch scratch(*this, gpu::sum_scratch_bytes(x.shape));
  gpu::normalize_grad_sums(sums, to, dy, y, x, args, scratch.as<double>(), stream());
}

void CudaBackend::normalize_grad(View dx, Write write, View dresidual, Write residual_write, ConstView dy, ConstView y,
                                 ConstView x, const NormalizeArgs& args, ConstView sums) {
  gpu::normalize_grad({.dx = dx,
                       .write = write,
                       .dresidual = dresidual,
                       .residual_write = residual_write,
                       .dy = dy,
                       .y = y,
                       .x = x,
                       .sums = sums},
                      args, stream());
}

void CudaBackend::normalize_grad_correction(View dx, ConstView x, ConstView stats, double epsilon, ConstView weighted) {
  gpu::normalize_grad_correction(dx, x, stats, epsilon, weighted, stream());
}

void CudaBackend::update_running(View running, ConstView stats, double momentum, std::int64_t elements) {
  gpu::update_running(running, stats, momentum, elements, stream());
}

void CudaBackend::fold_normalize(View folded, View shift, ConstView w, ConstView bias, const NormalizeArgs& args) {
  gpu::fold_normalize(folded, shift, w, bias, args, stream());
}

void CudaBackend::norm_conv(const ConvSpec& spec, View y, const NormConvEpilogue& epilogue, ConstView x,
                            const NormalizeArgs& args, WeightView w) {
  if (!gpu::can_norm_conv(spec, {x, y, w.value})) return Backend::norm_conv(spec, y, epilogue, x, args, w);
  const Scratch scratch(*this, gpu::norm_conv_scratch_bytes(spec.x));
  gpu::norm_conv(y, epilogue, x, args, w.value, scratch.as<double>(), stream());
}

void CudaBackend::norm_conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x,
                                        const NormalizeArgs& args) {
  if (!gpu::can_norm_conv(spec, {x, dy, dw})) return Backend::norm_conv_weight_grad(spec, dw, write, dy, x, args);
  const Scratch scratch(*this, gpu::norm_conv_weight_grad_scratch_bytes(spec.x));
  gpu::norm_conv_weight_grad(dw, write, dy, x, args, scratch.as<float>(), stream());
}

void CudaBackend::norm_conv_data_grad(const ConvSpec& spec, View dx, Write write, View sums,
                                      const NormalizeParameterGrads& to, ConstView dy, ConstView x,
                                      const NormalizeArgs& args, WeightView w) {
  if (!gpu::can_norm_conv(spec, {x, dx, dy, w.value}))
    return Backend::norm_conv_data_grad(spec, dx, write, sums, to, dy, x, args, w);
  const Scratch scratch(*this, gpu::norm_conv_data_grad_scratch_bytes(spec.x));
  gpu::norm_conv_data_grad(dx, write, sums, to, dy, x, args, w.value, scratch.as<double>(), stream());
}

void CudaBackend::max_pool(const PoolSpec& spec, View y, View index, ConstView x) {
  gpu::max_pool(spec, y, index, x, stream());
}
void CudaBackend::max_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy, ConstView index) {
  gpu::max_pool_grad(spec, dx, write, dy, index, stream());
}
void CudaBackend::avg_pool(const PoolSpec& spec, View y, ConstView x) { gpu::avg_pool(spec, y, x, stream()); }
void CudaBackend::avg_pool_grad(const PoolSpec& spec, View dx, Write write, ConstView dy) {
  gpu::avg_pool_grad(spec, dx, write, dy, stream());
}
void CudaBackend::adaptive_avg_pool(View y, ConstView x) { gpu::adaptive_avg_pool(y, x, stream()); }
void CudaBackend::adaptive_avg_pool_grad(View dx, Write write, ConstView dy) {
  gpu::adaptive_avg_pool_grad(dx, write, dy, stream());
}

void CudaBackend::images_to_input(View x, std::span<const ConstView> pixels, std::span<const ImageChange> changes,
                                  const PixelScaling& scaling) {
  check_images_to_input(x, pixels, changes);
  const gpu::InputScratch at = gpu::input_scratch(x.shape);
  const Scratch scratch(*this, at.bytes);
  copy_in(scratch.as<void>(), changes.data(), std::int64_t(changes.size_bytes()));
  zero(scratch.as<std::byte>() + at.luma_offset, at.pixels_offset - at.luma_offset);
  gpu::images_to_input(x, pixels, changes, scaling, scratch.as<std::byte>(), stream());
}

void CudaBackend::softmax_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                        const SoftmaxSpec& spec) {
  const Scratch scratch(*this, gpu::cross_entropy_scratch_bytes(logits.shape.n));
  gpu::softmax_cross_entropy(loss, probabilities, logits, labels, spec, scratch.as<double>(), stream());
}

void CudaBackend::softmax_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                             ConstView labels, const SoftmaxSpec& spec) {
  const Scratch scratch(*this, gpu::cross_entropy_scratch_bytes(dlogits.shape.n));
  gpu::softmax_cross_entropy_grad(dlogits, write, dloss, probabilities, labels, spec, scratch.as<double>(), stream());
}

void CudaBackend::sigmoid_cross_entropy(View loss, View probabilities, ConstView logits, ConstView labels,
                                        const SigmoidSpec& spec) {
  const Scratch scratch(*this, gpu::cross_entropy_scratch_bytes(logits.shape.n));
  gpu::sigmoid_cross_entropy(loss, probabilities, logits, labels, spec, scratch.as<double>(), stream());
}

void CudaBackend::sigmoid_cross_entropy_grad(View dlogits, Write write, ConstView dloss, ConstView probabilities,
                                             ConstView labels, const SigmoidSpec& spec) {
  gpu::sigmoid_cross_entropy_grad(dlogits, write, dloss, probabilities, labels, spec, stream());
}

void CudaBackend::report_batch(View report, ConstView loss, ConstView penalty, ConstView probabilities,
                               ConstView labels, ConstView targets) {
  gpu::report_batch(report.as<double>(), loss, penalty, probabilities, labels, targets, stream());
}

gpu::DeviceArena CudaBackend::device_arena(const UpdateArena& arena) {
  if (update_table_.assign(arena.segments)) {
    const std::span<const std::byte> bytes = update_table_.bytes();
    if (device_table_bytes_ != bytes.size()) {  // else captured steps may know the address
      if (device_table_) release(std::exchange(device_table_, nullptr));
      device_table_ = allocate(std::int64_t(bytes.size()));
      device_table_bytes_ = bytes.size();
    }
    copy_in(device_table_, bytes.data(), std::int64_t(bytes.size()));
  }
  if (!update_ticket_) {
    update_ticket_ = allocate(sizeof(unsigned));
    zero(update_ticket_, sizeof(unsigned));
  }
  const auto* table = static_cast<const std::byte*>(device_table_);
  return {.values = arena.values.as<float>(),
          .gradients = arena.gradients.as<float>(),
          .moment1 = arena.moment1.as<float>(),
          .moment2 = arena.moment2.as<float>(),
          .anchors = arena.anchors.as<float>(),
          .control = arena.control.as<double>(),
          .sums = arena.sums.as<double>(),
          .half_values = arena.half_values.as<std::uint16_t>(),
          .half_type = arena.half_values.dtype,
          .clock = arena.clock.as<double>(),
          .halt = arena.halt.as<double>(),
          .segments = reinterpret_cast<const gpu::DeviceSegment*>(table),
          .masks = reinterpret_cast<const std::uint32_t*>(table + update_table_.masks_offset()),
          .group_begin = reinterpret_cast<const std::int32_t*>(table + update_table_.group_begin_offset()),
          .group_segments = reinterpret_cast<const std::int32_t*>(table + update_table_.group_segments_offset()),
          .table_groups = update_table_.group_count(),
          .segment_count = update_table_.segment_count(),
          .chunk_count = update_table_.chunk_count(),
          .partials = nullptr,
          .ticket = static_cast<unsigned*>(update_ticket_)};
}

template <class Step>
void CudaBackend::run_update(const UpdateArena& arena, const Step& step) {
  check_update(arena);
  if (arena.segments.empty()) return;
  gpu::DeviceArena on_device = device_arena(arena);
  if (!arena.sums.data) {
    gpu::update(on_device, step, stream());
    return;
  }
  const Scratch partials(*this, gpu::update_scratch_bytes(on_device.chunk_count, on_device.segment_count));
  on_device.partials = partials.as<double>();
  gpu::update(on_device, step, stream());
}

void CudaBackend::prepare_update(const UpdateArena& arena) {
  check_update(arena);
  if (!arena.segments.empty()) device_arena(arena);
}
void CudaBackend::update(const UpdateArena& arena, const SgdStep& step) { run_update(arena, step); }
void CudaBackend::update(const UpdateArena& arena, const AdamStep& step) { run_update(arena, step); }

void CudaBackend::measure_gradients(View control, View history, const UpdateArena& arena, const MeasureSpec& spec) {
  check_measure(control, history, arena, spec);
  if (arena.segments.empty()) return;
  gpu::DeviceArena on_device = device_arena(arena);
  const Scratch partials(*this, gpu::update_scratch_bytes(on_device.chunk_count, on_device.segment_count));
  on_device.partials = partials.as<double>();
  gpu::measure_gradients(control.as<double>(), history.as<double>(), on_device, spec, stream());
}

}  // namespace graft
