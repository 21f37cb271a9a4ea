// Named weights on the host, in the order of the file they came from: what every weight reader returns and every writer
// takes. Values are row-major; whose layout (OIHW or HWIO) and whose names they follow is the reader's to say. Readers:
// safetensors.h, pth.h, keras_h5.h, model_file.h; the network's names: architectures.h.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core.h"

namespace graft {

using Dimensions = std::vector<std::int64_t>;  // empty for a scalar

std::string dimensions_text(const Dimensions& shape);  // "[64,3,7,7]"

/// Product of the sizes. Errors: a negative size, or more than 2^40 elements (a damaged file; `what` names it).
std::int64_t element_count(const Dimensions& shape, std::string_view what);

/// One tensor. Invariant: values.size() is the product of shape; exact is empty or as long.
struct WeightTensor {
  std::string name;
  Dimensions shape;
  DType stored_dtype = DType::f32;  // in the file; values are converted
  std::vector<float> values;
  std::vector<double> exact;  // only of float64: the values before rounding, written back as float64
};

/// A tensor of integers (batch counters, positions), which no network here needs: noted, not kept.
struct SkippedTensor {
  std::string name;
  Dimensions shape;
  std::string dtype;  // the file's spelling
};

/// Tensors in file order with names unique. Copies of a table share its tensors, which nobody changes.
class WeightTable {
 public:
  /// Errors: the name is there already; the number of values does not fit the shape.
  void add(WeightTensor tensor);
  /// The same tensor as number `i` of another table. Errors: its name is there already.
  /// Requires: there is such a number.
  void share(const WeightTable& other, std::size_t i);
  const WeightTensor* find(std::string_view name) const;  // null when absent; valid as long as the table
  const WeightTensor& at(std::string_view name) const;    // Errors: absent

  /// A range of `const WeightTensor&` with random access; it refers to this table.
  auto tensors() const {
    return std::views::transform(tensors_, [](const Shared& t) -> const WeightTensor& { return *t; });
  }
  std::vector<WeightTensor> release() &&;  // leaves the table empty
  std::int64_t size() const { return static_cast<std::int64_t>(tensors_.size()); }
  std::int64_t element_total() const;

  std::vector<SkippedTensor> skipped;
  std::map<std::string, std::string> metadata;  // free text that some formats carry

 private:
  using Shared = std::shared_ptr<WeightTensor>;
  void append(Shared tensor);

  std::vector<Shared> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

/// A tensor from little-endian row-major bytes of `dtype` (f32, f64, f16 or bf16).
/// Errors: the byte count is not that of the shape; a dtype without a fraction.
WeightTensor decode_tensor(std::string name, Dimensions shape, DType dtype, std::span<const std::uint8_t> bytes);

}  // namespace graft
