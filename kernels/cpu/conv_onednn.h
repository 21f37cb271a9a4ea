// oneDNN's convolutions, created once per shape and kept. Only conv_onednn.cpp and the backend's constructor see this.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace graft {

enum class ConvKind { forward, data_grad, weight_grad };

/// What decides which primitive is needed.
struct ConvKey {
  ConvKind kind;
  ConvSpec spec;
  Format x, y;
  DType type = DType::f32;  // of activations and of the weights they are multiplied with
  bool adds = false;        // data_grad in 16 bits: the result is added to another, so it comes in f32
  bool has_bias = false, has_residual = false, has_relu = false;  // forward only
  friend auto operator<=>(const ConvKey&, const ConvKey&) = default;
};

/// A primitive and the formats it wants its weights (or weight gradient) and scratch memory in.
struct ConvPrimitive {
  dnnl::primitive primitive;
  dnnl::memory::desc x, y, w, scratch;
  std::string implementation;  // oneDNN's name, such as "jit:avx512_core"
  bool has_epilogue = false;   // it adds the residual and applies the ReLU that the key names, else others must
};

/// A reorder of weights between K R S C and a packed format.
struct PackKey {
  ConvKey conv;
  bool adds;
  friend auto operator<=>(const PackKey&, const PackKey&) = default;
};

/// oneDNN 2.6 writes machine code for a primitive into memory that it maps, and where it gets none it writes all the
/// same, which ends the program. So there must be enough of it, with a margin for other threads, before one is made.
/// Errors (std::bad_alloc): there is not.
void require_memory_for_code();

class ConvPrimitives {
 public:
  /// `type`: of the activations for which formats are asked.
  ConvPrimitives(bool uses_winograd, DType type);
  const ConvPrimitive& get(const ConvKey& key);
  /// Packs (forward, data_grad) or unpacks (weight_grad) weights.
  const dnnl::reorder& pack(const ConvKey& key, bool adds);
  ConvFormats formats(const ConvSpec& spec);
  dnnl::engine& engine() { return engine_; }
  dnnl::stream& stream() { return stream_; }
  bool uses_winograd() const { return uses_winograd_; }
  std::vector<std::string> implementations() const;

 private:
  bool uses_winograd_;
  DType type_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<ConvKey, ConvPrimitive> primitives_;
  std::map<PackKey, dnnl::reorder> packs_;
  std::map<ConvKey, ConvFormats> formats_;
};

}  // namespace graft
