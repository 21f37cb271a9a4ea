#include "apps/study_progress.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/terminal.h"

namespace graft {

std::string study_line(const StudyTally& t, std::int64_t columns) {
  std::string head = fmt::format("study: {}/{} cells", t.finished_cells, t.cells);
  if (t.trials > 0) head += fmt::format(", {}/{} trials", t.finished_trials, t.trials);
  if (t.failed > 0) head += fmt::format(", {} failed", t.failed);
  std::string tail = t.seconds_left >= 0 ? fmt::format("; about {} left", duration_text(t.seconds_left)) : "";
  std::string running;
  if (!t.running.empty()) running = fmt::format("; {} run: {}", t.running.size(), fmt::join(t.running, ", "));
  const auto room = std::max<std::int64_t>(0, columns - 1 - std::ssize(head) - std::ssize(tail));
  if (std::ssize(running) > room) running = room > 3 ? running.substr(0, std::size_t(room - 3)) + "..." : "";
  return (head + running + tail).substr(0, std::size_t(std::max<std::int64_t>(0, columns - 1)));
}

StudyDisplay::StudyDisplay(bool is_quiet) : is_quiet_(is_quiet), has_line_(!is_quiet && has_colours(stderr)) {}

StudyDisplay::~StudyDisplay() { erase_line(); }

void StudyDisplay::erase_line() {
  if (is_line_shown_) std::fputs("\r\033[K", stderr);
  is_line_shown_ = false;
}

void StudyDisplay::note(std::string_view line) {
  if (is_quiet_) return;
  erase_line();
  print_note(line);
}

void StudyDisplay::started(const StudyTask&, const StudyTally& tally) { tick(tally); }

void StudyDisplay::ended(const StudyTask& task, const std::string& error, const StudyTally& tally) {
  if (is_quiet_) return;
  erase_line();
  const std::int64_t done = tally.finished_cells + tally.finished_trials, all = tally.cells + tally.trials;
  const std::string left =
      tally.seconds_left > 0 ? fmt::format("; about {} left", duration_text(tally.seconds_left)) : "";
  if (error.empty())
    print_note(fmt::format("[{:>{}}/{}] {} finished{}", done, std::to_string(all).size(), all, task.id(), left));
  else
    print_note(fmt::format("{} {}: {}", emphasised("failed:", Emphasis::red, stderr), task.id(), error));
  tick(tally);
}

void StudyDisplay::tick(const StudyTally& tally) {
  if (!has_line_) return;
  fmt::print(stderr, "\r\033[K{}", study_line(tally, terminal_columns()));
  std::fflush(stderr);
  is_line_shown_ = true;
}

}  // namespace graft
