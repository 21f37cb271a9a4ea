// Draws, uploads, downloads and guards the operands of op cases. Elements are placed on the host by the formula of
// backend.h, so a device's own `copy` is not needed to test the rest.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/half.h"
#include "kernels/philox.h"
#include "tests/support/op_cases.h"

namespace graft {
namespace {

constexpr unsigned char kPoison = 0xFF;  // NaN in every floating-point type

std::uint64_t hash(const std::string& text) {  // FNV-1a
  std::uint64_t h = 0xcbf29ce484222325;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return h;
}

std::vector<double> draw(const Operand& o) {
  const std::int64_t size = o.shape.size();
  std::vector<double> values(static_cast<std::size_t>(size));
  Random random({.seed = hash(o.name)});
  switch (o.fill.kind) {
    case Fill::Kind::uniform:
      for (double& v : values) v = random.uniform(o.fill.low, o.fill.high);
      break;
    case Fill::Kind::separated:
      for (std::int64_t i = 0; i < size; ++i) {
        const std::int64_t w = i % o.shape.w, h = i / o.shape.w % o.shape.h, n = i / (o.shape.c * o.shape.pixels());
        const double magnitude = random.uniform(o.fill.low, o.fill.high);
        values[static_cast<std::size_t>(i)] = (w + h + n) % 2 == 0 ? magnitude : -magnitude;
      }
      break;
    case Fill::Kind::distinct:
      std::iota(values.begin(), values.end(), -static_cast<double>(size / 2));
      for (std::int64_t i = size - 1; i > 0; --i)
        std::swap(values[static_cast<std::size_t>(i)], values[static_cast<std::size_t>(random.below(i + 1))]);
      for (double& v : values) v /= 64;
      break;
    case Fill::Kind::whole:
      for (double& v : values) v = static_cast<double>(random.below(static_cast<std::int64_t>(o.fill.high)));
      break;
  }
  if (o.adjust) o.adjust(values);
  for (double& v : values) v = rounded_to(o.stored.value_or(DType::f32), v);
  return values;
}

void write_element(void* data, DType dtype, std::int64_t i, double value) {
  switch (dtype) {
    case DType::i32:
      static_cast<std::int32_t*>(data)[i] = static_cast<std::int32_t>(value);
      return;
    case DType::u8:
      static_cast<std::uint8_t*>(data)[i] = static_cast<std::uint8_t>(value);
      return;
    default:
      with_float_type(dtype, [&](auto t) { static_cast<decltype(t)*>(data)[i] = static_cast<decltype(t)>(value); });
  }
}

double read_element(const void* data, DType dtype, std::int64_t i) {
  switch (dtype) {
    case DType::i32:
      return static_cast<double>(static_cast<const std::int32_t*>(data)[i]);
    case DType::u8:
      return static_cast<double>(static_cast<const std::uint8_t*>(data)[i]);
    default:
      return with_float_type(dtype,
                             [&](auto t) { return static_cast<double>(static_cast<const decltype(t)*>(data)[i]); });
  }
}

/// Calls body(logical index in N C H W order, index in memory).
template <class Body>
void for_each_element(const ConstView& v, const Body& body) {
  const Strides s = strides_of(v);
  std::int64_t i = 0;
  for (std::int64_t n = 0; n < v.shape.n; ++n)
    for (std::int64_t c = 0; c < v.shape.c; ++c)
      for (std::int64_t p = 0; p < v.shape.pixels(); ++p) body(i++, s(n, c, p));
}

DType type_on(const Backend& backend, const Operand& o) {
  if (o.dtype) return *o.dtype;
  // The reference has doubles of the rounded values, but where it is asked to round as well (rounded.h).
  const bool is_exact = backend.device().kind == DeviceKind::reference && !is_half(backend.activation_type());
  return o.stored && !is_exact ? *o.stored : backend.compute_type();
}

bool has_values(Role role, Write write) {
  return role == Role::input || role == Role::updated || role == Role::aside ||
         (role == Role::output && write == Write::add);
}

}  // namespace

Operand Operand::in(Format f) const {
  Operand o = *this;
  o.format = f;
  return o;
}
Operand Operand::from(FormatFrom f) const {
  Operand o = *this;
  o.format_from = f;
  return o;
}
Operand Operand::slice(std::int64_t before, std::int64_t after) const {
  Operand o = *this;
  o.channels_before = before, o.channels_after = after;
  return o;
}
Operand Operand::of(DType type) const {
  Operand o = *this;
  o.dtype = type;
  return o;
}
Operand Operand::activation() const {
  Operand o = *this;
  o.is_activation = true;
  return o;
}
Operand Operand::by_way_of_activation() const {
  Operand o = *this;
  o.may_pass_activation = true;
  return o;
}
Operand Operand::adjusted(std::function<void(std::vector<double>&)> f) const {
  Operand o = *this;
  o.adjust = std::move(f);
  return o;
}

bool OpCase::takes_write() const {
  return std::any_of(operands.begin(), operands.end(), [](const Operand& o) { return o.role == Role::output; });
}

double OpCase::bytes(const Backend& backend) const {
  double total = 0;
  for (const Operand& o : operands) {
    const double size = static_cast<double>(o.shape.size() * size_of(type_on(backend, o)));
    if (o.role != Role::aside) total += o.role == Role::updated ? 2 * size : size;
  }
  return total;
}

std::vector<Format> formats_of(const OpCase& op, Backend& backend) {
  std::vector<Format> formats;
  for (const Operand& o : op.operands)
    formats.push_back(o.format_from == FormatFrom::given    ? o.format
                      : o.format_from == FormatFrom::conv_x ? backend.conv_formats(*op.conv).x
                                                            : backend.conv_formats(*op.conv).y);
  return formats;
}

CaseOperands::CaseOperands(Backend& backend, const OpCase& op, Write write, const std::vector<Format>& formats,
                           std::int64_t guard_bytes)
    : backend_(backend), guard_bytes_(guard_bytes) {
  for (std::size_t i = 0; i < op.operands.size(); ++i) {
    const Operand& o = op.operands[i];
    Buffer b{o, formats[i], type_on(backend, o)};
    const std::int64_t size = o.shape.n * o.pitch() * o.shape.pixels() * size_of(b.dtype);
    b.bytes.assign(static_cast<std::size_t>(size + 2 * guard_bytes_), kPoison);
    b.block = backend.allocate(static_cast<std::int64_t>(b.bytes.size()));
    if (!buffers_.emplace(o.name, std::move(b)).second) throw Error("op case: two operands are named " + o.name);
    if (has_values(o.role, write))
      set(o.name, draw(o));
    else
      backend_.copy_in(find(o.name).block, find(o.name).bytes.data(), size + 2 * guard_bytes_);
  }
  backend_.synchronize();
}

CaseOperands::~CaseOperands() {
  for (auto& [name, b] : buffers_) backend_.release(b.block);
}

const CaseOperands::Buffer& CaseOperands::find(const std::string& name) const {
  const auto it = buffers_.find(name);
  if (it == buffers_.end()) throw Error("op case: no operand is named " + name);
  return it->second;
}

View CaseOperands::view_in(const Buffer& b, void* block) const {
  View v{static_cast<unsigned char*>(block) + guard_bytes_, b.dtype, b.format, b.operand.shape, b.operand.pitch()};
  const std::int64_t before = b.operand.channels_before;
  const std::int64_t first = b.format == kNhwc ? before : before / b.format.block * strides_of(v).group;
  v.data = v.as<unsigned char>() + first * size_of(b.dtype);
  return v;
}

View CaseOperands::operator[](const std::string& name) const {
  const Buffer& b = find(name);
  return view_in(b, b.block);
}

View CaseOperands::row(const std::string& name, std::int64_t row) const {
  View v = (*this)[name];
  v.data = v.as<unsigned char>() + row * v.pitch * size_of(v.dtype);
  v.shape.n = 1;
  return v;
}

std::vector<double> CaseOperands::values(const std::string& name) const {
  const Buffer& b = find(name);
  std::vector<unsigned char> bytes(b.bytes.size());
  backend_.copy_out(bytes.data(), b.block, static_cast<std::int64_t>(bytes.size()));
  backend_.synchronize();
  std::vector<double> values(static_cast<std::size_t>(b.operand.shape.size()));
  const View v = view_in(b, bytes.data());
  for_each_element(v, [&](std::int64_t i, std::int64_t at) {
    values[static_cast<std::size_t>(i)] = read_element(v.data, b.dtype, at);
  });
  return values;
}

void CaseOperands::set(const std::string& name, const std::vector<double>& values) {
  Buffer& b = buffers_.at(name);
  const View v = view_in(b, b.bytes.data());
  for_each_element(v, [&](std::int64_t i, std::int64_t at) {
    write_element(v.data, b.dtype, at, values[static_cast<std::size_t>(i)]);
  });
  backend_.copy_in(b.block, b.bytes.data(), static_cast<std::int64_t>(b.bytes.size()));
}

std::string CaseOperands::damage() const {
  std::string found;
  for (const auto& [name, b] : buffers_) {
    std::vector<unsigned char> bytes(b.bytes.size()), expected = b.bytes;
    backend_.copy_out(bytes.data(), b.block, static_cast<std::int64_t>(bytes.size()));
    backend_.synchronize();
    if (b.operand.role != Role::input) {  // the view itself may change: blank it on both sides
      for (std::vector<unsigned char>* side : {&bytes, &expected}) {
        const View v = view_in(b, side->data());
        for_each_element(v, [&](std::int64_t, std::int64_t at) { write_element(v.data, b.dtype, at, 0); });
      }
    }
    if (bytes != expected)
      found += fmt::format("{}{} was changed{}", found.empty() ? "" : "; ", name,
                           b.operand.role == Role::input ? "" : " outside its view");
  }
  return found;
}

}  // namespace graft
