// Where the time of a training or inference step goes: by layer and pass, by device call, and against the device's
// limits. It runs the training loop of fit.h with the strategy's freeze plan and optimizer, or inference as predict.h
// does it; the network is thrown away. Tables, traces and pages for people are made by apps/profile_*.h.
#pragma once

#include <atomic>
#include <functional>
#include <optional>

#include "strategies/analysis/device_limits.h"
#include "strategies/analysis/step_profiler.h"
#include "strategies/progress.h"
#include "strategies/train_settings.h"
#include "tensor/context.h"

namespace graft {

struct ProfileSpec {
  std::int64_t steps = 10;  // whose calls are timed; as many more are run without, for comparison
  std::int64_t warmup = 3;  // steps before
  std::int64_t epoch = 1;   // of the strategy, from 1: what trains may change from epoch to epoch
  bool is_inference = false;
  const std::atomic<bool>* stop = nullptr;
};

/// What calls of one kind take in a step: seconds a median over steps, the rest of one step.
struct Cost {
  double seconds = 0, flops = 0, bytes = 0;
  std::int64_t calls = 0, kernels = 0;  // kernels where they are traced, else 0

  Cost& operator+=(const Cost& other);
};

/// The seconds that the device's limits allow for this cost at least: the larger of its two parts.
struct Bound {
  double seconds = 0;
  bool is_compute = false;  // else memory
};
Bound bound_of(const Cost& cost, const DeviceLimits& limits);

/// One layer of the network, or "loss", or "network" for calls outside all layers.
struct LayerProfile {
  std::string name;
  /// `update` is the layer's share of the optimizer's calls, which treat all parameters at once: by the number of
  /// elements that train. Its count of calls is 0.
  Cost forward, backward, update;
  std::int64_t trainable = 0;  // elements

  Cost total() const;
};

/// All calls of one op with the same shapes in one layer and part. Those of the update have the layer "optimizer".
struct CallProfile {
  StepPart part = StepPart::forward;
  std::string layer, op, detail;
  Cost cost;
};

struct Profile {
  // What was profiled
  std::string architecture, strategy, device, precision, optimizer;
  std::int64_t batch = 0, accumulate = 1, size = 0, epoch = 1;
  bool is_inference = false, has_data = false;
  DeviceLimits limits;

  std::vector<TimedStep> steps;  // with their calls; layers are indices into step_layers
  std::vector<std::string> step_layers;
  std::vector<double> plain_seconds;  // of the steps without timed calls
  // Medians over steps.
  double seconds = 0, plain = 0;
  std::array<double, 4> part_seconds{};  // by StepPart, from begin to end
  std::vector<LayerProfile> layers;      // in the order of the network
  std::vector<CallProfile> calls;        // in the order of their first call
  std::int64_t calls_per_step = 0;
  std::int64_t kernels_per_step = 0;  // copies and fills among them; 0: they were not traced
  std::int64_t peak_bytes = 0;        // of device memory, since the device was opened

  std::int64_t images() const { return batch * accumulate; }  // per step
  double images_per_second() const { return double(images()) / plain; }
  /// Forward, backward and update of all layers.
  Cost layer_total() const;
  /// The step without data and the layers' calls: the host between calls, and waiting for it.
  double outside_calls() const;
};

/// `profiler` observes the context's backend. `settings.data` may be empty: batches are noise, and reading images costs
/// nothing; with neither weights nor from_scratch the network is random.
/// `limits_of_device` is called before the first step, once everything is known to be in place. Empty if `stop` was
/// raised.
/// Errors: see check_start(); fewer than one whole step of `batch` images; an epoch that the strategy does not reach;
/// data, weights, memory; a loss that is not finite.
std::optional<Profile> profile_steps(Context& context, StepProfiler& profiler, const TrainSettings& settings,
                                     const ProfileSpec& spec, const std::function<DeviceLimits()>& limits_of_device,
                                     ProgressSink& progress);

}  // namespace graft
