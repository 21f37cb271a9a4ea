#include "apps/profile_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/profile_table.h"

namespace graft {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMostSteps = 10;
constexpr double kGap = 0.02;  // between steps, of a step's time

/// Times in whole nanoseconds, so that what nests in seconds nests in the file.
struct Span {
  std::int64_t begin = 0, end = 0;
};

class Trace {
 public:
  explicit Trace(const Profile& profile) : profile_(profile) {
    add_name("process_name", "graft profile");
    add_name("thread_name", profile.device);
    name_streams();
    double start = 0;
    for (std::size_t i = 0; i < std::min(kMostSteps, profile.steps.size()); ++i) {
      add_step(profile.steps[i], start, i + 1);
      start += profile.steps[i].seconds * (1 + kGap);
    }
  }

  std::string text() {
    const ordered_json all{{"displayTimeUnit", "ms"},
                           {"otherData", {{"title", profile_title(profile_)}, {"device", profile_.device}}},
                           {"traceEvents", std::move(events_)}};
    return all.dump() + "\n";
  }

 private:
  static constexpr int kCalls = 1;  // the track of steps, passes, layers and calls; streams follow

  void add_name(const char* what, const std::string& name, int track = kCalls) {
    events_.push_back({{"ph", "M"}, {"name", what}, {"pid", 1}, {"tid", track}, {"args", {{"name", name}}}});
  }

  void name_streams() {
    for (const TimedStep& step : profile_.steps)
      for (const TimedKernel& kernel : step.kernels) tracks_.emplace(kernel.stream, 0);
    int track = kCalls;
    for (auto& [stream, number] : tracks_) {
      number = ++track;
      add_name("thread_name", fmt::format("kernels, stream {}", stream), track);
    }
  }

  static Span span(double start, double begin, double seconds) {
    return {std::llround(1e9 * (start + begin)), std::llround(1e9 * (start + begin + seconds))};
  }

  void add(const char* category, std::string_view name, const Span& time, ordered_json arguments = {},
           int track = kCalls) {
    ordered_json event{{"ph", "X"},
                       {"cat", category},
                       {"name", name},
                       {"pid", 1},
                       {"tid", track},
                       {"ts", double(time.begin) / 1e3},
                       {"dur", double(time.end - time.begin) / 1e3}};
    if (!arguments.is_null()) event["args"] = std::move(arguments);
    events_.push_back(std::move(event));
  }

  void add_step(const TimedStep& step, double start, std::size_t number) {
    add("step", fmt::format("step {}", number), span(start, 0, step.seconds));
    for (const TimedPart& part : step.parts) add("pass", to_string(part.part), span(start, part.begin, part.seconds));
    for (auto call = step.calls.begin(); call != step.calls.end();) {
      const auto end = std::find_if(call, step.calls.end(),
                                    [&](const TimedCall& c) { return c.layer != call->layer || c.part != call->part; });
      add_layer(call, end, start);
      call = end;
    }
    for (const TimedKernel& kernel : step.kernels) add_kernel(kernel, step, start);
  }

  void add_kernel(const TimedKernel& kernel, const TimedStep& step, double start) {
    ordered_json arguments;
    if (kernel.kind == DeviceActivity::Kind::kernel) arguments["kernel"] = kernel.name;
    if (kernel.call >= 0) {
      const TimedCall& call = step.calls[std::size_t(kernel.call)];
      arguments["call"] = call.op;
      arguments["shapes"] = call.detail;
      arguments["pass"] = to_string(call.part);
      if (call.part == StepPart::forward || call.part == StepPart::backward)
        arguments["layer"] = profile_.step_layers[std::size_t(call.layer)];
    }
    add("kernel", kernel_label(kernel), span(start, kernel.begin, kernel.seconds), std::move(arguments),
        tracks_.at(kernel.stream));
  }

  /// Calls in a row of one layer and pass.
  void add_layer(std::vector<TimedCall>::const_iterator begin, std::vector<TimedCall>::const_iterator end,
                 double start) {
    const TimedCall& last = *(end - 1);
    const bool has_layer = begin->part == StepPart::forward || begin->part == StepPart::backward;
    const std::string& name = profile_.step_layers[std::size_t(begin->layer)];
    if (has_layer) add("layer", name, span(start, begin->begin, last.begin + last.seconds - begin->begin));
    for (auto call = begin; call != end; ++call) {
      ordered_json arguments{{"shapes", call->detail}, {"bytes", call->bytes}, {"pass", to_string(call->part)}};
      if (has_layer) arguments["layer"] = name;
      if (call->flops > 0) arguments["flops"] = call->flops;
      add("call", call->op, span(start, call->begin, call->seconds), std::move(arguments));
    }
  }

  const Profile& profile_;
  std::map<std::uint32_t, int> tracks_;  // of streams
  ordered_json events_ = ordered_json::array();
};

}  // namespace

std::string profile_trace(const Profile& profile) { return Trace(profile).text(); }

}  // namespace graft
