// Convolutions by oneDNN in the formats that it prefers: `conv_formats` asks with format `any` and takes what comes,
// and weights are packed the same way. A packed copy lives with its parameter until the values change. Where the
// options allow it, 3 x 3 convolutions use Winograd's F(4,3), oneDNN's on processors with AVX-512 and otherwise
// graft's: about twice as fast, a digit less exact.
#include "kernels/cpu/conv_onednn.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <new>
#include <optional>

#include "kernels/cpu/conv_winograd.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

using Memory = dnnl::memory;  // `memory` is a member of the backend
using Tag = Memory::format_tag;

Memory::data_type onednn_type(DType type) {
  return type == DType::bf16 ? Memory::data_type::bf16 : Memory::data_type::f32;
}

Memory::desc any_activation(const Shape& s, DType type) { return {{s.n, s.c, s.h, s.w}, onednn_type(type), Tag::any}; }

Memory::desc activation(const Shape& s, Format format, DType type) {
  Tag tag = Tag::nhwc;
  switch (format.block) {
    case 0:
      tag = Tag::nhwc;
      break;
    case 1:
      tag = Tag::nchw;
      break;
    case 4:
      tag = Tag::nChw4c;
      break;
    case 8:
      tag = Tag::nChw8c;
      break;
    case 16:
      tag = Tag::nChw16c;
      break;
    default:
      throw Error("cpu: no oneDNN format with channel blocks of " + std::to_string(format.block));
  }
  return {{s.n, s.c, s.h, s.w}, onednn_type(type), tag};
}

Memory::dims weight_dims(const ConvSpec& s) { return {s.k, s.x.c, s.r, s.s}; }
/// Gradients of weights are f32 whatever the activations are.
DType weight_type(const ConvKey& key) { return key.kind == ConvKind::weight_grad ? DType::f32 : key.type; }
Memory::desc plain_weight(const ConvKey& key) {
  return {weight_dims(key.spec), onednn_type(weight_type(key)), Tag::ohwi};
}

/// The format a descriptor describes, if it is one of ours.
std::optional<Format> format_of(const Memory::desc& d, const Shape& s, DType type) {
  for (int block : {0, 1, 8, 16, 4})
    if ((block < 2 || s.c % block == 0) && d == activation(s, {block}, type)) return Format{block};
  return std::nullopt;
}

struct Geometry {
  Memory::dims strides, dilation, pad_begin, pad_end;
};
Geometry geometry(const ConvSpec& s) {
  // The last rows and columns that no window reaches count as negative padding at the end.
  const auto end = [](std::int64_t in, std::int64_t out, std::int64_t stride, std::int64_t kernel,
                      std::int64_t dilation,
                      std::int64_t pad) { return (out - 1) * stride + dilation * (kernel - 1) + 1 - in - pad; };
  return {{s.stride_h, s.stride_w},
          {s.dilation_h - 1, s.dilation_w - 1},
          {s.pad_h, s.pad_w},
          {end(s.x.h, s.out_h(), s.stride_h, s.r, s.dilation_h, s.pad_h),
           end(s.x.w, s.out_w(), s.stride_w, s.s, s.dilation_w, s.pad_w)}};
}

using Algorithm = dnnl::algorithm;

dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

/// What follows the convolution while its result is in registers: the residual, a tensor like y, then ReLU. oneDNN's
/// own ReLU turns a NaN into 0. Its leaky one does not; with a slope of 1e-25 it leaves of a negative number next to
/// nothing, and never something positive, so that ReluGrad masks it. (A second eltwise that moved these to 0 would need
/// a third, and oneDNN 2.6 gives all linear ones of a primitive the constants of the first.)
dnnl::post_ops epilogue_ops(const Memory::desc& y, bool has_residual, bool has_relu) {
  constexpr float kSlope = 1e-25f;
  dnnl::post_ops ops;
  if (has_residual) ops.append_binary(Algorithm::binary_add, y);
  if (has_relu) ops.append_eltwise(1.0f, Algorithm::eltwise_relu, kSlope, 0.0f);
  return ops;
}

