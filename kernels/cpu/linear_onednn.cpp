// Linear layers by oneDNN, row-major: C (m x n) = op(A) op(B) + beta C, or + a bias. In float by its sgemm; with
// factors in bf16 by its matrix product, which sums in float and rounds once.
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
  Write write = Write::overwrite;
};

void sgemm(const Gemm& g, float* c, const float* a, const float* b) {
  const auto status =
      dnnl::sgemm(g.transpose_a ? 'T' : 'N', g.transpose_b ? 'T' : 'N', g.m, g.n, g.k, 1.0f, a,
                  g.transpose_a ? g.m : g.k, b, g.transpose_b ? g.k : g.n, g.write == Write::add ? 1.0f : 0.0f, c, g.n);
  if (status != dnnl::status::success)
    throw Error(fmt::format("linear: oneDNN's sgemm failed for {}x{}x{}", g.m, g.n, g.k));
}

/// a and b hold bf16, c that or float, the bias float. oneDNN keeps what it makes for a shape.
void bf16_product(ConvPrimitives& onednn, const Gemm& g, const View& c, const void* a, const void* b,
                  const void* bias = nullptr) {
  using Memory = dnnl::memory;
  using Tag = Memory::format_tag;
  using Type = Memory::data_type;
  const auto matrix = [](std::int64_t rows, std::int64_t columns, Type type, bool is_transposed) {
    return Memory::desc({rows, columns}, type, is_transposed ? Tag::ba : Tag::ab);
  };
  const Memory::desc a_desc = matrix(g.m, g.k, Type::bf16, g.transpose_a),
                     b_desc = matrix(g.k, g.n, Type::bf16, g.transpose_b),
                     c_desc = matrix(g.m, g.n, c.dtype == DType::bf16 ? Type::bf16 : Type::f32, false),
                     bias_desc = bias ? matrix(1, g.n, Type::f32, false) : Memory::desc{};
  dnnl::primitive_attr attributes;
  if (g.write == Write::add) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attributes.set_post_ops(ops);
  }
  try {
    const dnnl::matmul::primitive_desc made(dnnl::matmul::desc(a_desc, b_desc, bias_desc, c_desc), attributes,
                                            onednn.engine());
    const auto at = [&](const Memory::desc& d, const void* data) {
      return Memory(d, onednn.engine(), const_cast<void*>(data));
    };
    std::unordered_map<int, Memory> args{
        {DNNL_ARG_SRC, at(a_desc, a)}, {DNNL_ARG_WEIGHTS, at(b_desc, b)}, {DNNL_ARG_DST, at(c_desc, c.data)}};
    if (bias) args.insert({DNNL_ARG_BIAS, at(bias_desc, bias)});
    dnnl::matmul(made).execute(onednn.stream(), args);
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw std::bad_alloc();
    throw Error(fmt::format("linear: oneDNN failed ({}) for {}x{}x{} in bf16", e.what(), g.m, g.n, g.k));
  }
}

std::int64_t columns(const ConstView& v) { return v.shape.size() / v.shape.n; }

}  // namespace

CpuBackend::CpuBackend(const BackendOptions& options)
    // oneDNN waits for all threads that it asked for, and for ever if OMP_THREAD_LIMIT allows fewer.
    : threads_(std::min(options.threads > 0 ? options.threads : omp_get_num_procs(), omp_get_thread_limit())),
      activation_type_(options.precision == Precision::bf16 ? DType::bf16 : DType::f32),
      source_(make_cpu_memory()),
      memory_(*source_),
      conv_(std::make_unique<ConvPrimitives>(options.allows_winograd, activation_type_)) {
  omp_set_num_threads(threads_);
}

CpuBackend::~CpuBackend() = default;

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    throw Error("cpu: this processor has no AVX2; build with -DGRAFT_MARCH=native, or use a newer machine");
  return std::make_unique<CpuBackend>(options);
}

std::string cpu_bf16_unavailable_reason() {
  const auto has = [](dnnl::cpu_isa isa) { return (int(dnnl::get_effective_cpu_isa()) & int(isa)) == int(isa); };
  return has(dnnl::cpu_isa::avx512_core_bf16) ? "" : "this processor has no instructions for it (AVX512_BF16 or AMX)";
}

std::string CpuBackend::description() const {
  const dnnl_version_t& v = *dnnl::version();
  const bool has_avx512 = __builtin_cpu_supports("avx512f");
  const char* isa = __builtin_cpu_supports("amx-bf16")     ? "AVX-512 with bf16, AMX"
                    : __builtin_cpu_supports("avx512bf16") ? "AVX-512 with bf16"
                    : has_avx512                           ? "AVX-512"
                                                           : "AVX2";
  return fmt::format("cpu, {}, oneDNN {}.{}.{}{}, {} thread{}", isa, v.major, v.minor, v.patch,
                     conv_->uses_winograd() && has_avx512 && activation_type_ == DType::f32 ? " with Winograd" : "",
                     threads_, threads_ == 1 ? "" : "s");
}

void CpuBackend::linear(View y, ConstView x, WeightView w, ConstView bias) {
  const std::int64_t rows = y.shape.n, out = columns(y);
  Gemm g{.m = rows, .n = out, .k = columns(x), .transpose_b = true};
  if (x.dtype == DType::bf16) return bf16_product(*conv_, g, y, x.data, w.value.data, bias.data);
  if (bias.data) {
    for (std::int64_t r = 0; r < rows; ++r) std::memcpy(y.as<float>() + r * out, bias.data, std::size_t(out) * 4);
    g.write = Write::add;
  }
  sgemm(g, y.as<float>(), x.as<float>(), w.value.as<float>());
}

void CpuBackend::linear_data_grad(View dx, Write write, ConstView dy, WeightView w) {
  const Gemm g{.m = dx.shape.n, .n = columns(dx), .k = columns(dy), .write = write};
  if (dy.dtype == DType::bf16) return bf16_product(*conv_, g, dx, dy.data, w.value.data);
  sgemm(g, dx.as<float>(), dy.as<float>(), w.value.as<float>());
}

void CpuBackend::linear_weight_grad(View dw, Write write, ConstView dy, ConstView x) {
  const Gemm g{.m = columns(dy), .n = columns(x), .k = x.shape.n, .transpose_a = true, .write = write};
  if (x.dtype == DType::bf16) return bf16_product(*conv_, g, dw, dy.data, x.data);
  sgemm(g, dw.as<float>(), dy.as<float>(), x.as<float>());
}

}  // namespace graft
