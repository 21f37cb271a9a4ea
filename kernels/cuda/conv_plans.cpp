#include "kernels/cuda/conv_plans.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/trial_cuda.h"
#include "kernels/out_of_memory.h"
#include "kernels/scratch.h"

namespace graft {
namespace {

using gpu::check;

/// What a graph writes, densely: as a vector.
struct Result {
  void* data;
  std::int64_t size;
};

Result result_of(const GraphSpec& spec, const GraphPointers& p) {
  switch (spec.kind) {
    case GraphKind::conv:
      return {const_cast<void*>(p.y), spec.conv.y().size()};
    case GraphKind::data_grad:
      return {const_cast<void*>(p.x), spec.conv.x.size()};
    case GraphKind::weight_grad:
      return {const_cast<void*>(p.w), spec.conv.weight_size()};
    default:
      throw Error(to_string(spec) + ": this kind of graph is described, not run");
  }
}

GraphPointers with_result(const GraphSpec& spec, GraphPointers p, void* data) {
  (spec.kind == GraphKind::conv ? p.y : spec.kind == GraphKind::data_grad ? p.x : p.w) = data;
  return p;
}

/// Plans of one graph on the buffers of a real call.
class TrialOnGpu final : public PlanTrial {
 public:
  TrialOnGpu(const PlanDevice& device, const GraphSpec& spec, CudnnGraph& graph, const GraphPointers& pointers)
      : device_(device), spec_(spec), graph_(graph), pointers_(pointers), stopwatch_(device.stream) {}

  void prepare(std::span<const std::size_t> candidates) override { graph_.build_side_by_side(candidates); }
  void load(std::size_t candidate) override { graph_.build(candidate); }
  void unload(std::size_t candidate) noexcept override { graph_.unload(candidate); }

  double time(std::size_t candidate) override {
    load(candidate);
    const Scratch workspace(device_.backend, graph_.candidates()[candidate].workspace_bytes);
    if (spec_.has_relu) check_nan_is_kept(candidate, workspace.as<void>());
    return stopwatch_.seconds([&] { graph_.run(candidate, pointers_, workspace.as<void>()); });
  }

  bool compared_nothing() const override { return compared_nothing_; }

  double difference(std::size_t a, std::size_t b) override {
    const Result result = result_of(spec_, pointers_);
    const Scratch other(device_.backend, result.size * size_of(spec_.dtype));
    run(a, pointers_);
    run(b, with_result(spec_, pointers_, other.as<void>()));
    const LargestDifference found =
        largest_difference(device_, result.data, other.as<void>(), result.size, spec_.dtype);
    compared_nothing_ = found.compared_nothing;
    return found.share;
  }

 private:
  void run(std::size_t candidate, const GraphPointers& pointers) {
    const Scratch workspace(device_.backend, graph_.candidates()[candidate].workspace_bytes);
    graph_.run(candidate, pointers, workspace.as<void>());
  }

  /// Errors: a NaN in x leaves no trace in y.
  void check_nan_is_kept(std::size_t candidate, void* workspace) {
    const std::int64_t bytes = spec_.conv.x.size() * size_of(spec_.dtype);
    const Scratch x(device_.backend, bytes);
    check(cudaMemsetAsync(x.as<void>(), 0xFF, std::size_t(bytes), device_.stream), "writing NaN");
    GraphPointers p = pointers_;
    p.x = x.as<void>();
    graph_.run(candidate, p, workspace);
    const Result y = result_of(spec_, p);
    if (device_.backend.all_finite(vector_view(y.data, spec_.dtype, y.size))) throw Error("its ReLU hides a NaN");
  }

  const PlanDevice& device_;
  const GraphSpec& spec_;
  CudnnGraph& graph_;
  const GraphPointers pointers_;
  GpuStopwatch stopwatch_;
  bool compared_nothing_ = false;  // the last time
};

/// The first in cuDNN's order that fits and builds; no other stays built.
std::size_t first_that_builds(CudnnGraph& graph, const std::string& name, std::int64_t workspace_bytes) {
  for (std::size_t i = 0; i < graph.candidates().size(); ++i) graph.unload(i);
  std::string reason = "all need more workspace";
  for (std::size_t i = 0; i < graph.candidates().size(); ++i) {
    if (graph.candidates()[i].workspace_bytes > workspace_bytes) continue;
    try {
      graph.build(i);
      return i;
    } catch (const Error& error) {
      reason = error.what();
    }
  }
  throw Error(fmt::format("{}: none of cuDNN's {} plans can be used: {}", name, graph.candidates().size(), reason));
}

std::filesystem::path cache_path(const PlanOptions& options) {
  if (!options.keeps_on_disk) return {};
  return options.cache_file.empty() ? default_plan_cache() : std::filesystem::path(options.cache_file);
}

std::size_t index_of(const CudnnGraph& graph, const std::string& plan) {
  return std::size_t(std::ranges::find(graph.candidates(), plan, &PlanCandidate::name) - graph.candidates().begin());
}

}  // namespace

struct ConvPlans::State {
  State(const PlanDevice& on, const PlanOptions& o)
      : device(on), options(o), cudnn(on.stream), cache(cache_path(o), on.name, CudnnLibrary::version()) {
    tell(cache.note());
    for (const std::string& line : options.preferred)
      if (std::optional<PlanRecord> record = recorded_plan(line)) recorded.emplace(record->graph, *record);
  }

