// Proof that training left alone what a freeze plan calls frozen: SHA-256 of every frozen parameter (or masked output
// channel) and of every batch norm's fixed statistics, taken before and compared after.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tensor/parameter.h"

namespace graft {

class FrozenProof {
 public:
  /// Takes the hashes of what is frozen now; call after a plan was applied.
  static FrozenProof take(const ParameterSet& parameters);

  /// Throws an Error naming the tensors whose bits differ from when the proof was taken.
  void verify(const ParameterSet& parameters) const;

  /// 64 hexadecimal digits: equal when the same tensors are frozen at the same values.
  std::string digest() const;

  std::int64_t tensors() const { return std::int64_t(hashes_.size()); }
  std::int64_t channels() const { return channels_; }  // frozen in tensors whose others train
  bool is_empty() const { return hashes_.empty(); }

 private:
  std::map<std::string, std::string> hashes_;  // by name
  std::int64_t channels_ = 0;
};

}  // namespace graft
