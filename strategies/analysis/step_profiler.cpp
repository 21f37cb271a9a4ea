#include "strategies/analysis/step_profiler.h"

#include <algorithm>

namespace graft {
namespace {

constexpr std::array<std::string_view, 4> kPartNames{"data", "forward", "backward", "update"};
constexpr std::size_t kPartDepth = 2;  // open ranges inside a part: the step's and its own

}  // namespace

std::string_view to_string(StepPart part) { return kPartNames[std::size_t(part)]; }

double TimedStep::part_seconds(StepPart wanted) const {
  double sum = 0;
  for (const TimedPart& p : parts)
    if (p.part == wanted) sum += p.seconds;
  return sum;
}

void StepProfiler::call(const DeviceCall& call, const std::function<void()>& run) {
  if (!is_inside_part()) return run();
  const std::int64_t begin = timer_->mark();
  run_traced(run);
  const std::int64_t end = timer_->mark();
  call_marks_.push_back({begin, end});
  step_.calls.push_back({.part = part_,
                         .layer = layer_,
                         .op = call.op,
                         .detail = call.detail,
                         .flops = call.flops,
                         .bytes = call.bytes()});
}

void StepProfiler::run_traced(const std::function<void()>& run) {
  if (!tracer_) return run();
  tracer_->begin_call(step_.calls.size() + 1);
  try {
    run();
  } catch (...) {
    tracer_->end_call();
    throw;
  }
  tracer_->end_call();
}

void StepProfiler::push_range(std::string_view name) {
  if (ranges_.empty()) {
    mode_ = name == "step" && timer_ && outside_ == 0 ? next_mode_ : Mode::off;
    if (mode_ == Mode::off) return void(++outside_);
    ranges_.emplace_back(name);
    if (tracer_ && mode_ == Mode::calls) tracer_->start();
    timer_->mark();
    return;
  }
  ranges_.emplace_back(name);
  if (mode_ != Mode::calls) return;
  if (ranges_.size() == kPartDepth) {
    const auto known = std::ranges::find(kPartNames, name);
    if (known == kPartNames.end()) throw Error("profile: a step has no part '" + std::string(name) + "'");
    part_ = StepPart(known - kPartNames.begin());
    step_.parts.push_back({.part = part_});
    part_marks_.push_back({.begin = timer_->mark()});
  }
  layer_ = layer_of_ranges();
}

std::vector<TimedStep> StepProfiler::take_steps() {
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  return std::exchange(steps_, {});
}

void StepProfiler::pop_range() {
  if (ranges_.empty()) return void(--outside_);
  try {
    close_range();
  } catch (...) {
    if (!failure_) failure_ = std::current_exception();
  }
}

void StepProfiler::close_range() {
  const bool ends_part = mode_ == Mode::calls && ranges_.size() == kPartDepth;
  ranges_.pop_back();
  if (ends_part) part_marks_.back().end = timer_->mark();
  if (ranges_.empty()) return finish_step();
  if (mode_ == Mode::calls) layer_ = layer_of_ranges();
}

int StepProfiler::layer_of_ranges() {
  std::string name;
  for (std::size_t i = kPartDepth; i < ranges_.size(); ++i) name += (name.empty() ? "" : ".") + ranges_[i];
  if (name.empty()) name = "network";
  const auto [it, is_new] = layer_numbers_.emplace(name, int(layers_.size()));
  if (is_new) layers_.push_back(name);
  return it->second;
}

void StepProfiler::add_kernels() {
  std::vector<double> begins;
  for (const TimedCall& call : step_.calls) begins.push_back(call.begin);
  step_.kernels = place_kernels(tracer_->stop(), begins);
  for (const TimedKernel& kernel : step_.kernels)
    if (kernel.call >= 0) ++step_.calls[std::size_t(kernel.call)].kernels;
}

void StepProfiler::finish_step() {
  if (std::uncaught_exceptions() > 0) return;  // the step failed; what waits for the device might throw again
  timer_->mark();
  const std::vector<double> seconds = timer_->take();
  const auto at = [&](std::int64_t mark) { return seconds[std::size_t(mark)]; };
  step_.seconds = seconds.back();
  for (std::size_t i = 0; i < step_.parts.size(); ++i) {
    step_.parts[i].begin = at(part_marks_[i].begin);
    step_.parts[i].seconds = at(part_marks_[i].end) - at(part_marks_[i].begin);
  }
  for (std::size_t i = 0; i < step_.calls.size(); ++i) {
    step_.calls[i].begin = at(call_marks_[i].begin);
    step_.calls[i].seconds = at(call_marks_[i].end) - at(call_marks_[i].begin);
  }
  if (tracer_ && mode_ == Mode::calls) add_kernels();
  part_marks_.clear();
  call_marks_.clear();
  steps_.push_back(std::exchange(step_, {}));
}

}  // namespace graft
