#include "kernels/cuda/plan_choice.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "kernels/out_of_memory.h"

namespace graft {
namespace {

struct Timed {
  std::size_t index;
  double seconds;
};

void add_note(std::string& note, const std::string& text) { note += (note.empty() ? "" : "; ") + text; }

/// Which candidates are timed: those within the limits; those of engines not met yet beyond the limits until there are
/// two engines, since a choice needs a second one to be checked against.
class Selection {
 public:
  Selection(const std::vector<PlanCandidate>& candidates, const PlanLimits& limits)
      : candidates_(candidates), limits_(limits) {}

  bool takes(std::size_t i) const {
    if (timed_ < limits_.timed && !(candidates_[i].compiles && compiled_ >= limits_.compiled)) return true;
    return engines_.empty() || (engines_.size() == 1 && !engines_.contains(engine_of(candidates_[i].name)));
  }
  void tried(std::size_t i) { compiled_ += candidates_[i].compiles; }
  void ran(std::size_t i) {
    ++timed_;
    engines_.insert(engine_of(candidates_[i].name));
  }

 private:
  const std::vector<PlanCandidate>& candidates_;
  const PlanLimits& limits_;
  int timed_ = 0, compiled_ = 0;
  std::set<std::string> engines_;
};

std::vector<Timed> time_candidates(const std::vector<PlanCandidate>& candidates, const PlanLimits& limits,
                                   PlanTrial& trial, std::string& note) {
  std::vector<std::size_t> fitting, expected;
  for (std::size_t i = 0; i < candidates.size(); ++i)
    if (candidates[i].workspace_bytes <= limits.workspace_bytes) fitting.push_back(i);
  Selection foretold(candidates, limits);
  for (const std::size_t i : fitting)
    if (foretold.takes(i)) {
      expected.push_back(i);
      foretold.tried(i);
      foretold.ran(i);
    }
  trial.prepare(expected);

  std::vector<Timed> timed;
  Selection selection(candidates, limits);
  for (const std::size_t i : fitting) {
    if (!selection.takes(i)) continue;
    selection.tried(i);
    try {
      timed.push_back({i, trial.time(i)});
      selection.ran(i);
    } catch (const OutOfMemory&) {  // says nothing of the plan
      throw;
    } catch (const Error& error) {
      trial.unload(i);
      add_note(note, fmt::format("{} does not run ({})", candidates[i].name, error.what()));
    }
  }
  if (fitting.size() < candidates.size())
    add_note(note, fmt::format("{} of {} plans need more than {} MiB of workspace", candidates.size() - fitting.size(),
                               candidates.size(), limits.workspace_bytes >> 20));
  return timed;
}

/// Fastest first; within a tie, less workspace, then cuDNN's order.
void rank(std::vector<Timed>& timed, const std::vector<PlanCandidate>& candidates, double tie) {
  std::ranges::stable_sort(timed, {}, &Timed::seconds);
  for (auto begin = timed.begin(); begin != timed.end();) {
    const double limit = begin->seconds * (1 + tie);
    const auto end = std::find_if(begin, timed.end(), [&](const Timed& t) { return t.seconds > limit; });
    std::sort(begin, end, [&](const Timed& a, const Timed& b) {
      const std::int64_t wa = candidates[a.index].workspace_bytes, wb = candidates[b.index].workspace_bytes;
      return wa != wb ? wa < wb : a.index < b.index;
    });
    begin = end;
  }
}

}  // namespace

std::string engine_of(const std::string& plan_name) { return plan_name.substr(0, plan_name.find('_')); }

std::optional<PlanRecord> recorded_plan(const std::string& line) {
  const std::size_t graph_end = line.find(": "), plan_end = line.find(", ", graph_end);
  if (graph_end == std::string::npos || plan_end == std::string::npos) return {};
  PlanRecord record{.graph = line.substr(0, graph_end),
                    .plan = line.substr(graph_end + 2, plan_end - graph_end - 2),
                    .source = "recorded"};
  std::string_view rest = std::string_view(line).substr(plan_end);
  rest = rest.substr(0, rest.find("; "));
  constexpr std::string_view kWithin = ", within ", kOf = " of ";
  if (const std::size_t unit = rest.find(" us, "); unit != rest.npos)
    record.microseconds = std::strtod(rest.data() + rest.rfind(' ', unit - 1), nullptr);
  if (const std::size_t within = rest.find(kWithin); within != rest.npos) {
    record.difference = std::strtod(rest.data() + within + kWithin.size(), nullptr);
    record.checked_against = rest.substr(rest.find(kOf, within) + kOf.size());
  }
  if (record.graph.empty() || record.plan.empty()) return {};
  return record;
}

std::string to_string(const PlanRecord& r) {
  std::string text = fmt::format("{}: {}, {}", r.graph, r.plan, r.source);
  if (r.microseconds > 0) text += fmt::format(", {:.1f} us", r.microseconds);
  text += fmt::format(", {:.1f} MiB", double(r.workspace_bytes) / (1 << 20));
  if (!r.checked_against.empty()) text += fmt::format(", within {:.2g} of {}", r.difference, r.checked_against);
  if (r.other_microseconds > 0) text += fmt::format("; which needs {:.1f} us", r.other_microseconds);
  return r.note.empty() ? text : text + "; " + r.note;
}

double plan_tolerance(DType dtype, bool allows_tf32) {
  if (dtype == DType::bf16)
    return 0x1p-5;  // storage rounds to 2^-9 of a value; sums of different order a few times that
  if (dtype == DType::f16) return 0x1p-8;
  return allows_tf32 ? 0x1p-7 : 1e-3;
}

std::optional<PlanRecord> known_plan(const std::string& graph, const std::vector<PlanCandidate>& candidates,
                                     const KnownPlans& known, std::int64_t workspace_bytes, PlanTrial& trial,
                                     std::vector<std::string>& notes) {
  const auto trouble_with = [&](PlanRecord& record) -> std::string {
    const auto it = std::ranges::find(candidates, record.plan, &PlanCandidate::name);
    if (it == candidates.end()) return "is not offered any more";
    record.workspace_bytes = it->workspace_bytes;
    if (it->workspace_bytes > workspace_bytes) return "needs too much workspace";
    const auto index = std::size_t(it - candidates.begin());
    try {
      trial.load(index);
    } catch (const Error& error) {
      trial.unload(index);
      return std::string("cannot be built: ") + error.what();
    }
    return {};
  };
  for (const PlanRecord* plan : {known.recorded, known.cached}) {
    if (!plan) continue;
    PlanRecord record = *plan;
    const std::string trouble = trouble_with(record);
    if (trouble.empty()) return record;
    if (plan == known.recorded)
      notes.push_back(fmt::format(
          "{}: the plan {} of this run so far {}; from here on its results may differ in their last bits from those of "
          "a run without interruption",
          graph, plan->plan, trouble));
    else if (!known.recorded || plan->plan != known.recorded->plan)
      notes.push_back(fmt::format("{}: the remembered plan {} {}; plans are timed again", graph, plan->plan, trouble));
  }
  return {};
}

PlanRecord choose_plan(const std::string& graph, const std::vector<PlanCandidate>& candidates, const PlanLimits& limits,
                       PlanTrial& trial) {
  PlanRecord record{.graph = graph, .source = "timed"};
  std::vector<Timed> timed = time_candidates(candidates, limits, trial, record.note);
  if (timed.empty())
    throw Error(fmt::format("{}: none of cuDNN's {} plans can be used{}{}; allow more workspace or try another batch",
                            graph, candidates.size(), record.note.empty() ? "" : ": ", record.note));
  rank(timed, candidates, limits.tie);

  const auto take = [&](const Timed& t) {
    for (const Timed& other : timed)
      if (other.index != t.index) trial.unload(other.index);
    record.plan = candidates[t.index].name;
    record.workspace_bytes = candidates[t.index].workspace_bytes;
    record.microseconds = t.seconds * 1e6;
  };
  // One plan of each engine, the fastest.
  std::vector<Timed> engines;
  for (const Timed& t : timed)
    if (std::ranges::none_of(engines, [&](const Timed& e) {
          return engine_of(candidates[e.index].name) == engine_of(candidates[t.index].name);
        }))
      engines.push_back(t);
  if (engines.size() == 1) {
    add_note(record.note, "not checked: cuDNN offers no second engine");
    take(engines[0]);
    return record;
  }
  // The fastest that another engine confirms; pairs with a faster one have been tried by then.
  for (auto fast = engines.begin(); fast != engines.end(); ++fast)
    for (auto other = fast + 1; other != engines.end(); ++other) {
      const double difference = trial.difference(fast->index, other->index);
      if (difference <= limits.tolerance) {  // false for a NaN
        take(*fast);
        record.checked_against = candidates[other->index].name;
        record.difference = difference;
        return record;
      }
      add_note(record.note, fmt::format("{} and {} differ by {:.2g}", candidates[fast->index].name,
                                        candidates[other->index].name, difference));
    }
  throw Error(
      fmt::format("{}: cuDNN's engines disagree and no two of them agree ({}); use --device cpu or another "
                  "precision, and report this GPU and cuDNN version",
                  graph, record.note));
}

PlanRecord choose_way(const std::string& name, const std::array<std::string, 2>& ways, const PlanLimits& limits,
                      PlanTrial& trial) {
  PlanRecord record{.graph = name, .plan = ways[0], .source = "first"};
  try {
    double seconds[2] = {trial.time(0), trial.time(1)};
    for (const std::size_t way : {0, 1}) seconds[way] = std::min(seconds[way], trial.time(way));
    record.difference = trial.difference(0, 1);
    if (trial.compared_nothing() || !(record.difference <= limits.tolerance)) {  // also a NaN
      record.note = trial.compared_nothing()
                        ? fmt::format("{} and {} gave nothing to compare", ways[0], ways[1])
                        : fmt::format("{} and {} differ by {:.2g}", ways[0], ways[1], record.difference);
      return record;
    }
    const std::size_t taken = seconds[1] <= seconds[0] * (1 + limits.tie) ? 1 : 0;
    record.plan = ways[taken];
    record.checked_against = ways[1 - taken];
    record.microseconds = seconds[taken] * 1e6;
    record.other_microseconds = seconds[1 - taken] * 1e6;
    record.source = "timed";
  } catch (const OutOfMemory&) {
    record.note = "no memory to time both";
  } catch (const Error& error) {
    record.note = error.what();
  }
  return record;
}

}  // namespace graft
