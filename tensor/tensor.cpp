#include "tensor/tensor.h"

#include "kernels/half.h"
#include "tensor/context.h"

namespace graft {
namespace {

/// Whether the memory is in logical N C H W order already.
bool is_in_host_order(const Tensor& t) {
  return t.view().is_dense() && (t.format() == kNchw || (t.format() == kNhwc && t.shape().pixels() == 1));
}

template <class T>
std::vector<T> read(const Tensor& t) {
  Backend& device = t.backend();
  Tensor plain = t;
  if (!is_in_host_order(t)) {
    plain = Tensor(t.context(), t.shape(), kNchw, t.dtype());
    device.copy(plain.view(), Write::overwrite, t.view());
  }
  return with_float_type(t.dtype(), [&](auto element) {
    using Element = decltype(element);
    std::vector<Element> values(t.shape().size());
    device.copy_out(values.data(), plain.view().data, t.shape().size() * std::int64_t(sizeof element));
    if constexpr (std::is_same_v<Element, T>)
      return values;
    else
      return std::vector<T>(values.begin(), values.end());
  });
}

template <class T>
void write(Tensor& t, std::span<const T> values) {
  if (std::int64_t(values.size()) != t.shape().size())
    throw Error("from_host: " + to_string(t.shape()) + " needs " + std::to_string(t.shape().size()) + " values, got " +
                std::to_string(values.size()));
  Backend& device = t.backend();
  Tensor plain = is_in_host_order(t) ? t : Tensor(t.context(), t.shape(), kNchw, t.dtype());
  const auto raw = [&](const auto& from) {
    device.copy_in(plain.view().data, from.data(), t.shape().size() * std::int64_t(sizeof from[0]));
  };
  with_float_type(t.dtype(), [&](auto element) {
    using Element = decltype(element);
    if constexpr (std::is_same_v<Element, T>)
      raw(values);
    else
      raw(std::vector<Element>(values.begin(), values.end()));
  });
  if (!is_in_host_order(t)) device.copy(t.view(), Write::overwrite, plain.view());
}

}  // namespace

Storage::Storage(Backend& backend, std::int64_t bytes) : backend_(backend), data_(backend.allocate(bytes)) {}
Storage::~Storage() { backend_.release(data_); }

Tensor::Tensor(Context& context, const Shape& shape, Format format, DType dtype)
    : context_(&context), pitch_(shape.c), shape_(shape), format_(format), dtype_(dtype) {
  if (format.block > 1 && shape.c % format.block != 0)
    throw Error("tensor: " + to_string(shape) + " cannot be stored in channel blocks of " +
                std::to_string(format.block));
  storage_ = std::make_shared<Storage>(context.backend(), shape.size() * size_of(dtype));
}

Backend& Tensor::backend() const { return context_->backend(); }

View Tensor::view() const {
  return {static_cast<char*>(storage_->data()) + offset_ * size_of(dtype_), dtype_, format_, shape_, pitch_};
}

Tensor Tensor::channels(std::int64_t begin, std::int64_t end) const {
  if (begin < 0 || end > shape_.c || begin >= end)
    throw Error("channels: [" + std::to_string(begin) + ", " + std::to_string(end) + ") is not within " +
                to_string(shape_));
  if (format_.block > 1 && (begin % format_.block != 0 || end % format_.block != 0))
    throw Error("channels: a slice of a blocked tensor must start and end at multiples of " +
                std::to_string(format_.block));
  Tensor slice = *this;
  const ConstView whole{nullptr, dtype_, format_, shape_, pitch_};
  slice.offset_ += format_ == kNhwc ? begin : begin / format_.block * strides_of(whole).group;
  slice.first_channel_ += begin;
  slice.shape_.c = end - begin;
  slice.recipe_ = nullptr;
  return slice;
}

Tensor Tensor::window(std::int64_t begin, const Shape& shape) const {
  if (begin < 0 || begin + shape.size() > shape_.size()) throw Error("window: outside the arena");
  Tensor w = *this;
  w.offset_ += begin;
  w.shape_ = shape;
  w.pitch_ = shape.c;
  w.first_channel_ = 0;
  w.format_ = kNhwc;
  w.variable_ = nullptr;
  w.recipe_ = nullptr;
  return w;
}

Tensor Tensor::reshaped(const Shape& shape) const {
  if (format_ != kNhwc || pitch_ != shape_.c || shape.size() != shape_.size())
    throw Error("reshape: " + to_string(shape_) + " is not a dense NHWC tensor of the size of " + to_string(shape));
  return window(0, shape);
}

std::vector<double> Tensor::to_host() const { return read<double>(*this); }
std::vector<float> Tensor::to_host_floats() const { return read<float>(*this); }
void Tensor::from_host(std::span<const double> nchw) { write(*this, nchw); }
void Tensor::from_host(std::span<const float> nchw) { write(*this, nchw); }

bool Tensor::needs_grad() const { return variable_ && variable_->needs_grad; }

Tensor Tensor::without_storage() const {
  Tensor t = *this;
  t.storage_ = nullptr;
  t.recipe_ = nullptr;
  return t;
}

Tensor empty(Context& context, const Shape& shape, Format format) {
  return Tensor(context, shape, format, context.dtype());
}

Tensor zeros(Context& context, const Shape& shape, Format format) {
  Tensor t = empty(context, shape, format);
  context.backend().zero(t.view().data, shape.size() * size_of(t.dtype()));
  return t;
}

Tensor empty_like(const Tensor& x) { return Tensor(x.context(), x.shape(), x.format(), x.dtype()); }

Tensor converted(const Tensor& x, DType type) {
  if (x.dtype() == type) return x;
  const Tensor y(x.context(), x.shape(), x.format(), type);
  x.backend().copy(y.view(), Write::overwrite, x.view());
  return y;
}

Tensor from_host(Context& context, const Shape& shape, std::span<const double> nchw) {
  Tensor t = empty(context, shape);
  t.from_host(nchw);
  return t;
}

}  // namespace graft
