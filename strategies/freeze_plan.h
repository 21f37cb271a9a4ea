// Freezing as three independent switches per layer: its parameters train or not, batch norm uses the batch's statistics
// or the running ones, running statistics move or stay. A plan says all switches of a network; strategies build plans,
// the training loop applies them. Parameters may be frozen in part, by output channels.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/parameter.h"

namespace graft {

struct NormSwitches {
  bool uses_batch_statistics = true;
  bool updates_running = true;
  double batch_share = 1;  // of the channels that use the batch's, see RunningStatistics
  friend bool operator==(const NormSwitches&, const NormSwitches&) = default;
};
inline constexpr NormSwitches kBatchNormTrains{true, true};
inline constexpr NormSwitches kBatchNormFixed{false, false};

enum class HeadPart { last_linear, all_linear };
enum class LayerType { convolution, linear, batch_norm };

/// Which layers a switch applies to: those for which everything that is given holds.
///   {.block = 3}   {.name = "layer1.*.bias"}   {.block = 0, .type = LayerType::batch_norm}
struct Selection {
  int block = -1;  // index into the network's blocks, see block_index; -1: any
  /// Of a parameter ("layer1.0.bn1.weight") or of a batch norm ("layer1.0.bn1"); `*`: any text, `?`: one character.
  std::string_view name = "*";
  std::optional<LayerType> type = {};
};

/// Output channels from `first` to `last`, from 0, both of them included.
struct ChannelRange {
  std::int64_t first = 0, last = 0;
};

class FreezePlan {
 public:
  /// Everything frozen, statistics fixed.
  static FreezePlan frozen(const ParameterSet& parameters);
  /// Everything trains, batch statistics, running ones move.
  static FreezePlan trainable(const ParameterSet& parameters);

  /// Lets a block (0: the first) train: its parameters, and its batch norm as `norm` says.
  void train_block(const ParameterSet& parameters, int block, NormSwitches norm = kBatchNormTrains);
  /// Lets the head train: the last linear layer, or (VGG) all linear layers.
  void train_head(const ParameterSet& parameters, HeadPart part = HeadPart::last_linear);
  /// The first switch, for one parameter by index or for all that are selected; returns how many.
  void set_trains(std::int64_t parameter, bool trains) { trains_[parameter] = trains; }
  std::int64_t set_trains(const ParameterSet& parameters, const Selection& selection, bool trains);
  /// Freezes output channels of the parameters that are selected, whether or not their other channels train: rows of a
  /// weight, elements of a bias, scale or shift. Of a weight with low-rank adapters the change of those rows is frozen.
  /// Running statistics have no channels of their own to freeze. Returns how many parameters. Errors (UsageError): a
  /// range without channels, or beyond those of a selected parameter.
  std::int64_t freeze_channels(const ParameterSet& parameters, const Selection& selection,
                               std::span<const ChannelRange> channels);
  /// The second and third switch, for the batch norms that are selected; returns how many.
  std::int64_t set_norms(const ParameterSet& parameters, const Selection& selection, NormSwitches norm);
  void set_all_norms(NormSwitches norm) { norms_.assign(norms_.size(), norm); }

  /// Any channel of it.
  bool trains(std::int64_t parameter) const;
  /// Of a parameter that trains: bit k of word k/32 says whether output channel k does; empty: all do.
  const std::vector<std::uint32_t>& channel_mask(std::int64_t parameter) const { return masks_[parameter]; }
  NormSwitches norm(std::int64_t statistics) const { return norms_[statistics]; }
  bool uses_batch_statistics() const;  // anywhere

  /// Sets the network's switches and lays the gradient arena out anew if the trainable set changed (then true; the
  /// optimizer must prepare()).
  bool apply(ParameterSet& parameters) const;

  friend bool operator==(const FreezePlan&, const FreezePlan&) = default;

 private:
  explicit FreezePlan(const ParameterSet& parameters, bool trains, NormSwitches norm)
      : trains_(parameters.parameters().size(), trains),
        masks_(parameters.parameters().size()),
        norms_(parameters.statistics().size(), norm) {}
  void freeze_channels(const ParameterSet& parameters, std::int64_t parameter, std::span<const ChannelRange> channels);
  std::vector<unsigned char> trains_;              // per parameter
  std::vector<std::vector<std::uint32_t>> masks_;  // per parameter, as Parameter::row_mask
  std::vector<NormSwitches> norms_;                // per batch norm
};

/// Whether output channel `k` of a parameter that trains does.
inline bool channel_trains(const Parameter& p, std::int64_t k) {
  return p.row_mask.empty() || (p.row_mask[std::size_t(k / 32)] >> (k % 32) & 1) != 0;
}

/// Indices of the head's parameters.
std::vector<std::int64_t> head_parameters(const ParameterSet& parameters, HeadPart part = HeadPart::last_linear);

/// The kind of layer that a parameter belongs to.
LayerType layer_type(const ParameterSet& parameters, std::int64_t parameter);

/// Where a block of that name stands. Errors (UsageError): there is none, with the nearest name.
int block_index(const std::vector<std::string>& blocks, std::string_view name);

/// `*` any text, `?` one character.
bool matches_pattern(std::string_view text, std::string_view pattern);

}  // namespace graft
