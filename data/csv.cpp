#include "data/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "kernels/core.h"

namespace graft {
namespace {

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

/// Reads records one by one and knows the line it stands on.
class Reader {
 public:
  Reader(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  bool at_end() const { return at_ == text_.size(); }
  std::int64_t line() const { return line_; }

  std::vector<std::string> record() {
    std::vector<std::string> fields(1);
    while (!at_end()) {
      const char c = text_[at_];
      if (c == '"') {
        if (!fields.back().empty()) fail("a quote inside an unquoted field");
        quoted(fields.back());
      } else if (c == ',') {
        fields.emplace_back();
        ++at_;
      } else if (c == '\n' || (c == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n')) {
        at_ += c == '\n' ? 1 : 2;
        ++line_;
        break;
      } else {
        fields.back() += c;
        ++at_;
      }
    }
    return fields;
  }

 private:
  void quoted(std::string& field) {
    const std::int64_t opened = line_;
    for (++at_; !at_end(); ++at_) {
      const char c = text_[at_];
      if (c == '\n') ++line_;
      if (c != '"') {
        field += c;
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == '"') {
        field += '"';
        ++at_;
      } else {
        ++at_;
        if (!at_end() && text_[at_] != ',' && text_[at_] != '\n' && text_[at_] != '\r')
          fail("text after a closing quote");
        return;
      }
    }
    line_ = opened;
    fail("a quote is never closed");
  }

  [[noreturn]] void fail(std::string_view what) const {
    throw Error(fmt::format("{}, line {}: {}", source_, line_, what));
  }

  std::string_view text_;
  std::string_view source_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1;
};

}  // namespace

std::optional<std::size_t> CsvTable::column(std::string_view name) const {
  const auto found = std::find(header.begin(), header.end(), name);
  if (found == header.end()) return std::nullopt;
  return static_cast<std::size_t>(found - header.begin());
}

CsvTable parse_csv(std::string_view text, std::string_view source) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  Reader reader(text, source);
  CsvTable table;
  while (!reader.at_end()) {
    const std::int64_t line = reader.line();
    auto fields = reader.record();
    if (fields.size() == 1 && trimmed(fields[0]).empty()) continue;
    if (table.header.empty()) {
      for (const std::string& name : fields) table.header.push_back(trimmed(name));
    } else if (fields.size() != table.header.size()) {
      throw Error(fmt::format("{}, line {}: expected {} fields as in the header, got {}", source, line,
                              table.header.size(), fields.size()));
    } else {
      table.rows.push_back(std::move(fields));
      table.lines.push_back(line);
    }
  }
  if (table.header.empty()) throw Error(fmt::format("{}: the file is empty; expected a header line", source));
  return table;
}

double number_field(const std::string& field, std::string_view source) {
  char* end = nullptr;
  const double value = std::strtod(field.c_str(), &end);  // std::stod takes subnormal numbers for errors
  if (field.empty() || *end != '\0') throw Error(fmt::format("{}: expected a number, got '{}'", source, field));
  return value;
}

std::string csv_field(std::string_view field) {
  if (field.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(field);
  std::string quoted = "\"";
  for (const char c : field) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) line += ',';
    line += csv_field(fields[i]);
  }
  return line + '\n';
}

}  // namespace graft
