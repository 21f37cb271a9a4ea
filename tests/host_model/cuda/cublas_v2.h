// The one product that kernels/cuda/linear_cublas.cpp asks of cuBLAS, as plain loops: so that its shapes, transposes
// and strides are held against the reference too.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"

using cublasHandle_t = struct cublasContext*;
enum cublasStatus_t { CUBLAS_STATUS_SUCCESS = 0, CUBLAS_STATUS_INVALID_VALUE = 7 };
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };
enum cublasMath_t { CUBLAS_DEFAULT_MATH = 0 };

inline cublasStatus_t cublasCreate(cublasHandle_t*) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasDestroy(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }
inline const char* cublasGetStatusString(cublasStatus_t) { return "an argument is invalid"; }

/// Column-major C [m,n] = alpha op(A) [m,k] op(B) [k,n] + beta C; with beta 0 C need not hold numbers.
inline cublasStatus_t cublasSgemm_64(cublasHandle_t, cublasOperation_t op_a, cublasOperation_t op_b, std::int64_t m,
                                     std::int64_t n, std::int64_t k, const float* alpha, const float* a,
                                     std::int64_t lda, const float* b, std::int64_t ldb, const float* beta, float* c,
                                     std::int64_t ldc) {
  const std::int64_t rows_a = op_a == CUBLAS_OP_N ? m : k, rows_b = op_b == CUBLAS_OP_N ? k : n;
  if (m < 0 || n < 0 || k < 0 || lda < rows_a || ldb < rows_b || ldc < m) return CUBLAS_STATUS_INVALID_VALUE;
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = 0; i < m; ++i) {
      double sum = 0;
      for (std::int64_t l = 0; l < k; ++l)
        sum += double(a[op_a == CUBLAS_OP_N ? i + l * lda : l + i * lda]) *
               double(b[op_b == CUBLAS_OP_N ? l + j * ldb : j + l * ldb]);
      float& to = c[i + j * ldc];
      to = float(double(*alpha) * sum + (*beta == 0 ? 0.0 : double(*beta) * double(to)));
    }
  return CUBLAS_STATUS_SUCCESS;
}
