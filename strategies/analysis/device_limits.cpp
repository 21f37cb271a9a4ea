#include "strategies/analysis/device_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>

namespace graft {
namespace {

constexpr double kLongEnough = 0.02;     // seconds of one call
constexpr double kTooShort = 0.001;      // likewise
constexpr double kMeasureSeconds = 0.4;  // of all calls of one kind
constexpr int kFewestCalls = 5, kMostCalls = 50;

double seconds_of(Backend& device, DeviceTimer& timer, const std::function<void()>& call) {
  device.synchronize();
  timer.mark();
  call();
  timer.mark();
  return timer.take().back();
}

double upper_median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

/// A call of some size and what it does.
struct Work {
  std::function<void()> call;
  double amount = 0;  // FLOPs or bytes
  std::string name;
};

struct Rate {
  double per_second = 0;
  std::string name;
};

/// The best rate of `work_of(size)` at sizes doubled from `size` to `largest`, until a call is long enough. Larger ones
/// may be slower, as where matrices leave a cache, but short ones cannot be timed.
Rate best_rate(Backend& device, std::int64_t size, std::int64_t largest,
               const std::function<Work(std::int64_t)>& work_of) {
  const std::unique_ptr<DeviceTimer> timer = device.make_timer();
  std::optional<Work> work;
  double seconds = 0, best_seconds = 0;
  try {
    for (; size <= largest && seconds < kLongEnough; size *= 2) {
      Work larger = work_of(size);
      larger.call();  // the first call may choose and pack
      seconds = seconds_of(device, *timer, larger.call);
      if (work && best_seconds >= kTooShort && work->amount / best_seconds >= larger.amount / seconds) continue;
      work = std::move(larger), best_seconds = seconds;
    }
  } catch (const Error&) {
    if (!work) throw;  // not even the smallest fits
  }
  std::vector<double> all;
  for (double sum = 0; std::ssize(all) < kFewestCalls || (sum < kMeasureSeconds && std::ssize(all) < kMostCalls);) {
    all.push_back(seconds_of(device, *timer, work->call));
    sum += all.back();
  }
  return {work->amount / upper_median(all), work->name};
}

/// A tensor of noise: with zeros alone some devices save power and run faster than they could otherwise.
Tensor filled(Context& context, const Shape& shape, Format format = kNhwc) {
  constexpr std::int64_t kChunk = 1 << 18;
  static const std::vector<float> noise = [] {
    std::vector<float> values(kChunk);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = float(i * 2654435761U % 2001) / 1000 - 1;
    return values;
  }();
  const Tensor t(context, shape, format, context.backend().activation_type());
  const Tensor chunk(context, {1, kChunk, 1, 1}, kNhwc, DType::f32);
  context.backend().copy_in(chunk.view().data, noise.data(), kChunk * 4);
  for (std::int64_t begin = 0; begin < shape.size(); begin += kChunk) {
    const Shape part{1, std::min(kChunk, shape.size() - begin), 1, 1};
    View y = t.view();
    y = {static_cast<char*>(y.data) + begin * size_of(y.dtype), y.dtype, kNhwc, part, part.c};
    context.backend().copy(y, Write::overwrite, chunk.window(0, part).view());
  }
  return t;
}

Work matrix_product(Context& context, std::int64_t n) {
  const Shape square{n, n, 1, 1};
  const Tensor x = filled(context, square), w = filled(context, square), y = filled(context, square);
  return {.call = [=, &context] { context.backend().linear(y.view(), x.view(), WeightView{.value = w.view()}, {}); },
          .amount = 2.0 * double(n) * double(n) * double(n),
          .name = fmt::format("linear [{0},{0}] x [{0},{0}]", n)};
}

Work pointwise_convolution(Context& context, std::int64_t images) {
  const ConvSpec spec{.x = {images, 512, 28, 28}, .k = 512};
  const ConvFormats formats = context.backend().conv_formats(spec);
  const Tensor x = filled(context, spec.x, formats.x), y = filled(context, spec.y(), formats.y);
  const Tensor w = filled(context, {512, 512, 1, 1});
  const auto packed = std::make_shared<std::shared_ptr<void>>();
  return {.call =
              [=, &context] {
                const WeightView weight{.value = w.view(), .version = 1, .packed = packed.get()};
                context.backend().conv(spec, y.view(), x.view(), weight, {});
              },
          .amount = 2.0 * double(spec.y().size()) * 512,
          .name = fmt::format("conv 1x1 512->512 {}", to_string(spec.x))};
}

Work large_copy(Context& context, std::int64_t bytes) {
  const Shape shape{1, bytes / size_of(context.backend().activation_type()), 1, 1};
  const Tensor x = filled(context, shape), y = filled(context, shape);
  return {.call = [=, &context] { context.backend().copy(y.view(), Write::overwrite, x.view()); },
          .amount = 2.0 * double(bytes),
          .name = fmt::format("copy of {} MB", bytes / 1'000'000)};
}

}  // namespace

DeviceLimits measure_limits(Context& context) {
  Backend& device = context.backend();
  Rate products = best_rate(device, 128, 8192, [&](std::int64_t n) { return matrix_product(context, n); });
  if (Rate convolutions =
          best_rate(device, 1, 256, [&](std::int64_t images) { return pointwise_convolution(context, images); });
      convolutions.per_second > products.per_second)
    products = std::move(convolutions);
  const Rate copies =
      best_rate(device, 1'000'000, 1'024'000'000, [&](std::int64_t bytes) { return large_copy(context, bytes); });
  return {.flops_per_second = products.per_second,
          .bytes_per_second = copies.per_second,
          .flops_call = products.name,
          .bytes_call = copies.name};
}

}  // namespace graft
