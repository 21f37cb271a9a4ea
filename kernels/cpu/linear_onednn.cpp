// Linear layers by oneDNN's sgemm, which is row-major: C (m x n) = op(A) op(B) + beta C.
#include <omp.h>

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "kernels/cpu/conv_onednn.h"
#include "kernels/cpu/cpu_backend.h"

namespace graft {
namespace {

struct Gemm {
  std::int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  float beta = 0;
};

void gemm(const Gemm& g, float* c, const float* a, const float* b) {
  const auto status = dnnl::sgemm(g.transpose_a ? 'T' : 'N', g.transpose_b ? 'T' : 'N', g.m, g.n, g.k, 1.0f, a,
                                  g.transpose_a ? g.m : g.k, b, g.transpose_b ? g.k : g.n, g.beta, c, g.n);
  if (status != dnnl::status::success)
    throw Error(fmt::format("linear: oneDNN's sgemm failed for {}x{}x{}", g.m, g.n, g.k));
}

std::int64_t columns(const ConstView& v) { return v.shape.size() / v.shape.n; }

}  // namespace

CpuBackend::CpuBackend(const BackendOptions& options)
    // oneDNN waits for all threads that it asked for, and for ever if OMP_THREAD_LIMIT allows fewer.
    : threads_(std::min(options.threads > 0 ? options.threads : omp_get_num_procs(), omp_get_thread_limit())),
      source_(make_cpu_memory()),
      memory_(*source_),
      conv_(std::make_unique<ConvPrimitives>(options.allows_winograd)) {
  omp_set_num_threads(threads_);
}

CpuBackend::~CpuBackend() = default;

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    throw Error("cpu: this processor has no AVX2; build with -DGRAFT_MARCH=native, or use a newer machine");
  return std::make_unique<CpuBackend>(options);
}

std::string CpuBackend::description() const {
  const dnnl_version_t& v = *dnnl::version();
  const bool has_avx512 = __builtin_cpu_supports("avx512f");
  const char* isa = __builtin_cpu_supports("avx512bf16") ? "AVX-512 with bf16" : has_avx512 ? "AVX-512" : "AVX2";
  return fmt::format("cpu, {}, oneDNN {}.{}.{}{}, {} thread{}", isa, v.major, v.minor, v.patch,
                     conv_->uses_winograd() && has_avx512 ? " with Winograd" : "", threads_, threads_ == 1 ? "" : "s");
}

void CpuBackend::linear(View y, ConstView x, WeightView w, ConstView bias) {
  const std::int64_t rows = y.shape.n, out = columns(y);
  if (bias.data)
    for (std::int64_t r = 0; r < rows; ++r) std::memcpy(y.as<float>() + r * out, bias.data, std::size_t(out) * 4);
  gemm({.m = rows, .n = out, .k = columns(x), .transpose_b = true, .beta = bias.data ? 1.0f : 0.0f}, y.as<float>(),
       x.as<float>(), w.value.as<float>());
}

void CpuBackend::linear_data_grad(View dx, Write write, ConstView dy, WeightView w) {
  gemm({.m = dx.shape.n, .n = columns(dx), .k = columns(dy), .beta = write == Write::add ? 1.0f : 0.0f}, dx.as<float>(),
       dy.as<float>(), w.value.as<float>());
}

void CpuBackend::linear_weight_grad(View dw, Write write, ConstView dy, ConstView x) {
  gemm({.m = columns(dy),
        .n = columns(x),
        .k = x.shape.n,
        .transpose_a = true,
        .beta = write == Write::add ? 1.0f : 0.0f},
       dw.as<float>(), dy.as<float>(), x.as<float>());
}

}  // namespace graft