dnnl::convolution_forward::primitive_desc forward_desc(const dnnl::engine& engine, Algorithm algorithm,
                                                       const ConvSpec& s, const Memory::desc& x, const Memory::desc& y,
                                                       bool has_bias, const dnnl::post_ops& epilogue = {}) {
  const Geometry g = geometry(s);
  const Memory::desc w{weight_dims(s), x.data_type(), Tag::any};
  const Memory::desc b = has_bias ? Memory::desc{{s.k}, Memory::data_type::f32, Tag::x} : Memory::desc{};
  const dnnl::convolution_forward::desc d(dnnl::prop_kind::forward_training, algorithm, x, w, b, y, g.strides,
                                          g.dilation, g.pad_begin, g.pad_end);
  dnnl::primitive_attr attr = attributes();
  attr.set_post_ops(epilogue);
  return {d, attr, engine};
}

bool is_plain_loops(const std::string& implementation) { return implementation.find("ref") != std::string::npos; }

/// Errors (dnnl::error): oneDNN has no such algorithm for this shape, on this CPU.
ConvPrimitive make_primitive(const dnnl::engine& engine, Algorithm algorithm, const ConvKey& key) {
  const ConvSpec& s = key.spec;
  const Memory::desc x = activation(s.x, key.x, key.type), y = activation(s.y(), key.y, key.type);
  const Memory::desc any{weight_dims(s), onednn_type(weight_type(key)), Tag::any};
  const Geometry g = geometry(s);
  const auto made = [&](const dnnl::convolution_forward::primitive_desc& pd, bool has_epilogue) -> ConvPrimitive {
    return {
        dnnl::convolution_forward(pd), x, y, pd.weights_desc(), pd.scratchpad_desc(), pd.impl_info_str(), has_epilogue};
  };
  if (key.has_residual || key.has_relu) try {
      const auto pd =
          forward_desc(engine, algorithm, s, x, y, key.has_bias, epilogue_ops(y, key.has_residual, key.has_relu));
      if (!is_plain_loops(pd.impl_info_str())) return made(pd, true);
    } catch (const dnnl::error&) {
      // Winograd and some shapes take no epilogue: it follows in a pass of its own.
    }
  const auto forward = forward_desc(engine, algorithm, s, x, y, key.has_bias);
  if (key.kind == ConvKind::forward) return made(forward, false);
  if (key.kind == ConvKind::data_grad) {
    const Memory::desc dx = key.adds ? activation(s.x, key.x, DType::f32) : x;
    const dnnl::convolution_backward_data::desc d(algorithm, dx, any, y, g.strides, g.dilation, g.pad_begin, g.pad_end);
    const dnnl::convolution_backward_data::primitive_desc pd(d, attributes(), engine, forward);
    return {dnnl::convolution_backward_data(pd), dx, y, pd.weights_desc(), pd.scratchpad_desc(), pd.impl_info_str()};
  }
  const dnnl::convolution_backward_weights::desc d(algorithm, x, any, y, g.strides, g.dilation, g.pad_begin, g.pad_end);
  const dnnl::convolution_backward_weights::primitive_desc pd(d, attributes(), engine, forward);
  return {
      dnnl::convolution_backward_weights(pd), x, y, pd.diff_weights_desc(), pd.scratchpad_desc(), pd.impl_info_str()};
}

Memory wrap(const Memory::desc& d, const dnnl::engine& engine, const void* data) {
  return Memory(d, engine, const_cast<void*>(data));
}

/// The packed copies of one parameter, one per kind of use; lives in WeightView::packed.
struct PackedWeights {
  std::uint64_t version = 0;
  struct Entry {
    Memory::desc desc;
    std::unique_ptr<Scratch> data;
  };
  std::vector<Entry> entries;
};

template <class Fn>
decltype(auto) checked(const char* what, const ConvSpec& s, Fn&& fn) {
  try {
    return fn();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw std::bad_alloc();
    throw Error(fmt::format("{}: oneDNN failed ({}) for x {} and weight [{},{},{},{}]", what, e.what(), to_string(s.x),
                            s.k, s.x.c, s.r, s.s));
  }
}

/// For what makes primitives.
template <class Fn>
decltype(auto) checked_making(const char* what, const ConvSpec& s, Fn&& fn) {
  require_memory_for_code();
  return checked(what, s, fn);
}

}  // namespace

