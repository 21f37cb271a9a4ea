#include "data/weight_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cstring>
#include <utility>

#include "kernels/half.h"

namespace graft {

static_assert(std::endian::native == std::endian::little, "weight files are little-endian and are copied as they are");

std::string dimensions_text(const Dimensions& shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

std::int64_t element_count(const Dimensions& shape, std::string_view what) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 40;
  std::int64_t count = 1;
  bool is_empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0 || size > kLimit) throw Error(fmt::format("{}: impossible shape {}", what, dimensions_text(shape)));
    if (size == 0) {
      is_empty = true;
      continue;
    }
    if (count > kLimit / size) throw Error(fmt::format("{}: impossible shape {}", what, dimensions_text(shape)));
    count *= size;
  }
  return is_empty ? 0 : count;
}

void WeightTable::add(WeightTensor tensor) {
  const std::int64_t expected = element_count(tensor.shape, tensor.name);
  if (static_cast<std::int64_t>(tensor.values.size()) != expected ||
      (!tensor.exact.empty() && tensor.exact.size() != tensor.values.size())) {
    throw Error(fmt::format("weight table: {} {} expects {} values, got {}", tensor.name, dimensions_text(tensor.shape),
                            expected, tensor.values.size()));
  }
  append(std::make_shared<WeightTensor>(std::move(tensor)));
}

void WeightTable::share(const WeightTable& other, std::size_t i) { append(other.tensors_.at(i)); }

void WeightTable::append(Shared tensor) {
  if (!index_.try_emplace(tensor->name, tensors_.size()).second) {
    throw Error(fmt::format("weight table: the name {} appears twice", tensor->name));
  }
  tensors_.push_back(std::move(tensor));
}

const WeightTensor* WeightTable::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : tensors_[found->second].get();
}

const WeightTensor& WeightTable::at(std::string_view name) const {
  const WeightTensor* tensor = find(name);
  if (tensor == nullptr) throw Error(fmt::format("weight table: no tensor is named {}", name));
  return *tensor;
}

std::vector<WeightTensor> WeightTable::release() && {
  index_.clear();
  std::vector<WeightTensor> released;
  released.reserve(tensors_.size());
  for (Shared& tensor : tensors_)
    released.push_back(tensor.use_count() == 1 ? std::move(*tensor) : WeightTensor(*tensor));
  tensors_.clear();
  return released;
}

std::int64_t WeightTable::element_total() const {
  std::int64_t total = 0;
  for (const WeightTensor& tensor : tensors()) total += static_cast<std::int64_t>(tensor.values.size());
  return total;
}

WeightTensor decode_tensor(std::string name, Dimensions shape, DType dtype, std::span<const std::uint8_t> bytes) {
  if (dtype != DType::f32 && dtype != DType::f64 && dtype != DType::f16 && dtype != DType::bf16) {
    throw Error(fmt::format("{}: expected a floating-point type, got {}", name, to_string(dtype)));
  }
  const std::int64_t count = element_count(shape, name);
  if (static_cast<std::int64_t>(bytes.size()) != count * size_of(dtype)) {
    throw Error(fmt::format("{}: {} {} expects {} bytes, got {}; the file is damaged", name, to_string(dtype),
                            dimensions_text(shape), count * size_of(dtype), bytes.size()));
  }
  WeightTensor tensor{std::move(name), std::move(shape), dtype, {}, {}};
  if (count == 0) return tensor;
  const auto n = static_cast<std::size_t>(count);
  if (dtype == DType::f32) {
    const auto* floats = reinterpret_cast<const float*>(bytes.data());
    if (reinterpret_cast<std::uintptr_t>(floats) % alignof(float) == 0) {
      tensor.values.assign(floats, floats + n);  // writes the memory once, where resize and memcpy write it twice
    } else {
      tensor.values.resize(n);
      std::memcpy(tensor.values.data(), bytes.data(), bytes.size());
    }
    return tensor;
  }
  tensor.values.resize(n);
  const auto widen = [&]<class T>(T) {
    for (std::size_t i = 0; i < n; ++i) {
      T value;
      std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
      tensor.values[i] = static_cast<float>(value);
    }
  };
  if (dtype == DType::f64) {
    tensor.exact.resize(n);
    std::memcpy(tensor.exact.data(), bytes.data(), bytes.size());
  }
  with_float_type(dtype, widen);
  return tensor;
}

}  // namespace graft
