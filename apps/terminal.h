// How the program speaks: results on stdout, everything else on stderr; colours only on a terminal and without
// NO_COLOR. The progress of long work is in progress_display.h.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

/// Whether the stream is a terminal that understands control sequences (TERM=dumb does not).
bool is_terminal(std::FILE* stream);
/// A terminal, and NO_COLOR is unset or empty.
bool has_colours(std::FILE* stream);
/// Columns of the terminal behind the stream; 80 when there is none, or unknown.
std::int64_t terminal_columns(std::FILE* stream = stderr);

enum class Emphasis { bold, dim, red, green };
/// `text` as is, or wrapped in control sequences when the stream shows colours.
std::string emphasised(std::string_view text, Emphasis emphasis, std::FILE* stream);

/// "1.2 MB", powers of 1000.
std::string bytes_text(std::int64_t bytes);
/// "0:07", "12:34", "1:02:03".
std::string duration_text(double seconds);
/// "0.7867", or "-" for NaN.
std::string score_text(double value);

struct Wrapping {
  std::int64_t columns = 80;
  std::int64_t begin = 0;   // column at which the text's first line begins
  std::int64_t indent = 0;  // and at which the others do
  std::string_view broken_line_end = {};
};
/// `text` broken at spaces into lines of at most `columns` characters, without the last line feed. A longer word stays
/// whole.
std::string wrapped(std::string_view text, const Wrapping& how);

/// Columns of text under a heading: the first to the left, the others to the right. Widths count characters.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> heading) : rows_{std::move(heading)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  /// Columns (from 0) that are set to the left besides the first.
  void align_left(std::size_t column) { left_.push_back(column); }
  /// Lines with a line feed each; the heading is bold where stdout shows colours.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::size_t> left_{0};
};

/// Writes to stdout. Errors: stdout cannot be written. A closed pipe (`graft … | head`) ends the program in silence.
void print_result(std::string_view text);
/// One line on stderr.
void print_note(std::string_view line);

}  // namespace graft