void require_memory_for_code() {
  constexpr std::size_t kBytes = std::size_t{16} << 20;
  void* block = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  munmap(block, kBytes);
}

ConvPrimitives::ConvPrimitives(bool uses_winograd, DType type)
    : uses_winograd_(uses_winograd), type_(type), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

ConvFormats ConvPrimitives::formats(const ConvSpec& s) {
  const ConvKey key{.kind = ConvKind::forward, .spec = s, .x = {}, .y = {}};
  if (const auto it = formats_.find(key); it != formats_.end()) return it->second;
  const auto pd = checked_making("conv_formats", s, [&] {
    return forward_desc(engine_, Algorithm::convolution_direct, s, any_activation(s.x, type_),
                        any_activation(s.y(), type_), false);
  });
  const auto x = format_of(pd.src_desc(), s.x, type_), y = format_of(pd.dst_desc(), s.y(), type_);
  const ConvFormats formats = x && y ? ConvFormats{*x, *y} : ConvFormats{kNhwc, kNhwc};
  return formats_.emplace(key, formats).first->second;
}

const ConvPrimitive& ConvPrimitives::get(const ConvKey& key) {
  if (const auto it = primitives_.find(key); it != primitives_.end()) return it->second;
  const ConvSpec& s = key.spec;
  const bool may_transform = uses_winograd_ && key.type == DType::f32 && s.r == 3 && s.s == 3 && s.stride_h == 1 &&
                             s.stride_w == 1 && s.dilation_h == 1 && s.dilation_w == 1;
  if (may_transform) try {
      require_memory_for_code();
      return primitives_.emplace(key, make_primitive(engine_, Algorithm::convolution_winograd, key)).first->second;
    } catch (const dnnl::error&) {
      // No Winograd for this shape or CPU: the direct algorithm has every shape.
    }
  return checked_making("conv2d", s, [&]() -> const ConvPrimitive& {
    return primitives_.emplace(key, make_primitive(engine_, Algorithm::convolution_direct, key)).first->second;
  });
}

const dnnl::reorder& ConvPrimitives::pack(const ConvKey& key, bool adds) {
  const PackKey pack_key{key, adds};
  if (const auto it = packs_.find(pack_key); it != packs_.end()) return it->second;
  const Memory::desc packed = get(key).w, plain = plain_weight(key);
  const bool unpacks = key.kind == ConvKind::weight_grad;
  dnnl::primitive_attr attr;
  if (adds) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attr.set_post_ops(ops);
  }
  return checked_making("conv2d weights", key.spec, [&]() -> const dnnl::reorder& {
    const dnnl::reorder::primitive_desc pd(engine_, unpacks ? packed : plain, engine_, unpacks ? plain : packed, attr);
    return packs_.emplace(pack_key, dnnl::reorder(pd)).first->second;
  });
}

std::vector<std::string> ConvPrimitives::implementations() const {
  std::vector<std::string> lines;
  for (const auto& [key, made] : primitives_) {
    const ConvSpec& s = key.spec;
    const char* kind = key.kind == ConvKind::forward     ? "forward"
                       : key.kind == ConvKind::data_grad ? "data gradient"
                                                         : "weight gradient";
    lines.push_back(
        fmt::format("{} {} {}x{} /{} -> {}: {}", kind, to_string(s.x), s.r, s.s, s.stride_h, s.k, made.implementation));
  }
  return lines;
}

namespace {

/// The weights in the format that `made` wants: the caller's own memory if that is plain, a kept copy, or one in
/// `temporary`.
const void* packed_weights(CpuBackend& backend, ConvPrimitives& conv, const ConvKey& key, const ConvPrimitive& made,
                           const WeightView& w, std::unique_ptr<Scratch>& temporary) {
  if (made.w == plain_weight(key)) return w.value.data;
  const auto fill = [&](Scratch& to) {
    Memory from = wrap(plain_weight(key), conv.engine(), w.value.data),
           target = wrap(made.w, conv.engine(), to.as<void>());
    conv.pack(key, false).execute(conv.stream(), from, target);
  };
  if (!w.packed) {
    temporary = std::make_unique<Scratch>(backend, std::int64_t(made.w.get_size()));
    fill(*temporary);
    return temporary->as<void>();
  }
  if (!*w.packed) *w.packed = std::make_shared<PackedWeights>();
  PackedWeights& kept = *static_cast<PackedWeights*>(w.packed->get());
  if (kept.version != w.version) kept.entries.clear(), kept.version = w.version;
  for (const PackedWeights::Entry& e : kept.entries)
    if (e.desc == made.w) return e.data->as<void>();
  auto data = std::make_unique<Scratch>(backend, std::int64_t(made.w.get_size()));
  fill(*data);  // may run out of memory, and then nothing is kept
  kept.entries.push_back({made.w, std::move(data)});
  return kept.entries.back().data->as<void>();
}

}  // namespace

