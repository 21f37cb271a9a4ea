#include "apps/progress_display.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/terminal.h"
#include "strategies/monitor.h"
#include "strategies/seconds.h"

namespace graft {
namespace {

/// Four decimals, but not of a loss that has run away.
std::string loss_text(double loss) {
  constexpr double kRunAway = 1e5;
  return std::abs(loss) < kRunAway ? fmt::format("{:.4f}", loss) : fmt::format("{:.4g}", loss);
}

}  // namespace

std::string bar_text(const PassProgress& pass, std::int64_t columns) {
  std::string head = pass.epoch > 0 ? fmt::format("epoch {}/{} {} ", pass.epoch, pass.epochs, pass.pass)
                                    : fmt::format("{} ", pass.pass);
  std::string tail = fmt::format(" {}/{}  {:.1f} images/s", pass.done, pass.total, pass.images_per_second);
  if (pass.loss != 0) tail += "  loss " + loss_text(pass.loss);
  if (pass.images_per_second > 0) {
    tail +=
        fmt::format("  {} left", duration_text(static_cast<double>(pass.total - pass.done) / pass.images_per_second));
  }
  const std::int64_t text_width = static_cast<std::int64_t>(head.size() + tail.size()) + 2;
  const std::int64_t width = std::min<std::int64_t>(columns - 1 - text_width, 40);
  if (width < 5) return (head + tail).substr(0, static_cast<std::size_t>(std::max<std::int64_t>(columns - 1, 0)));
  const std::int64_t filled = pass.total > 0 ? std::clamp<std::int64_t>(width * pass.done / pass.total, 0, width) : 0;
  return head + "[" + std::string(static_cast<std::size_t>(filled), '#') +
         std::string(static_cast<std::size_t>(width - filled), '-') + "]" + tail;
}

/// Whether an epoch's line has the score anyway.
bool is_shown(const Monitor& m) { return m.name == "loss" || m.name == "macro_accuracy"; }

std::string epoch_text(const EpochReport& r) {
  std::string line =
      fmt::format("epoch {:>{}}/{}  lr {:.2e}  train loss {} acc {:.3f}", r.epoch, std::to_string(r.epochs).size(),
                  r.epochs, r.lr, loss_text(r.train_loss), r.train_accuracy);
  if (r.penalty != 0) line += fmt::format("  penalty {:.4g}", r.penalty);
  if (r.has_validation()) {
    const auto score = [](double value) { return std::isnan(value) ? std::string("-") : fmt::format("{:.3f}", value); };
    line += fmt::format("  val loss {} macro acc {}", loss_text(r.val_loss), score(r.val_macro_accuracy));
    if (r.monitor && !is_shown(*r.monitor)) line += fmt::format(" {} {}", r.monitor->words, score(r.*r.monitor->score));
  }
  line += fmt::format("  {:.1f} s  {:.0f} images/s", r.seconds, r.images_per_second);
  return line + (r.is_best ? "  best" : "");
}

ProgressDisplay::ProgressDisplay(bool is_quiet, std::string heading)
    : is_quiet_(is_quiet), has_bar_(!is_quiet && has_colours(stderr)), heading_(std::move(heading)) {}

ProgressDisplay::~ProgressDisplay() { erase_bar(); }

void ProgressDisplay::show_heading() {
  if (!heading_.empty()) print_note(heading_);
  heading_.clear();
}

void ProgressDisplay::erase_bar() {
  if (!is_bar_shown_) return;
  std::fputs("\r\033[K", stderr);
  is_bar_shown_ = false;
}

void ProgressDisplay::note(std::string_view line) {
  if (is_quiet_) return;
  erase_bar();
  show_heading();
  print_note(line);
}

void ProgressDisplay::follow_features(const PassProgress& pass) {
  if (pass.pass != "features") {
    features_ = {};
    return;
  }
  if (features_.done == 0) {  // the first batch is done already
    const double seconds = pass.images_per_second > 0 ? double(pass.done) / pass.images_per_second : 0;
    features_.begin =
        Clock::now() - std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }
  features_.done = pass.done, features_.total = pass.total;
}

void ProgressDisplay::advance(const PassProgress& pass) {
  if (is_quiet_) return;
  show_heading();
  follow_features(pass);
  if (!has_bar_) return;
  const auto now = Clock::now();
  if (is_bar_shown_ && pass.done < pass.total && now - last_drawn_ < std::chrono::milliseconds(100)) return;
  last_drawn_ = now;
  fmt::print(stderr, "\r\033[K{}", bar_text(pass, terminal_columns()));
  std::fflush(stderr);
  is_bar_shown_ = true;
}

void ProgressDisplay::end_pass() {
  erase_bar();
  if (features_.done == 0 || features_.done < features_.total) return;  // those of another split follow
  const double seconds = seconds_since(features_.begin);
  note(fmt::format("features: {} images in {:.1f} s", features_.total, seconds));
  features_ = {};
}

void ProgressDisplay::epoch(const EpochReport& report) {
  if (is_quiet_) return;
  erase_bar();
  show_heading();
  const std::string line = epoch_text(report);
  print_note(report.is_best ? emphasised(line, Emphasis::bold, stderr) : line);
}

}  // namespace graft
