// Processes that train one network together, each on its share of the batches that make an update. A process alone is
// the first of one. Several are started by mpirun, mpiexec or srun and talk through MPI, in a module of its own.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/core.h"

namespace graft {

/// All ranks make the same calls in the same order; each waits for the others.
class Ranks {
 public:
  Ranks() = default;
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;
  virtual ~Ranks() = default;

  virtual int rank() const { return 0; }
  virtual int count() const { return 1; }
  bool is_first() const { return rank() == 0; }

  /// The sum of all ranks' values takes the place of each rank's: the same bits on all ranks, as far as MPI's library
  /// keeps to what the standard recommends.
  virtual void sum(std::span<float>) {}
  virtual void sum(std::span<double>) {}
  /// All ranks' bytes, in the order of ranks. Each may have another number of them.
  virtual std::vector<std::byte> gather(std::span<const std::byte> own) { return {own.begin(), own.end()}; }
  /// No more calls will come: other ranks need not wait for this one. A process that ends without it ends all.
  virtual void finish() {}

  /// Whether it is so on any rank.
  bool any(bool own);
  void wait_for_all() { any(false); }
};

/// A process that trains alone.
Ranks& lone_rank();

/// All ranks' values, in the order of ranks.
template <typename T>
std::vector<T> gather_values(Ranks& ranks, std::span<const T> own) {
  static_assert(std::is_trivially_copyable_v<T>);
  const std::vector<std::byte> bytes = ranks.gather(std::as_bytes(own));
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// The first of the ranks that have other bytes than the first; nothing if all have the same.
std::optional<int> first_to_differ(Ranks& ranks, std::span<const std::byte> own);

/// Another rank has failed and said why.
struct OtherRankFailed : Error {
  OtherRankFailed() : Error("another process of this run has failed") {}
};

/// How many processes the environment says were started together, and which of them this is; {0, 1} if none says so.
struct StartedRank {
  int rank = 0, count = 1;
};
StartedRank started_rank();

/// This process's environment without what started_rank() goes by, for programs that are to train alone. Pointers are
/// valid until the environment changes; the last is null.
std::vector<char*> lone_environment();

/// Joins the processes that were started with this one. From then on the end of this process ends them all, unless
/// Ranks::finish was called. Errors: the module is missing or does not fit.
std::unique_ptr<Ranks> join_ranks();

/// Whether join_ranks() has joined others.
bool has_joined_ranks();

/// The cores that each of the ranks on this machine may keep busy, at least 1: where they share cores, their part.
int cores_of_rank(Ranks& ranks);

}  // namespace graft
