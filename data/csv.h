// Comma-separated values as RFC 4180 has them: quoted fields may hold commas, quotes ("" for one) and line breaks;
// lines end in LF or CRLF. Reading keeps every field as text; what a column means is the reader's business.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

/// A table with a header. Row numbers in messages are line numbers of the file.
struct CsvTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;  // each as long as the header
  std::vector<std::int64_t> lines;             // where each row starts, from 1

  std::optional<std::size_t> column(std::string_view name) const;
};

/// A byte-order mark is dropped, spaces around header names too, blank lines are skipped.
/// Errors (naming `source` and the line): no header, a row of another length, a quote left open or in mid-field.
CsvTable parse_csv(std::string_view text, std::string_view source);

/// The number that a field holds, however small; "nan" and "inf" are numbers. Errors (naming `source`): it holds none.
double number_field(const std::string& field, std::string_view source);

/// The field, quoted if it needs to be.
std::string csv_field(std::string_view field);
/// One line with its line break.
std::string csv_line(const std::vector<std::string>& fields);

}  // namespace graft
