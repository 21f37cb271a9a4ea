// Progress of long work on stderr: on a terminal a bar with rate, loss and remaining time that is redrawn in place,
// elsewhere a line per epoch, and one for the features that epochs then take from memory. Nothing at all when quiet.
#pragma once

#include <chrono>
#include <string>

#include "strategies/progress.h"

namespace graft {

class ProgressDisplay : public ProgressSink {
 public:
  /// `heading` is the first line, held back until there is something to tell: bad input stays a single line.
  ProgressDisplay(bool is_quiet, std::string heading);
  ~ProgressDisplay() override;
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void note(std::string_view line) override;
  void advance(const PassProgress& pass) override;
  void end_pass() override;
  void epoch(const EpochReport& report) override;

 private:
  using Clock = std::chrono::steady_clock;
  /// The computing of features that is at work, of all splits; done is 0 when none is.
  struct Features {
    std::int64_t done = 0, total = 0;
    Clock::time_point begin{};
  };

  void show_heading();
  void follow_features(const PassProgress& pass);
  void erase_bar();

  bool is_quiet_, has_bar_;
  bool is_bar_shown_ = false;
  std::string heading_;
  Clock::time_point last_drawn_{};
  Features features_;
};

/// The line without its colours and carriage return: "epoch 3/30 train [####------] 320/960 41.2 images/s …", at most
/// `columns` wide.
std::string bar_text(const PassProgress& pass, std::int64_t columns);
/// "epoch  3/30  lr 9.80e-04  train loss 0.4321 acc 0.812  val loss 0.5123 macro acc 0.781  12.3 s  41 images/s  best".
std::string epoch_text(const EpochReport& report);

}  // namespace graft