ConvFormats CpuBackend::conv_formats(const ConvSpec& spec) { return conv_->formats(spec); }

bool CpuBackend::is_winograd(const ConvCall& call, DType type) const {
  return has_own_winograd_ && type == DType::f32 && has_winograd(call) && gains_by_winograd(call);
}

ConvWorkspace CpuBackend::conv_workspace(const ConvCall& call) {
  constexpr ConvKind kKinds[] = {ConvKind::forward, ConvKind::data_grad, ConvKind::weight_grad};
  if (is_product(call, activation_type())) return {.scratch = product_scratch(call)};
  if (is_winograd(call, activation_type())) return {.scratch = winograd_scratch(call)};
  const bool is_weight = call.pass == ConvCall::Pass::weight_grad;
  const bool adds_gradient = call.pass == ConvCall::Pass::data_grad && call.write == Write::add;
  const ConvKey key{.kind = kKinds[std::size_t(call.pass)],
                    .spec = call.spec,
                    .x = call.formats.x,
                    .y = call.formats.y,
                    .type = activation_type(),
                    .adds = adds_gradient && activation_type() != DType::f32,
                    .has_bias = call.has_bias};
  const ConvPrimitive& made = conv_->get(key);
  const bool is_plain = made.w == plain_weight(key);
  ConvWorkspace need{.scratch = std::int64_t(made.scratch.get_size())};
  if (is_weight) {
    if (!is_plain || call.write == Write::add) need.sum = std::int64_t(made.w.get_size());
    return need;
  }
  if (!is_plain) need.packed_weights = std::int64_t(made.w.get_size());
  if (adds_gradient) need.sum = call.spec.x.size() * 4;
  return need;
}

void CpuBackend::conv(const ConvSpec& spec, View y, ConstView x, WeightView w, const ConvEpilogue& epilogue) {
  if (is_winograd({.spec = spec, .formats = {x.format, y.format}}, x.dtype))
    return winograd_conv(*this, spec, y, x, w.value, epilogue);
  const ConvKey key{.kind = ConvKind::forward,
                    .spec = spec,
                    .x = x.format,
                    .y = y.format,
                    .type = x.dtype,
                    .has_bias = epilogue.bias.data != nullptr,
                    .has_residual = epilogue.residual.data != nullptr,
                    .has_relu = epilogue.relu};
  const ConvPrimitive& made = conv_->get(key);
  std::unique_ptr<Scratch> temporary;
  const void* weights = packed_weights(*this, *conv_, key, made, w, temporary);
  const Scratch scratch(*this, std::int64_t(made.scratch.get_size()));
  const dnnl::engine& engine = conv_->engine();
  std::unordered_map<int, Memory> args{{DNNL_ARG_SRC, wrap(made.x, engine, x.data)},
                                       {DNNL_ARG_WEIGHTS, wrap(made.w, engine, weights)},
                                       {DNNL_ARG_DST, wrap(made.y, engine, y.data)},
                                       {DNNL_ARG_SCRATCHPAD, wrap(made.scratch, engine, scratch.as<void>())}};
  if (key.has_bias)
    args.insert({DNNL_ARG_BIAS, wrap({{spec.k}, Memory::data_type::f32, Tag::x}, engine, epilogue.bias.data)});
  if (made.has_epilogue && key.has_residual)
    args.insert({DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, wrap(made.y, engine, epilogue.residual.data)});
  checked("conv2d", spec, [&] { made.primitive.execute(conv_->stream(), args); });
  if (made.has_epilogue) return;
  if (epilogue.residual.data) map(Identity{}, y, Write::add, {epilogue.residual});
  if (epilogue.relu) map(Relu{}, y, Write::overwrite, {y});
}

