// Records what happens inside training, for internals.h5 (data/internals.h): norms from the sums that the optimizer
// takes in its own pass over the weights, and the drift of batch norm's running statistics. Records are kept in memory
// and written a few dozen at a time, and whenever a checkpoint is about to be written.
#pragma once

#include "data/internals.h"
#include "models/network.h"
#include "optim/optimizer.h"

namespace graft {

/// What a record says of its step beside the norms; counted from 1.
struct RecordedStep {
  std::int64_t step = 0, epoch = 0;
  double lr = 0, loss = 0;  // the task's, before the step
};

class InternalsRecorder {
 public:
  struct Spec {
    const Network& network;
    std::string strategy;
    std::int64_t every = 1;  // steps
    std::filesystem::path path;
    std::int64_t last_step = 0;  // of the checkpoint that is continued; 0: a new file is begun
  };
  /// A new file takes the network's present running statistics as the initial ones.
  /// Errors: a file to continue that is missing, damaged or of another network.
  explicit InternalsRecorder(const Spec& spec);

  /// The first step and every `every`-th after it.
  bool wants(std::int64_t step) const { return (step - 1) % spec_.every == 0; }
  /// What a record needs from the device as it is after a step, on its way.
  struct Snapshot {
    StepReading update;
    std::unique_ptr<HostCopy> statistics;
  };
  /// After a step with StepSpec::records. Does not wait.
  Snapshot take(const Optimizer& optimizer) const;
  /// `penalties`: of each parameter, or empty; one that pulls towards zero leaves no distance from the anchor. Waits
  /// until the snapshot is there. Errors: no space for the file.
  void record(const RecordedStep& step, const Snapshot& snapshot, std::span<const PenaltySpec> penalties);
  void record(const RecordedStep& step, const Optimizer& optimizer, std::span<const PenaltySpec> penalties) {
    record(step, take(optimizer), penalties);
  }
  /// Writes what is kept. Errors: as above.
  void flush();

 private:
  void add_norms(const StepReading& update, std::span<const PenaltySpec> penalties);
  void add_drift(HostCopy* statistics);

  Spec spec_;
  std::vector<double> initial_;  // as in create_internals()
  InternalsRecords records_;     // not yet written
  std::int64_t written_ = 0;     // records in the file
};

/// Moves of one batch norm's running statistics since the start.
struct NormDrift {
  double mean = 0, variance = 0;
};
/// Shapes: statistics and initial are [2,C]: means, then variances. C > 0.
///   mean = 1/C sum |m_c - m0_c| / sqrt(v0_c + epsilon)        in initial standard deviations
///   variance = 1/C sum |ln((v_c + epsilon) / (v0_c + epsilon))|
/// epsilon is batch norm's own, so that channels that never vary count as it lets them act.
NormDrift norm_drift(std::span<const double> statistics, std::span<const double> initial, double epsilon);

}  // namespace graft
