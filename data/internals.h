// What happened inside a training run, step by step: norms of gradients, weights and updates of every parameter, its
// distance from where it started, and how far batch norm's running statistics have moved. This is the file,
// internals.h5 (described in docs/internals.md), and the series made from it; who fills it is
// strategies/analysis/internals_recorder.h.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace graft {

/// What is recorded, fixed for a run.
struct InternalsHeader {
  struct Member {
    std::string name;        // of a parameter or a batch norm
    std::int64_t block = 0;  // into blocks
    std::int64_t size = 0;   // elements, or channels
    friend bool operator==(const Member&, const Member&) = default;
  };
  std::string architecture, strategy;
  std::int64_t record_every = 1;  // steps
  std::vector<std::string> blocks;
  std::vector<Member> parameters, norms;
  friend bool operator==(const InternalsHeader&, const InternalsHeader&) = default;
};

/// Norms (L2) over a parameter's trainable elements. weight_norm and anchor_distance are of the weights before the
/// step.
enum class ParameterNorm { gradient, weight, update, anchor_distance };
inline constexpr std::array<const char*, 4> kParameterNorms{"gradient_norm", "weight_norm", "update_norm",
                                                            "anchor_distance"};

/// Records, one after the other. NaN stands where there is nothing: a parameter that did not train in the step.
struct InternalsRecords {
  std::vector<std::int64_t> step, epoch;  // from 1
  std::vector<double> lr, loss;
  std::array<std::vector<double>, kParameterNorms.size()>
      norms;                                       // (records, parameters), in the order of ParameterNorm
  std::vector<double> mean_drift, variance_drift;  // (records, batch norms)
  std::int64_t count() const { return std::ssize(step); }
  void clear() { *this = {}; }
};

struct Internals {
  InternalsHeader header;
  InternalsRecords records;
};

// Writers leave the old file or the new one behind, never half of one, whenever they are stopped: they change a copy
// and rename it.

/// A file without records. `initial_statistics`: of each batch norm its running means, then its variances.
void create_internals(const std::filesystem::path& path, const InternalsHeader& header,
                      std::span<const double> initial_statistics);
/// Drops the records of steps after `last_step` and returns the initial statistics.
/// Errors: missing, damaged, or of another network than `header` says.
std::vector<double> resume_internals(const std::filesystem::path& path, const InternalsHeader& header,
                                     std::int64_t last_step);
/// Adds records at the end. Costs a copy of the file. Errors: no space; a file that is damaged.
void append_internals(const std::filesystem::path& path, const InternalsRecords& records);
/// Errors: missing, damaged or truncated, not such a file, a newer version.
Internals read_internals(const std::filesystem::path& path);

/// The course of one parameter, batch norm or block over the records.
struct InternalsSeries {
  std::string level;  // "block", "parameter" or "batch_norm"
  std::string name;
  std::int64_t size = 0;  // elements of its parameters; of a batch norm its channels
  std::vector<double> gradient_norm, weight_norm, relative_gradient_norm, update_ratio, anchor_distance;
  std::vector<double> mean_drift, variance_drift;
};

/// One series per block. Norms are those of all its parameters that trained together: the root of the sum of squares;
/// drifts are means over its channels. Ratios: relative_gradient_norm = |g| / |w|, update_ratio = |change of w| / |w|.
std::vector<InternalsSeries> block_series(const Internals& internals);
/// One series per parameter, then one per batch norm.
std::vector<InternalsSeries> member_series(const Internals& internals);

}  // namespace graft
