// A tensor: a handle on device memory with a shape, a memory format and, during training, a place on the tape.
// Copying a Tensor copies the handle. Nothing here computes: operations are in tensor/ops/, the tape in tensor/tape.h,
// parameters (whose values live in arenas) in tensor/parameter.h.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"

namespace graft {

class Context;
class Tensor;
struct Recipe;

/// One block of device memory, returned to its backend when the last tensor lets go.
class Storage {
 public:
  Storage(Backend& backend, std::int64_t bytes);
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage();
  void* data() const { return data_; }

 private:
  Backend& backend_;
  void* data_;
};

struct Variable;

class Tensor {
 public:
  Tensor() = default;
  /// Uninitialised memory. Errors: a blocked format whose block does not divide the channels.
  Tensor(Context& context, const Shape& shape, Format format, DType dtype);

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  Format format() const { return format_; }
  DType dtype() const { return dtype_; }
  Context& context() const { return *context_; }
  Backend& backend() const;
  View view() const;

  /// Channels [begin, end) of this tensor: same memory, same place on the tape. Blocked formats need multiples of the
  /// block.
  Tensor channels(std::int64_t begin, std::int64_t end) const;
  /// Elements [begin, begin + shape.size()) of a dense vector as an NHWC tensor: how parameters see their arena.
  Tensor window(std::int64_t begin, const Shape& shape) const;
  /// The same memory as another NHWC shape of equal size. Errors: not dense NHWC, or sizes differ. Not on the tape.
  Tensor reshaped(const Shape& shape) const;

  /// Values in logical N C H W order, whatever the format and the floating-point type. Waits for the device.
  std::vector<double> to_host() const;
  std::vector<float> to_host_floats() const;
  /// Sets the values from logical N C H W order, rounded to the tensor's type. Errors: wrong count.
  void from_host(std::span<const double> nchw);
  void from_host(std::span<const float> nchw);

  // Automatic differentiation; see tape.h.
  bool needs_grad() const;
  const std::shared_ptr<Variable>& variable() const { return variable_; }
  void set_variable(std::shared_ptr<Variable> variable) { variable_ = std::move(variable); }
  std::int64_t first_channel() const { return first_channel_; }
  /// How to compute this tensor again, if operations that save it should not keep its memory; see saved.h.
  const std::shared_ptr<Recipe>& recipe() const { return recipe_; }
  void set_recipe(std::shared_ptr<Recipe> recipe) { recipe_ = std::move(recipe); }
  /// Shape, format and variable without the memory: what the tape keeps of an operation's inputs and output.
  Tensor without_storage() const;
  /// Whether this handle is the only one on its memory, so that the memory may be overwritten.
  bool is_sole_owner() const { return storage_ && storage_.use_count() == 1; }

 private:
  Context* context_ = nullptr;
  std::shared_ptr<Storage> storage_;
  std::int64_t offset_ = 0;  // elements
  std::int64_t pitch_ = 0;
  std::int64_t first_channel_ = 0;  // within the buffer whose variable this is
  Shape shape_;
  Format format_;
  DType dtype_ = DType::f32;
  std::shared_ptr<Variable> variable_;
  std::shared_ptr<Recipe> recipe_;
};

/// What the tape knows of a tensor: its gradient, once something has written one. A channel slice shares the variable
/// of its buffer, and its gradient is the same slice of the buffer's gradient.
struct Variable {
  Shape shape;  // of the whole buffer
  Format format;
  DType dtype = DType::f32;
  bool needs_grad = false;
  bool is_leaf = false;       // a parameter or an input: its gradient outlives the backward pass
  bool grad_written = false;  // false: the next contribution overwrites
  Tensor grad;
};

Tensor empty(Context& context, const Shape& shape, Format format = kNhwc);  // of the context's compute type
Tensor zeros(Context& context, const Shape& shape, Format format = kNhwc);
Tensor empty_like(const Tensor& x);
/// x itself if it has that type, else its values in it, dense and in x's format. Not on the tape.
Tensor converted(const Tensor& x, DType type);
Tensor from_host(Context& context, const Shape& shape, std::span<const double> nchw);

}  // namespace graft
