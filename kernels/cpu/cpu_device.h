// The CPU device: oneDNN for convolutions and matrix products, own loops for everything that memory bandwidth bounds.
// This header is what the rest of graft may see; the class is in cpu_backend.h.
#pragma once

#include "kernels/backend.h"

namespace graft {

/// Errors: the CPU lacks AVX2, or bf16 where that is asked for.
std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);

/// Why activations cannot be bf16 here; empty where they can. Processors without instructions for it would be slower
/// with bf16 than without, those without AVX-512 a hundred times.
std::string cpu_bf16_unavailable_reason();

/// Which implementation oneDNN chose for each convolution built so far, "forward [8,64,56,56] 3x3 -> 64: jit:avx2", in
/// order. A name containing "ref" is plain loops, a hundred times too slow. Errors: not a CPU backend.
std::vector<std::string> cpu_implementations(const Backend& backend);

}  // namespace graft