  struct Chosen {
    std::unique_ptr<CudnnGraph> graph;  // null: no plan, for `reason`
    std::size_t candidate = 0;
    std::string reason;
  };

  const Chosen& chosen(const GraphSpec& spec, const GraphPointers& pointers) {
    const auto it = plans.find(spec);
    if (it != plans.end()) return it->second;
    Chosen c;
    try {
      c = choose(spec, pointers);
    } catch (const Error& error) {
      c = {nullptr, 0, error.what()};
    }
    return plans.emplace(spec, std::move(c)).first->second;
  }

  Chosen choose(const GraphSpec& spec, const GraphPointers& pointers) {
    const std::string name = to_string(spec) + (options.deterministic ? "" : " any-order");
    auto graph = std::make_unique<CudnnGraph>(spec, cudnn, options.deterministic);
    TrialOnGpu trial(device, spec, *graph, pointers);
    const auto before = recorded.find(name);
    const KnownPlans known{before == recorded.end() ? nullptr : &before->second, cache.find(name)};
    std::vector<std::string> notes;
    const auto kept = known_plan(name, graph->candidates(), known, options.workspace_bytes, trial, notes);
    for (const std::string& note : notes) tell(note);
    if (kept) {
      const std::size_t i = index_of(*graph, kept->plan);
      records.push_back(*kept);
      return {std::move(graph), i, {}};
    }
    if (!options.times) return take_first(name, spec, std::move(graph), "");
    if (is_capturing()) return take_first(name, spec, std::move(graph), "met while a graph was captured");
    const PlanLimits limits{.workspace_bytes = options.workspace_bytes,
                            .tolerance = plan_tolerance(spec.dtype, spec.allows_tf32)};
    PlanRecord record;
    try {
      record = choose_plan(name, graph->candidates(), limits, trial);
    } catch (const OutOfMemory&) {  // the trial's copies do not fit; the convolution itself may
      return take_first(name, spec, std::move(graph), "no memory to time plans");
    }
    records.push_back(record);
    // Gradients that overflow (a loss scale that is too large) show nothing; the next run asks again.
    if (!trial.compared_nothing()) cache.add(record);
    tell(cache.note());
    const std::size_t i = index_of(*graph, record.plan);
    return {std::move(graph), i, {}};
  }

  using Ways = std::array<std::string, 2>;

  /// Whether this run continues one that has made no choice between these ways: it goes on as it did.
  bool went_without(const Ways& ways) const {
    return !recorded.empty() &&
           std::ranges::none_of(recorded, [&](const auto& r) { return is_one_of(r.second, ways); });
  }
  static bool is_one_of(const PlanRecord& record, const Ways& ways) {
    return std::ranges::find(ways, record.plan) != ways.end();
  }

  /// The way that the run so far has taken, or an earlier run on this device.
  std::optional<PlanRecord> known_way(const std::string& name, const Ways& ways) const {
    if (const auto it = recorded.find(name); it != recorded.end() && is_one_of(it->second, ways)) return it->second;
    const PlanRecord* kept = went_without(ways) ? nullptr : cache.find(name);
    return kept && is_one_of(*kept, ways) ? std::optional(*kept) : std::nullopt;
  }

  PlanRecord choose_way(const std::string& name, const Ways& ways, double tolerance, PlanTrial& trial) {
    if (const auto known = known_way(name, ways)) return *known;
    PlanRecord first{.graph = name, .plan = ways[0], .source = "first"};
    if (went_without(ways)) first.note = "the run so far names no such choice";
    if (!first.note.empty() || !options.times) return first;
    PlanRecord record = graft::choose_way(name, ways, {.tolerance = tolerance}, trial);
    if (record.note.empty())
      cache.add(record);
    else if (!trial.compared_nothing())
      tell(name + ": " + record.note + "; taken: " + ways[0]);
    tell(cache.note());
    return record;
  }

