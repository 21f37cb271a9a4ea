// Times the device calls of training or inference steps. It observes a backend (kernels/observed_backend.h) and goes by
// the ranges that the loop opens: "step" around a step, inside it "data", "forward", "backward" and "update", inside
// those the layers' names. What the times add up to is profile.h's business.
#pragma once

#include <array>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/observed_backend.h"
#include "strategies/analysis/kernel_times.h"

namespace graft {

enum class StepPart : std::uint8_t { data, forward, backward, update };
inline constexpr std::array<StepPart, 4> kStepParts{StepPart::data, StepPart::forward, StepPart::backward,
                                                    StepPart::update};
std::string_view to_string(StepPart part);

/// One device call; times are on the device's time line, `begin` from the step's begin.
struct TimedCall {
  StepPart part = StepPart::forward;
  int layer = 0;        // into StepProfiler::layers()
  std::string_view op;  // the call's name in backend.h
  std::string detail;   // shapes
  double flops = 0;
  std::int64_t bytes = 0;
  double begin = 0, seconds = 0;
  std::int64_t kernels = 0;  // that it launched, copies and fills among them; 0 where they are not traced
};

/// From a "data" … "update" range's begin to its end; a part comes once per batch of an update.
struct TimedPart {
  StepPart part = StepPart::forward;
  double begin = 0, seconds = 0;
};

struct TimedStep {
  double seconds = 0;
  std::vector<TimedPart> parts;  // empty if only the step was timed
  std::vector<TimedCall> calls;
  std::vector<TimedKernel> kernels;  // if they are traced

  double part_seconds(StepPart part) const;
};

class StepProfiler final : public DeviceObserver {
 public:
  enum class Mode { off, step, calls };  // what is timed: nothing, whole steps, or every call of them

  /// Times on this device from now on; its mode is `off`.
  void attach(Backend& device) { attach(device.make_timer()); }
  void attach(std::unique_ptr<DeviceTimer> timer) { timer_ = std::move(timer); }
  /// With a tracer, steps whose calls are timed have kernels as well.
  void attach(std::unique_ptr<KernelTracer> tracer) { tracer_ = std::move(tracer); }
  /// Holds from the next step on.
  void set_mode(Mode mode) { next_mode_ = mode; }
  /// The steps since the last call, in order. Errors: the device's, at the end of one of them.
  std::vector<TimedStep> take_steps();
  /// Names of layers in the order of their first call. Calls outside every layer belong to "network".
  const std::vector<std::string>& layers() const { return layers_; }

  void call(const DeviceCall& call, const std::function<void()>& run) override;
  void push_range(std::string_view name) override;
  /// Never throws, as ranges end in destructors: take_steps() does instead.
  void pop_range() override;

 private:
  struct Marks {
    std::int64_t begin = 0, end = 0;
  };
  bool is_inside_part() const { return mode_ == Mode::calls && ranges_.size() >= 2; }
  int layer_of_ranges();
  void close_range();
  void run_traced(const std::function<void()>& run);
  void add_kernels();
  void finish_step();

  std::unique_ptr<DeviceTimer> timer_;
  std::unique_ptr<KernelTracer> tracer_;
  Mode mode_ = Mode::off, next_mode_ = Mode::off;
  std::vector<std::string> ranges_;  // open ones, from a timed step's on
  int outside_ = 0;                  // open ones while no step is timed
  StepPart part_ = StepPart::data;
  int layer_ = 0;
  TimedStep step_;
  std::vector<Marks> part_marks_, call_marks_;
  std::vector<TimedStep> steps_;
  std::exception_ptr failure_;
  std::vector<std::string> layers_;
  std::map<std::string, int, std::less<>> layer_numbers_;
};

}  // namespace graft
