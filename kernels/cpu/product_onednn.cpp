#include "kernels/cpu/product_onednn.h"

#include <fmt/format.h>

#include <new>

#include "kernels/cpu/conv_onednn.h"
#include "kernels/scratch.h"

namespace graft {

const Products::Made& Products::get(const ProductSpec& s) {
  if (const auto it = made_.find(s); it != made_.end()) return it->second;
  using Memory = dnnl::memory;
  using Tag = Memory::format_tag;
  using Type = Memory::data_type;
  const auto matrix = [](std::int64_t rows, std::int64_t columns, Type type, bool is_transposed) {
    return Memory::desc({rows, columns}, type, is_transposed ? Tag::ba : Tag::ab);
  };
  Made made{.primitive = {},
            .a = matrix(s.m, s.k, Type::bf16, s.transpose_a),
            .b = matrix(s.k, s.n, Type::bf16, s.transpose_b),
            .c = matrix(s.m, s.n, s.result == DType::bf16 ? Type::bf16 : Type::f32, false),
            .bias = s.has_bias ? matrix(1, s.n, Type::f32, false) : Memory::desc{},
            .scratch = {}};
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.write == Write::add) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attributes.set_post_ops(ops);
  }
  require_memory_for_code();
  try {
    const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(made.a, made.b, made.bias, made.c), attributes, engine_);
    made.primitive = dnnl::matmul(pd);
    made.scratch = pd.scratchpad_desc();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw std::bad_alloc();
    throw Error(fmt::format("oneDNN has no product of {}x{}x{} in bf16 ({})", s.m, s.n, s.k, e.what()));
  }
  return made_.emplace(s, std::move(made)).first->second;
}

std::int64_t Products::scratch_bytes(const ProductSpec& spec) { return std::int64_t(get(spec).scratch.get_size()); }

void Products::run(Backend& backend, const ProductSpec& spec, void* c, const void* a, const void* b, const void* bias) {
  const Made& made = get(spec);
  const Scratch scratch(backend, std::int64_t(made.scratch.get_size()));
  const auto at = [&](const dnnl::memory::desc& d, const void* data) {
    return dnnl::memory(d, engine_, const_cast<void*>(data));
  };
  std::unordered_map<int, dnnl::memory> args{{DNNL_ARG_SRC, at(made.a, a)},
                                             {DNNL_ARG_WEIGHTS, at(made.b, b)},
                                             {DNNL_ARG_DST, at(made.c, c)},
                                             {DNNL_ARG_SCRATCHPAD, at(made.scratch, scratch.as<void>())}};
  if (spec.has_bias) args.insert({DNNL_ARG_BIAS, at(made.bias, bias)});
  try {
    made.primitive.execute(stream_, args);
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw std::bad_alloc();
    throw Error(
        fmt::format("product of matrices: oneDNN failed ({}) for {}x{}x{} in bf16", e.what(), spec.m, spec.n, spec.k));
  }
}

}  // namespace graft