void CpuBackend::conv_data_grad(const ConvSpec& spec, View dx, Write write, ConstView dy, WeightView w) {
  const ConvCall call{
      .pass = ConvCall::Pass::data_grad, .spec = spec, .formats = {dx.format, dy.format}, .write = write};
  if (is_product(call, dx.dtype)) return product_data_grad(spec, dx, write, dy, w);
  if (is_winograd(call, dx.dtype)) return winograd_data_grad(*this, spec, dx, write, dy, w.value);
  const ConvKey key{.kind = ConvKind::data_grad,
                    .spec = spec,
                    .x = dx.format,
                    .y = dy.format,
                    .type = dy.dtype,
                    .adds = write == Write::add && dy.dtype != DType::f32};
  const ConvPrimitive& made = conv_->get(key);
  std::unique_ptr<Scratch> temporary, sum;
  const void* weights = packed_weights(*this, *conv_, key, made, w, temporary);
  const Scratch scratch(*this, std::int64_t(made.scratch.get_size()));
  View target = dx;
  if (write == Write::add) {
    sum = std::make_unique<Scratch>(*this, dx.shape.size() * 4);
    target.data = sum->as<void>(), target.dtype = DType::f32;
  }
  const dnnl::engine& engine = conv_->engine();
  checked("conv2d data gradient", spec, [&] {
    made.primitive.execute(conv_->stream(), {{DNNL_ARG_DIFF_DST, wrap(made.y, engine, dy.data)},
                                             {DNNL_ARG_WEIGHTS, wrap(made.w, engine, weights)},
                                             {DNNL_ARG_DIFF_SRC, wrap(made.x, engine, target.data)},
                                             {DNNL_ARG_SCRATCHPAD, wrap(made.scratch, engine, scratch.as<void>())}});
  });
  if (write == Write::add) copy(dx, Write::add, target);
}

void CpuBackend::conv_weight_grad(const ConvSpec& spec, View dw, Write write, ConstView dy, ConstView x) {
  const ConvCall call{.pass = ConvCall::Pass::weight_grad, .spec = spec, .formats = {x.format, dy.format}};
  if (is_product(call, x.dtype)) return product_weight_grad(spec, dw, write, dy, x);
  if (is_winograd(call, x.dtype)) return winograd_weight_grad(*this, spec, dw, write, dy, x);
  const ConvKey key{.kind = ConvKind::weight_grad, .spec = spec, .x = x.format, .y = dy.format, .type = x.dtype};
  const ConvPrimitive& made = conv_->get(key);
  const bool is_plain = made.w == plain_weight(key) && write == Write::overwrite;
  std::unique_ptr<Scratch> packed;
  if (!is_plain) packed = std::make_unique<Scratch>(*this, std::int64_t(made.w.get_size()));
  const Scratch scratch(*this, std::int64_t(made.scratch.get_size()));
  const dnnl::engine& engine = conv_->engine();
  Memory result = wrap(made.w, engine, is_plain ? dw.data : packed->as<void>());
  checked("conv2d weight gradient", spec, [&] {
    made.primitive.execute(conv_->stream(), {{DNNL_ARG_SRC, wrap(made.x, engine, x.data)},
                                             {DNNL_ARG_DIFF_DST, wrap(made.y, engine, dy.data)},
                                             {DNNL_ARG_DIFF_WEIGHTS, result},
                                             {DNNL_ARG_SCRATCHPAD, wrap(made.scratch, engine, scratch.as<void>())}});
    if (is_plain) return;
    Memory plain = wrap(plain_weight(key), engine, dw.data);
    conv_->pack(key, write == Write::add).execute(conv_->stream(), result, plain);
  });
}

std::vector<std::string> cpu_implementations(const Backend& backend) {
  const auto* cpu = dynamic_cast<const CpuBackend*>(&backend);
  if (!cpu) throw Error("cpu_implementations: this is not the CPU device");
  return cpu->conv_primitives().implementations();
}

}  // namespace graft
