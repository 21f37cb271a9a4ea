// Which device a name means, and how each is opened.
#include <fmt/format.h>

#include <charconv>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/reference/reference.h"

namespace graft {
namespace {

[[noreturn]] void unknown_device(const std::string& text) {
  throw UsageError(
      fmt::format("device: '{}' is unknown; choose auto, cpu, cuda, cuda:N (N = 0, 1, …) or reference", text));
}

int parse_index(const std::string& text, std::size_t begin) {
  int index = -1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + begin, end, index);
  if (error != std::errc{} || stop != end || index < 0) unknown_device(text);
  return index;
}

void check_precision(const Device& device, Precision precision) {
  if (device.kind == DeviceKind::cpu && (precision == Precision::tf32 || precision == Precision::f16))
    throw UsageError(
        fmt::format("precision: the cpu computes in f32 or bf16, not {}; use --precision f32 or bf16, or a GPU",
                    to_string(precision)));
  if (device.kind == DeviceKind::reference && precision == Precision::tf32)
    throw UsageError("precision: the reference device computes in double and has no tf32; use f32, bf16 or f16");
}

}  // namespace

std::unique_ptr<Backend> make_backend(const Device& device, const BackendOptions& options) {
  if (options.threads < 0)
    throw UsageError(fmt::format("device: threads must be 0 (all) or more, got {}", options.threads));
  check_precision(device, options.precision);
  switch (device.kind) {
    case DeviceKind::reference:
      return make_reference_backend(options);
    case DeviceKind::cpu:
      return make_cpu_backend(options);
    case DeviceKind::cuda:
      return make_cuda_backend(device.index, options);
  }
  throw Error("device: unknown kind");
}

OwnKernels parse_own_kernels(const std::string& text) {
  if (text == "auto") return OwnKernels::timed;
  if (text == "on") return OwnKernels::always;
  if (text == "off") return OwnKernels::never;
  throw UsageError(fmt::format("'{}' is unknown; choose auto, on or off", text));
}

Precision default_precision(const Device& device) {
  return device.kind == DeviceKind::cuda ? Precision::bf16 : Precision::f32;
}

Device parse_device(const std::string& text, std::string* why) {
  if (why) why->clear();
  if (text == "cpu") return {DeviceKind::cpu};
  if (text == "reference") return {DeviceKind::reference};
  if (text == "cuda") return {DeviceKind::cuda, 0};
  if (text.starts_with("cuda:")) return {DeviceKind::cuda, parse_index(text, 5)};
  if (text != "auto") unknown_device(text);
  const std::string reason = cuda_unavailable_reason();
  if (why) *why = reason.empty() ? "chosen automatically" : "no GPU: " + reason;
  return reason.empty() ? Device{DeviceKind::cuda, 0} : Device{DeviceKind::cpu};
}

}  // namespace graft
