// Where several ranks share the batches of an update: what brings their gradients and running statistics together, so
// that every rank then makes the update that one process would have made from all the batches.
#pragma once

#include "kernels/ranks.h"
#include "tensor/parameter.h"

namespace graft {

/// Batches of an update: those of ranks before this one, its own, and those of ranks behind it.
struct DealtBatches {
  std::int64_t before = 0, own = 0, behind = 0;
  std::int64_t all() const { return before + own + behind; }
};

class SharedUpdate {
 public:
  SharedUpdate(ParameterSet& parameters, Ranks& ranks) : parameters_(parameters), ranks_(ranks) {}

  /// Before the first of the rank's own batches: remembers the running statistics, from which all ranks start.
  /// Errors (UsageError): batch norm that trains with running statistics.
  void begin();
  /// Gradients become the first rank's, where all have computed the same ones, to their last bits.
  void take_first_ranks_gradients();
  /// After the last of them. Gradients become the sum of all ranks', those of a rank without batches being zero.
  /// Running statistics become what they would be had the batches moved them one after the other: each moves them to (1
  /// - momentum) r + momentum b, so the batches' parts add up once they are weighted with what later batches leave of
  /// them.
  void combine(const DealtBatches& batches);

 private:
  void combine_gradients(bool has_own);
  void combine_statistics(const DealtBatches& batches);

  ParameterSet& parameters_;
  Ranks& ranks_;
  std::vector<double> statistics_;  // as begin() found them; of those that move
};

}  // namespace graft
