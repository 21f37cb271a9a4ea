#include "apps/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "kernels/core.h"

namespace graft {
namespace {

/// Characters on screen of UTF-8 text, one column each.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

bool is_terminal(std::FILE* stream) {
  const char* term = std::getenv("TERM");
  return isatty(fileno(stream)) == 1 && term != nullptr && std::strcmp(term, "dumb") != 0;
}

bool has_colours(std::FILE* stream) {
  const char* no_color = std::getenv("NO_COLOR");
  return (no_color == nullptr || *no_color == '\0') && is_terminal(stream);
}

std::int64_t terminal_columns(std::FILE* stream) {
  winsize size = {};
  return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string emphasised(std::string_view text, Emphasis emphasis, std::FILE* stream) {
  if (!has_colours(stream)) return std::string(text);
  const char* code = emphasis == Emphasis::bold  ? "1"
                     : emphasis == Emphasis::dim ? "2"
                     : emphasis == Emphasis::red ? "31"
                                                 : "32";
  return fmt::format("\033[{}m{}\033[0m", code, text);
}

std::string bytes_text(std::int64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* unit = "kMGTP";
  for (value /= 1000; value >= 999.95 && unit[1] != '\0'; ++unit) value /= 1000;
  return fmt::format("{:.1f} {}B", value, *unit);
}

std::string duration_text(double seconds) {
  const std::int64_t s = std::isfinite(seconds) ? std::llround(std::max(seconds, 0.0)) : 0;
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string score_text(double value) { return std::isnan(value) ? "-" : fmt::format("{:.4f}", value); }

std::string wrapped(std::string_view text, const Wrapping& how) {
  std::string out;
  std::size_t used = std::size_t(how.begin), from = 0;
  bool is_line_empty = true;
  for (std::size_t word = 0; (word = text.find_first_not_of(' ', from)) != std::string_view::npos;) {
    const std::size_t end = std::min(text.find(' ', word), text.size());
    const bool is_last = text.find_first_not_of(' ', end) == std::string_view::npos;
    const std::size_t taken = word - from + width_of(text.substr(word, end - word));
    if (!is_line_empty && used + taken + (is_last ? 0 : how.broken_line_end.size()) > std::size_t(how.columns)) {
      out.append(how.broken_line_end).append("\n").append(std::size_t(how.indent), ' ');
      used = std::size_t(how.indent) + taken - (word - from);
      from = word;  // the gap was where the line broke
    } else {
      used += taken;
    }
    out += text.substr(from, end - from);
    is_line_empty = false;
    from = end;
  }
  return out;
}

std::string TextTable::text() const {
  std::vector<std::size_t> widths;
  for (const std::vector<std::string>& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(row[c]));
  }
  std::string out;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (std::size_t c = 0; c < rows_[r].size(); ++c) {
      const std::string padding(widths[c] - width_of(rows_[r][c]), ' ');
      const bool is_left = std::find(left_.begin(), left_.end(), c) != left_.end();
      line += (c > 0 ? "  " : "") + (is_left ? rows_[r][c] + padding : padding + rows_[r][c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += (r == 0 ? emphasised(line, Emphasis::bold, stdout) : line) + "\n";
  }
  return out;
}

void print_result(std::string_view text) {
  const bool is_whole = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (is_whole) return;
  if (errno == EPIPE) _exit(0);
  throw Error(
      fmt::format("stdout: cannot write the result: {}; check the disk or pipe behind it", std::strerror(errno)));
}

void print_note(std::string_view line) {
  const std::string whole = std::string(line) + "\n";  // in one piece, beside other processes
  std::fwrite(whole.data(), 1, whole.size(), stderr);
}

}  // namespace graft
