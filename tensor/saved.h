// What an operation keeps of a tensor for its derivative: the memory itself, or a recipe that computes the same values
// again when backward asks for them. Operations say Saved(x) and get(); only the operation whose result is worth
// rebuilding (tensor/ops/batch_norm.cpp) knows that there are recipes.
#pragma once

#include <functional>

#include "tensor/tensor.h"

namespace graft {

/// How to compute a tensor's values once more, to the same bits. All who saved the tensor share what was made first.
struct Recipe {
  std::function<Tensor()> make;
  Tensor made = {};  // until the last of them is gone
};

class Saved {
 public:
  Saved() = default;
  explicit Saved(const Tensor& x) : recipe_(x.recipe()), tensor_(recipe_ ? Tensor{} : x) {}
  explicit operator bool() const { return recipe_ || tensor_; }
  /// The values that the tensor had, in memory of its shape, format and type.
  Tensor get() const {
    if (!recipe_) return tensor_;
    if (!recipe_->made) recipe_->made = recipe_->make();
    return recipe_->made;
  }

 private:
  std::shared_ptr<Recipe> recipe_;
  Tensor tensor_;
};

}  // namespace graft
