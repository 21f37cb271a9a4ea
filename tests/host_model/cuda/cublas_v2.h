// The one product that kernels/cuda/linear_cublas.cpp asks of cuBLAS, as plain loops: so that its shapes, transposes
// and strides are held against the reference too.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/half.h"

using cublasHandle_t = struct cublasContext*;
enum cublasStatus_t { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_INVALID_VALUE = 7 };
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };
enum cublasMath_t { CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION = 16 };
enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_16F = 2, CUDA_R_16BF = 14 };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F = 68, CUBLAS_COMPUTE_32F_FAST_TF32 = 77 };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT = -1 };

inline cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  static char instance;  // never followed
  *handle = reinterpret_cast<cublasHandle_t>(&instance);
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasDestroy(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasSetWorkspace(cublasHandle_t, void*, std::size_t) { return CUBLAS_STATUS_SUCCESS; }
inline const char* cublasGetStatusString(cublasStatus_t) { return "an argument is invalid"; }

/// Element i of a matrix.
inline double cublas_element(const void* data, cudaDataType_t type, std::int64_t i) {
  if (type == CUDA_R_16BF) return double(float(static_cast<const graft::BFloat16*>(data)[i]));
  if (type == CUDA_R_16F) return double(float(static_cast<const graft::Float16*>(data)[i]));
  return double(static_cast<const float*>(data)[i]);
}
inline void cublas_store(void* data, cudaDataType_t type, std::int64_t i, double value) {
  if (type == CUDA_R_16BF)
    static_cast<graft::BFloat16*>(data)[i] = graft::BFloat16(value);
  else if (type == CUDA_R_16F)
    static_cast<graft::Float16*>(data)[i] = graft::Float16(value);
  else
    static_cast<float*>(data)[i] = float(value);
}

/// Column-major C [m,n] = alpha op(A) [m,k] op(B) [k,n] + beta C; with beta 0 C need not hold numbers. A and B have one
/// type, C has it too or is float32.
inline cublasStatus_t cublasGemmEx_64(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, std::int64_t m,
                                      std::int64_t n, std::int64_t k, const void* alpha, const void* a,
                                      cudaDataType_t type_a, std::int64_t lda, const void* b, cudaDataType_t type_b,
                                      std::int64_t ldb, const void* beta, void* c, cudaDataType_t type_c,
                                      std::int64_t ldc, cublasComputeType_t, cublasGemmAlgo_t) {
  const std::int64_t rows_a = op_a == CUBLAS_OP_N ? m : k, rows_b = op_b == CUBLAS_OP_N ? k : n;
  if (m < 0 || n < 0 || k < 0 || lda < rows_a || ldb < rows_b || ldc < m) return CUBLAS_STATUS_INVALID_VALUE;
  if (type_a != type_b || (type_c != type_a && type_c != CUDA_R_32F)) return CUBLAS_STATUS_INVALID_VALUE;
  const double scale = double(*static_cast<const float*>(alpha)), keep = double(*static_cast<const float*>(beta));
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = 0; i < m; ++i) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l)
        sum += cublas_element(a, type_a, op_a == CUBLAS_OP_N ? i + l * lda : l + i * lda) *
               cublas_element(b, type_b, op_b == CUBLAS_OP_N ? l + j * ldb : j + l * ldb);
      const std::int64_t to = i + j * ldc;
      cublas_store(c, type_c, to, scale * sum + (keep == 0 ? 0.0 : keep * cublas_element(c, type_c, to)));
    }
  return CUBLAS_STATUS_SUCCESS;
}
