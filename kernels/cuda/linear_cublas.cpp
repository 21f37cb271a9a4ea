// Linear layers by cuBLAS, and those gradients of 1x1 convolutions that are better products than cuDNN graphs: 16-bit or
// float32 matrices, sums in float32, weight gradients in float32 whatever the rest is. Float32 matrices use TF32 only where
// that precision was asked for; one stream gives the same bits every time.
#include <fmt/format.h>

#include "kernels/cuda/cuda_backend.h"

namespace graft {
namespace {

void check_cublas(cublasStatus_t status, const std::string& what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(fmt::format("{}: cuBLAS failed: {}", what, cublasGetStatusString(status)));
}

cudaDataType_t data_type(DType dtype) {
  return dtype == DType::bf16 ? CUDA_R_16BF : dtype == DType::f16 ? CUDA_R_16F : CUDA_R_32F;
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
    check_cublas(cublasCreate(cublas_.out()), "cuBLAS");
    check_cublas(cublasSetStream(cublas_.get(), work), "cuBLAS");
    // Of our own, or cuBLAS would allocate inside captured graphs, and choose otherwise there than outside.
    constexpr std::int64_t kWorkspace = std::int64_t{32} << 20;
    cublas_workspace_ = allocate(kWorkspace);
    check_cublas(cublasSetWorkspace(cublas_.get(), cublas_workspace_, std::size_t(kWorkspace)), "cuBLAS");
    // Sums over parts of a product stay float32 too.
    check_cublas(cublasSetMathMode(cublas_.get(), CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION), "cuBLAS");
  }
  return cublas_.get();
}

cublasComputeType_t CudaBackend::product_type() const {
  return precision_ == Precision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

// cuBLAS is column-major: the transposed product C' = op(B)' op(A)' of the same memory.
void CudaBackend::gemm(const Gemm& g, View c, ConstView a, ConstView b) {
  constexpr float kOne = 1;
  check_cublas(
      cublasGemmEx_64(cublas(), g.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                      g.n, g.m, g.k, &kOne, b.data, data_type(b.dtype), g.transpose_b ? g.k : g.n, a.data,
                      data_type(a.dtype), g.transpose_a ? g.m : g.k, &g.beta, c.data, data_type(c.dtype), g.n,
                      product_type(), CUBLAS_GEMM_DEFAULT),
      fmt::format("product {}x{}x{} of {}", g.m, g.n, g.k, to_string(a.dtype)));
}

void CudaBackend::linear(View y, ConstView x, WeightView w, ConstView bias) {
  gemm({.m = y.shape.n, .n = columns(y), .k = columns(x), .transpose_b = true}, y, x, w.value);
  if (bias.data) gpu::add_bias(y, bias, stream());
}

void CudaBackend::linear_data_grad(View dx, Write write, ConstView dy, WeightView w) {
  gemm({.m = dx.shape.n, .n = columns(dx), .k = columns(dy), .beta = write == Write::add ? 1.0f : 0.0f}, dx, dy,
       w.value);
}

// cuDNN can only overwrite: that takes a copy beside dx, and another pass over both.
bool CudaBackend::add_pointwise_data_grad(const ConvSpec& spec, View dx, ConstView dy, const WeightView& w) {
  if (!spec.is_pointwise() || !dx.is_dense() || !dy.is_dense() || dx.dtype != dy.dtype) return false;
  gemm({.m = dx.shape.n * dx.shape.pixels(), .n = spec.x.c, .k = spec.k, .beta = 1}, dx, dy, w.value);
  return true;
}

// cuDNN would round it to 16 bits first, and take a pass more to widen it; both are as fast as memory.
bool CudaBackend::pointwise_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x) {
  if (!spec.is_pointwise() || !x.is_dense() || !dy.is_dense() || dy.dtype == DType::f32) return false;
  gemm({.m = spec.k,
        .n = spec.x.c,
        .k = x.shape.n * x.shape.pixels(),
        .transpose_a = true,
        .beta = write == Write::add ? 1.0f : 0.0f},
       dw, dy, x);
  return true;
}

void CudaBackend::linear_weight_grad(View dw, Write write, ConstView dy, ConstView x) {
  gemm({.m = columns(dy),
        .n = columns(x),
        .k = x.shape.n,
        .transpose_a = true,
        .beta = write == Write::add ? 1.0f : 0.0f},
       dw, dy, x);
}

}  // namespace graft
