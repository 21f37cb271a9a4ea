// How one plan is chosen among those that cuDNN offers for a graph: the one that an earlier run has chosen, or else by
// time, within a bound on workspace, and only after a second engine has given the same result. Knows neither cuDNN nor
// a GPU; conv_plans.cpp runs it on real buffers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/core.h"

namespace graft {

/// An engine with its knobs: "eng70_k2=4_k18=0".
struct PlanCandidate {
  std::string name;
  std::int64_t workspace_bytes = 0;
  bool compiles = false;  // at run time, which takes seconds
};

/// "eng70" of "eng70_k2=4_k18=0".
std::string engine_of(const std::string& plan_name);

/// What was chosen and why; a line of the run's environment.json.
struct PlanRecord {
  std::string graph, plan;
  std::int64_t workspace_bytes = 0;
  double microseconds = 0;        // 0: not timed
  std::string source;             // "timed", "cached", "recorded", or "first": cuDNN's own order, untimed
  std::string checked_against;    // the plan that gave the same result; empty: not checked, the reason in `note`
  double difference = 0;          // largest between the two, as a share of the largest value
  double other_microseconds = 0;  // what the way that was not taken needs; 0: unknown, or no choice between ways
  std::string note;               // engines that failed, disagreed or did not fit
};

/// "conv bf16 x [...] ...: eng70_k2=4_k18=0, timed, 41.2 us, 0.0 MiB, within 0.0012 of eng1"; of a choice between ways
/// also "; which needs 52.0 us", and of one that is left open why.
std::string to_string(const PlanRecord& record);
/// A record from its line, but for `note`; its source is "recorded". Empty if it is none.
std::optional<PlanRecord> recorded_plan(const std::string& line);

/// A GPU to try plans on, or a test's stand-in. Indices are those of the candidates.
class PlanTrial {
 public:
  virtual ~PlanTrial() = default;
  /// Makes several plans ready side by side where that saves time. One that cannot be built is left for `load`, which
  /// says why.
  virtual void prepare(std::span<const std::size_t> /*candidates*/) {}
  /// Makes a plan ready to run. Errors: it cannot be built here.
  virtual void load(std::size_t /*candidate*/) {}
  /// Gives back what a plan holds on the device, if it is loaded.
  virtual void unload(std::size_t /*candidate*/) noexcept {}
  /// Seconds of one execution; loads the plan. Errors: it cannot be built or run here.
  virtual double time(std::size_t candidate) = 0;
  /// Largest difference between two plans' results as a share of the largest value; NaN if one is not finite where the
  /// other is.
  virtual double difference(std::size_t a, std::size_t b) = 0;
  /// Whether the last comparison was of zeros alone, or of nothing finite, and so told nothing.
  virtual bool compared_nothing() const { return false; }
};

struct PlanLimits {
  std::int64_t workspace_bytes = 0;
  int timed = 6;            // of the candidates, in cuDNN's order, at most
  int compiled = 3;         // of them, at run time, at most
  double tolerance = 1e-3;  // on PlanTrial::difference
  double tie = 0.03;        // times this close count as equal: the one with less workspace, then cuDNN's earlier, wins
};

/// The largest difference between two correct engines that compute with these types.
double plan_tolerance(DType dtype, bool allows_tf32);

/// What earlier runs chose for a graph; null: nothing.
struct KnownPlans {
  const PlanRecord* recorded = nullptr;  // what the run that continues has computed with
  const PlanRecord* cached = nullptr;
};

/// The recorded plan, loaded, or else the cached one, if it is still offered, fits the workspace and can be built; else
/// nothing. `notes` gets a line for each that could not be taken; without the recorded one a run that continues no
/// longer gives the bits that it would have given without interruption.
std::optional<PlanRecord> known_plan(const std::string& graph, const std::vector<PlanCandidate>& candidates,
                                     const KnownPlans& known, std::int64_t workspace_bytes, PlanTrial& trial,
                                     std::vector<std::string>& notes);

/// Times candidates and takes the fastest whose result another engine confirms. Where two engines disagree a third
/// decides; an engine that stands alone against two is dropped, with a note. Where cuDNN offers one engine alone its
/// plan is taken unchecked, with a note. When it returns, the chosen plan alone is loaded.
/// Errors: no candidate fits the workspace or runs; engines disagree and no two of them agree.
PlanRecord choose_plan(const std::string& graph, const std::vector<PlanCandidate>& candidates, const PlanLimits& limits,
                       PlanTrial& trial);

/// Two ways to compute the same, the first of them the more trusted, the second graft's own.
/// The second if it gives the same results and takes no longer than a tie; the first else, and where it cannot be told:
/// `note` says why then, and the choice should not be remembered. `ways`: their names. Each is timed twice, in turn.
PlanRecord choose_way(const std::string& name, const std::array<std::string, 2>& ways, const PlanLimits& limits,
                      PlanTrial& trial);

}  // namespace graft
