// Linear layers by oneDNN, row-major: C (m x n) = op(A) op(B) + beta C, or + a bias. In float by its sgemm; with
// factors in bf16 by its matrix product, which sums in float and rounds once.
#include <omp.h>

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "kernels/cpu/conv_onednn.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/product_onednn.h"
#include "kernels/usable_cores.h"

namespace graft {
namespace {

void sgemm(const ProductSpec& g, float* c, const float* a, const float* b) {
  const auto status =
      dnnl::sgemm(g.transpose_a ? 'T' : 'N', g.transpose_b ? 'T' : 'N', g.m, g.n, g.k, 1.0f, a,
                  g.transpose_a ? g.m : g.k, b, g.transpose_b ? g.k : g.n, g.write == Write::add ? 1.0f : 0.0f, c, g.n);
  if (status != dnnl::status::success)
    throw Error(fmt::format("linear: oneDNN's sgemm failed for {}x{}x{}", g.m, g.n, g.k));
}

/// Whether oneDNN has these instructions, and uses them.
bool has(dnnl::cpu_isa isa) { return (int(dnnl::get_effective_cpu_isa()) & int(isa)) == int(isa); }

std::int64_t columns(const ConstView& v) { return v.shape.size() / v.shape.n; }

}  // namespace

CpuBackend::CpuBackend(const BackendOptions& options)
    // oneDNN waits for all threads that it asked for, and for ever if OMP_THREAD_LIMIT allows fewer.
    : threads_(std::min(options.threads > 0 ? options.threads : usable_cores(), omp_get_thread_limit())),
      activation_type_(options.precision == Precision::bf16 ? DType::bf16 : DType::f32),
      has_own_winograd_(options.allows_winograd && !has(dnnl::cpu_isa::avx512_core)),  // there oneDNN has it
      source_(make_cpu_memory()),
      memory_(*source_),
      conv_(std::make_unique<ConvPrimitives>(options.allows_winograd, activation_type_)),
      products_(std::make_unique<Products>(conv_->engine())) {
  omp_set_num_threads(threads_);
}

CpuBackend::~CpuBackend() = default;

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    throw Error("cpu: this processor has no AVX2; build with -DGRAFT_MARCH=native, or use a newer machine");
  const std::string no_bf16 = options.precision == Precision::bf16 ? cpu_bf16_unavailable_reason() : "";
  if (!no_bf16.empty())
    throw UsageError(fmt::format("precision: no bf16 on the cpu: {}; use --precision f32, or a GPU", no_bf16));
  return std::make_unique<CpuBackend>(options);
}

std::string cpu_bf16_unavailable_reason() {
  return has(dnnl::cpu_isa::avx512_core_bf16) ? "" : "this processor has no instructions for it (AVX512_BF16 or AMX)";
}

std::string CpuBackend::description() const {
  const dnnl_version_t& v = *dnnl::version();
  const char* isa = has(dnnl::cpu_isa::avx512_core_amx)    ? "AVX-512 with bf16, AMX"
                    : has(dnnl::cpu_isa::avx512_core_bf16) ? "AVX-512 with bf16"
                    : has(dnnl::cpu_isa::avx512_core)      ? "AVX-512"
                                                           : "AVX2";
  const bool transforms = conv_->uses_winograd() && activation_type_ == DType::f32;
  return fmt::format("cpu, {}, oneDNN {}.{}.{}{}{}, {} thread{}", isa, v.major, v.minor, v.patch,
                     transforms ? " with Winograd" : "", activation_type_ == DType::bf16 ? ", activations in bf16" : "",
                     threads_, threads_ == 1 ? "" : "s");
}

void CpuBackend::linear(View y, ConstView x, WeightView w, ConstView bias) {
  const std::int64_t rows = y.shape.n, out = columns(y);
  ProductSpec product{.m = rows, .n = out, .k = columns(x), .transpose_b = true, .result = y.dtype};
  if (x.dtype == DType::bf16) {
    product.has_bias = bias.data != nullptr;
    return products_->run(*this, product, y.data, x.data, w.value.data, bias.data);
  }
  if (bias.data) {
    for (std::int64_t r = 0; r < rows; ++r) std::memcpy(y.as<float>() + r * out, bias.data, std::size_t(out) * 4);
    product.write = Write::add;
  }
  sgemm(product, y.as<float>(), x.as<float>(), w.value.as<float>());
}

void CpuBackend::linear_data_grad(View dx, Write write, ConstView dy, WeightView w) {
  const ProductSpec product{.m = dx.shape.n, .n = columns(dx), .k = columns(dy), .write = write, .result = dx.dtype};
  if (dy.dtype == DType::bf16) return products_->run(*this, product, dx.data, dy.data, w.value.data);
  sgemm(product, dx.as<float>(), dy.as<float>(), w.value.as<float>());
}

void CpuBackend::linear_weight_grad(View dw, Write write, ConstView dy, ConstView x) {
  const ProductSpec product{
      .m = columns(dy), .n = columns(x), .k = x.shape.n, .transpose_a = true, .write = write, .result = dw.dtype};
  if (x.dtype == DType::bf16) return products_->run(*this, product, dw.data, dy.data, x.data);
  sgemm(product, dw.as<float>(), dy.as<float>(), x.as<float>());
}

}  // namespace graft
