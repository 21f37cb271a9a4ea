// Parameters and running statistics of a network. Values lie in one arena, gradients of the trainable ones in another,
// so that one kernel launch can update, zero or hash the whole network. Layers declare what they need while they are
// built; `allocate` then lays out the arena. Files see names and OIHW order (tensor/parameter_io is models/ business).
#pragma once

#include <deque>
#include <map>
#include <string>

#include "tensor/context.h"

namespace graft {

enum class Role { conv_weight, linear_weight, bias, norm_scale, norm_shift, adapter };

struct Parameter;

/// A convolution uses its weight [K,C,R,S] plus scale * up * down: a product of low rank r, `up` [K,r,1,1] times `down`
/// [r,C,R,S] as matrices. Both have the role `adapter`; files hold the sum alone.
struct LowRankAdapter {
  const Parameter* up = nullptr;
  const Parameter* down = nullptr;
  double scale = 1;
};

/// One trainable tensor. `value` is [K,C,R,S] stored K R S C; vectors are [1,C,1,1].
struct Parameter {
  std::string name;  // as in torchvision's state_dict: "layer1.0.conv1.weight"
  Shape shape;
  Role role = Role::conv_weight;
  int block = 0;                     // index into the network's blocks, for freezing and reports
  std::int64_t offset = 0;           // elements into the value arena
  std::int64_t gradient_offset = 0;  // elements into the gradient arena; meaningful while is_trainable
  bool is_trainable = true;
  std::uint64_t version = 0;            // changes whenever the values do
  std::vector<std::uint32_t> row_mask;  // empty: every output channel trains; else bit k of word k/32
  Tensor value;
  /// Where activations have 16 bits: `value` in that type, for the operations that multiply with it. Read it through
  /// weight_view(), which refreshes it.
  Tensor half = {};
  mutable std::uint64_t half_version = 0;  // of `value` when `half` was made from it
  LowRankAdapter adapter = {};             // none while `up` is null
  mutable std::shared_ptr<void> packed;    // the device's copy in its own format, for the current version

  /// The weight for activations of this type. A device's packed copy pays while the values stay; with `changes_soon`
  /// none is kept, which saves the memory of two.
  WeightView weight_view(DType type, bool changes_soon = false) const;
  /// The gradient of the last backward pass. Errors: not trainable.
  Tensor gradient() const;
  bool has_gradient() const { return value.variable() && value.variable()->grad_written; }
  std::int64_t rows() const { return shape.n > 1 ? shape.n : shape.c; }  // output channels
};

/// Running mean (row 0) and unbiased variance (row 1) of one batch norm, and its two switches of the three; the third,
/// whether scale and shift train, is `is_trainable` of those parameters. Train/eval mode never changes any of them.
struct RunningStatistics {
  std::string name;  // "layer1.0.bn1": files hold <name>.running_mean and <name>.running_var
  std::int64_t channels = 0;
  int block = 0;
  std::int64_t offset = 0;
  bool use_batch_statistics = true;
  bool update_running = true;
  /// Of the channels, drawn anew in every training step, that use the batch's statistics while the others use the
  /// running ones. 1: all, ordinary batch norm.
  double batch_share = 1;
  double momentum = 0.1;              // of the running ones' moves towards a batch's
  mutable std::uint64_t version = 0;  // changes whenever the values do
  Tensor value;                       // [2,C]
};

class ParameterSet {
 public:
  Parameter& add(std::string name, const Shape& shape, Role role, int block);
  RunningStatistics& add_statistics(std::string name, std::int64_t channels, int block, double momentum = 0.1);

  /// Lays out and allocates the value arena; parameters are undefined, running statistics mean 0 and variance 1.
  void allocate(Context& context);
  /// Lays the value arena out anew after parameters were added; what was there keeps its values, new ones are zero.
  void grow();
  /// Lays out and allocates the gradient arena for the parameters that are trainable now; call after any change of
  /// `is_trainable`. After `allocate` and `grow` the arena is laid out, and has memory from the first call of this or
  /// of `clear_gradients` on.
  void prepare_gradients();
  /// The next backward pass starts from nothing, in the arena. Costs no memory traffic.
  void clear_gradients();
  /// All gradients are there and zero, as if by a backward pass.
  void zero_gradients();

  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  std::deque<RunningStatistics>& statistics() { return statistics_; }
  const std::deque<RunningStatistics>& statistics() const { return statistics_; }
  /// Errors: no parameter of that name.
  Parameter& find(const std::string& name);

  Context& context() const { return *context_; }
  const Tensor& values() const { return values_; }  // [1,n,1,1]
  /// [1,m,1,1], m of the trainable parameters; empty until it has memory.
  const Tensor& gradients() const { return gradients_; }
  /// The values in the type of activations where that has 16 bits, in the layout of `values`; else empty.
  const Tensor& half_values() const { return half_values_; }
  std::int64_t trainable_size() const { return trainable_size_; }
  /// Marks every packed copy of every trainable weight as stale; the optimizer calls it after an update, which has
  /// stored the new values in `half_values` as well.
  void values_changed();

 private:
  void lay_out();
  void lay_out_gradients();
  void allocate_gradients();
  Context* context_ = nullptr;
  std::deque<Parameter> parameters_;  // a deque: layers keep references
  std::deque<RunningStatistics> statistics_;
  Tensor values_, gradients_, half_values_;
  std::int64_t trainable_size_ = 0;
};

}  // namespace graft
