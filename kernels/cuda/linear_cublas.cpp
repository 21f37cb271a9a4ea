// Linear layers by cuBLAS in float32. Its default math mode uses no TF32 for float32 matrices, and one stream gives the
// same bits every time.
#include <fmt/format.h>

#include "kernels/cuda/cuda_backend.h"

namespace graft {
namespace {

void check_cublas(cublasStatus_t status, const std::string& what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(fmt::format("{}: cuBLAS failed: {}", what, cublasGetStatusString(status)));
}

std::int64_t columns(const ConstView& v) { return v.shape.size() / v.shape.n; }

}  // namespace

/// Row-major C (m x n) = op(A) op(B) + beta C.
struct CudaBackend::Gemm {
  std::int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  float beta = 0;
};

cublasHandle_t CudaBackend::cublas() {
  const cudaStream_t work = stream();
  if (!cublas_) {
    check_cublas(cublasCreate(cublas_.out()), "linear");
    check_cublas(cublasSetStream(cublas_.get(), work), "linear");
    check_cublas(cublasSetMathMode(cublas_.get(), CUBLAS_DEFAULT_MATH), "linear");
  }
  return cublas_.get();
}

// cuBLAS is column-major: the transposed product C' = op(B)' op(A)' of the same memory.
void CudaBackend::gemm(const Gemm& g, float* c, const float* a, const float* b) {
  constexpr float kOne = 1;
  check_cublas(
      cublasSgemm_64(cublas(), g.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                     g.n, g.m, g.k, &kOne, b, g.transpose_b ? g.k : g.n, a, g.transpose_a ? g.m : g.k, &g.beta, c, g.n),
      fmt::format("linear {}x{}x{}", g.m, g.n, g.k));
}

void CudaBackend::linear(View y, ConstView x, WeightView w, ConstView bias) {
  gemm({.m = y.shape.n, .n = columns(y), .k = columns(x), .transpose_b = true}, y.as<float>(), x.as<float>(),
       w.value.as<float>());
  if (bias.data) gpu::add_bias(y, bias, stream());
}

void CudaBackend::linear_data_grad(View dx, Write write, ConstView dy, WeightView w) {
  gemm({.m = dx.shape.n, .n = columns(dx), .k = columns(dy), .beta = write == Write::add ? 1.0f : 0.0f}, dx.as<float>(),
       dy.as<float>(), w.value.as<float>());
}

void CudaBackend::linear_weight_grad(View dw, Write write, ConstView dy, ConstView x) {
  gemm({.m = columns(dy),
        .n = columns(x),
        .k = x.shape.n,
        .transpose_a = true,
        .beta = write == Write::add ? 1.0f : 0.0f},
       dw.as<float>(), dy.as<float>(), x.as<float>());
}

}  // namespace graft
