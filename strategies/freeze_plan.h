// Freezing as three independent switches per layer: its parameters train or not, batch norm uses the batch's statistics
// or the running ones, running statistics move or stay. A plan says all switches of a network; strategies build plans,
// the training loop applies them. Masks over output channels are Parameter::row_mask.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tensor/parameter.h"

namespace graft {

struct NormSwitches {
  bool uses_batch_statistics = true;
  bool updates_running = true;
  friend bool operator==(const NormSwitches&, const NormSwitches&) = default;
};
inline constexpr NormSwitches kBatchNormTrains{true, true};
inline constexpr NormSwitches kBatchNormFixed{false, false};

enum class HeadPart { last_linear, all_linear };

class FreezePlan {
 public:
  /// Everything frozen, statistics fixed.
  static FreezePlan frozen(const ParameterSet& parameters);
  /// Everything trains, batch statistics, running ones move.
  static FreezePlan trainable(const ParameterSet& parameters);

  /// Lets a block (0: the first) train: its parameters, and its batch norm as `norm` says.
  void train_block(const ParameterSet& parameters, int block, NormSwitches norm = kBatchNormTrains);
  /// Lets parameters train whose name matches the pattern (`*` any text, `?` one character). Returns how many.
  std::int64_t train_matching(const ParameterSet& parameters, std::string_view pattern);
  /// Lets the head train: the last linear layer, or (VGG-19) all linear layers.
  void train_head(const ParameterSet& parameters, HeadPart part = HeadPart::last_linear);
  /// Freezes a parameter or sets its training again, by index.
  void set_trains(std::int64_t parameter, bool trains) { trains_[parameter] = trains; }
  void set_all_norms(NormSwitches norm) { norms_.assign(norms_.size(), norm); }

  bool trains(std::int64_t parameter) const { return trains_[parameter] != 0; }
  NormSwitches norm(std::int64_t statistics) const { return norms_[statistics]; }
  bool uses_batch_statistics() const;  // anywhere

  /// Sets the network's switches and lays the gradient arena out anew if the trainable set changed (then true; the
  /// optimizer must prepare()).
  bool apply(ParameterSet& parameters) const;

  friend bool operator==(const FreezePlan&, const FreezePlan&) = default;

 private:
  explicit FreezePlan(const ParameterSet& parameters, bool trains, NormSwitches norm)
      : trains_(parameters.parameters().size(), trains), norms_(parameters.statistics().size(), norm) {}
  std::vector<unsigned char> trains_;  // per parameter
  std::vector<NormSwitches> norms_;    // per batch norm
};

/// Indices of the head's parameters.
std::vector<std::int64_t> head_parameters(const ParameterSet& parameters, HeadPart part = HeadPart::last_linear);

/// One line per block: trainable parameters of all, batch-norm mode, learning rate and decay.
struct TruthTableInput {
  const ParameterSet& parameters;
  const std::vector<std::string>& block_names;
  const FreezePlan& plan;
  double lr = 0, weight_decay = 0;
  const std::vector<double>& block_lr_factors;  // empty: all 1
};
std::string truth_table(const TruthTableInput& input);

bool matches_pattern(std::string_view text, std::string_view pattern);

}  // namespace graft
