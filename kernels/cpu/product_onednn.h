// oneDNN's products of matrices in bf16, created once per size and kept. Row-major: C (m x n) = op(A) op(B), + a bias
// of n numbers, + C where it adds; summed in float and rounded once.
#pragma once

#include <map>

#include "kernels/cpu/cpu_backend.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace graft {

struct ProductSpec {
  std::int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  Write write = Write::overwrite;
  DType result = DType::bf16;  // or f32
  bool has_bias = false;
  friend auto operator<=>(const ProductSpec&, const ProductSpec&) = default;
};

class Products {
 public:
  explicit Products(const dnnl::engine& engine) : engine_(engine), stream_(engine) {}
  /// Memory that the call takes while it runs.
  std::int64_t scratch_bytes(const ProductSpec& spec);
  /// a and b hold bf16, c what the spec says, the bias float. Errors: oneDNN has no such product.
  void run(Backend& backend, const ProductSpec& spec, void* c, const void* a, const void* b,
           const void* bias = nullptr);

 private:
  struct Made {
    dnnl::matmul primitive;
    dnnl::memory::desc a, b, c, bias, scratch;
  };
  const Made& get(const ProductSpec& spec);
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<ProductSpec, Made> made_;
};

}  // namespace graft
