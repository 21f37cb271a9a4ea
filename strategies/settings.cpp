#include "strategies/settings.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace graft {
namespace {

/// A limit or a value for people: 1, 0.5, 1000000.
std::string number_text(double value) {
  constexpr double kLargestWhole = 1e15;
  if (value == std::floor(value) && std::abs(value) < kLargestWhole) return std::to_string(std::int64_t(value));
  return to_string(SettingValue(value));
}

std::string limits_text(const SettingInfo& info) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::string low = number_text(info.min), high = number_text(info.max);
  const std::string above = info.excludes_min ? "more than " : "at least ";
  const std::string below = info.excludes_max ? "less than " : "at most ";
  if (info.min == -kInfinity) return below + high;
  if (info.max == kInfinity) return above + low;
  return above + low + " and " + below + high;
}

void check_range(const SettingInfo& info, double value) {
  if (std::isinf(value))
    throw UsageError(std::string(info.key) + ": expects a finite number, got " + number_text(value));
  const bool too_low = info.excludes_min ? !(value > info.min) : !(value >= info.min);
  const bool too_high = info.excludes_max ? !(value < info.max) : !(value <= info.max);
  if (too_low || too_high)
    throw UsageError(std::string(info.key) + ": expects " + limits_text(info) + ", got " + number_text(value));
}

template <class T>
bool parse(const std::string& text, T& value) {
  const char* begin = text.data() + (text.size() > 1 && text[0] == '+');
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

[[noreturn]] void wrong_type(const SettingInfo& info, const char* expected, const SettingValue& value) {
  throw UsageError(std::string(info.key) + ": expects " + expected + ", got '" + to_string(value) + "'");
}

std::int64_t as_integer(const SettingInfo& info, const SettingValue& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  std::int64_t parsed = 0;
  if (const auto* text = std::get_if<std::string>(&value); text && parse(*text, parsed)) return parsed;
  wrong_type(info, "a whole number", value);
}

double as_number(const SettingInfo& info, const SettingValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return double(*integer);
  double parsed = 0;
  if (const auto* text = std::get_if<std::string>(&value); text && parse(*text, parsed)) return parsed;
  wrong_type(info, "a number", value);
}

bool as_switch(const SettingInfo& info, const SettingValue& value) {
  if (const auto* on = std::get_if<bool>(&value)) return *on;
  if (const auto* text = std::get_if<std::string>(&value)) {
    if (*text == "true" || *text == "yes" || *text == "on" || *text == "1") return true;
    if (*text == "false" || *text == "no" || *text == "off" || *text == "0") return false;
  }
  wrong_type(info, "true or false", value);
}

std::string as_text(const SettingInfo& info, const SettingValue& value) {
  const auto* text = std::get_if<std::string>(&value);
  if (!text) wrong_type(info, "a text in quotes", value);
  if (info.choices.empty() || std::ranges::find(info.choices, *text) != info.choices.end()) return *text;
  std::string allowed;
  for (std::string_view choice : info.choices) allowed += (allowed.empty() ? "" : ", ") + std::string(choice);
  const std::string near = nearest_name(*text, info.choices);
  throw UsageError(std::string(info.key) + ": '" + *text + "' is unknown" +
                   (near.empty() ? "; choose" : ", did you mean '" + near + "'? Choose") + " one of " + allowed);
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row.back();
}

}  // namespace

std::string to_string(const SettingValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
  if (const auto* on = std::get_if<bool>(&value)) return *on ? "true" : "false";
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, std::get<double>(value));
  std::string text(buffer, result.ptr);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";  // stays a fraction when read back
  return text;
}

SettingValue convert(const SettingInfo& info, const SettingValue& kind, const SettingValue& value) {
  if (std::holds_alternative<std::int64_t>(kind)) {
    const std::int64_t integer = as_integer(info, value);
    check_range(info, double(integer));
    return integer;
  }
  if (std::holds_alternative<double>(kind)) {
    const double number = as_number(info, value);
    check_range(info, number);
    return number;
  }
  if (std::holds_alternative<bool>(kind)) return as_switch(info, value);
  return as_text(info, value);
}

std::string nearest_name(std::string_view name, const std::vector<std::string_view>& known) {
  std::string nearest;
  std::size_t best = std::max<std::size_t>(1, name.size() / 3) + 1;
  for (std::string_view candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance < best) best = distance, nearest = candidate;
  }
  return nearest;
}

}  // namespace graft