  bool is_capturing() const {
    cudaStreamCaptureStatus capture{};
    check(cudaStreamIsCapturing(device.stream, &capture), "asking whether a graph is captured");
    return capture != cudaStreamCaptureStatusNone;
  }

  /// cuDNN's first plan, untimed, for the reason in `note`. Errors: a ReLU, which may hide a NaN unless it was tried.
  Chosen take_first(const std::string& name, const GraphSpec& spec, std::unique_ptr<CudnnGraph> graph,
                    const std::string& note) {
    if (spec.has_relu) throw Error(name + ": its ReLU was not tried" + (note.empty() ? "" : ": " + note));
    const std::size_t i = first_that_builds(*graph, name, options.workspace_bytes);
    records.push_back({.graph = name,
                       .plan = graph->candidates()[i].name,
                       .workspace_bytes = graph->candidates()[i].workspace_bytes,
                       .source = "first",
                       .note = note});
    return {std::move(graph), i, {}};
  }

  /// After a trial that compared nothing: whether another may tell more, in a later step. Not for ever, since steps
  /// that choose are not replayed.
  bool asks_again(const std::string& name) {
    constexpr std::size_t kMostSteps = 3;
    std::set<std::int64_t>& in_steps = untold[name];
    in_steps.insert(step);
    return in_steps.size() < kMostSteps;
  }

  /// Each note once.
  void tell(const std::string& note) {
    if (!note.empty() && told.insert(note).second) std::fprintf(stderr, "note: %s\n", note.c_str());
  }

  PlanDevice device;
  PlanOptions options;
  CudnnLibrary cudnn;
  PlanCache cache;
  std::map<std::string, PlanRecord> recorded;  // by graph
  std::map<GraphSpec, Chosen> plans;
  std::vector<PlanRecord> records;
  std::set<std::string> told;
  std::int64_t step = 0;                                 // how many have begun
  std::map<std::string, std::set<std::int64_t>> untold;  // by choice: in which steps trials of it compared nothing
};

ConvPlans::ConvPlans(const PlanDevice& device, const PlanOptions& options)
    : state_(std::make_unique<State>(device, options)) {}

ConvPlans::~ConvPlans() = default;

bool ConvPlans::try_run(const GraphSpec& spec, const GraphPointers& pointers) {
  const State::Chosen& c = state_->chosen(spec, pointers);
  if (!c.graph) return false;
  const Scratch workspace(state_->device.backend, c.graph->candidates()[c.candidate].workspace_bytes);
  c.graph->run(c.candidate, pointers, workspace.as<void>());
  return true;
}

void ConvPlans::run(const GraphSpec& spec, const GraphPointers& pointers) {
  if (!try_run(spec, pointers)) throw Error(state_->chosen(spec, pointers).reason);
}

std::optional<std::string> ConvPlans::choose_way(const std::string& name, const std::array<std::string, 2>& ways,
                                                 double tolerance, PlanTrial& trial) {
  if (state_->is_capturing()) return {};
  const PlanRecord record = state_->choose_way(name, ways, tolerance, trial);
  if (trial.compared_nothing() && state_->asks_again(name)) return {};
  if (trial.compared_nothing()) state_->tell(name + ": " + record.note + "; taken: " + ways[0]);
  state_->records.push_back(record);
  return record.plan;
}

std::optional<std::string> ConvPlans::known_way(const std::string& name, const std::array<std::string, 2>& ways) const {
  const auto known = state_->known_way(name, ways);
  return known ? std::optional(known->plan) : std::nullopt;
}

void ConvPlans::begin_step() { ++state_->step; }

const PlanDevice& ConvPlans::device() const { return state_->device; }

const std::vector<PlanRecord>& ConvPlans::records() const { return state_->records; }

ConvPlans& CudaBackend::conv_plans() {
  const cudaStream_t work = stream();
  if (!conv_plans_) {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, index_), "asking for the GPU's name");
    conv_plans_ = std::make_unique<ConvPlans>(PlanDevice{*this, work, properties.name}, plan_options_);
  }
  return *conv_plans_;
}

std::vector<std::string> CudaBackend::plans() const {
  std::vector<std::string> lines;
  if (!conv_plans_) return lines;
  for (const PlanRecord& r : conv_plans_->records()) lines.push_back(to_string(r));
  return lines;
}

}  // namespace graft
