#include "strategies/frozen_channels.h"

#include <charconv>

#include "kernels/core.h"
#include "strategies/settings.h"

namespace graft {
namespace {

constexpr const char* kFreezeChannels = "train.freeze_channels: ";

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

/// The texts between separators, without the blanks around them.
std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t end; (end = text.find(separator)) != std::string_view::npos; text.remove_prefix(end + 1))
    parts.push_back(trimmed(text.substr(0, end)));
  parts.push_back(trimmed(text));
  return parts;
}

[[noreturn]] void bad_entry(std::string_view entry) {
  throw UsageError(std::string(kFreezeChannels) + "expects PATTERN=CHANNELS, such as layer1.*.weight=0-15,20, got '" +
                   std::string(entry) + "'; entries are separated by semicolons");
}

std::int64_t channel(std::string_view text, std::string_view entry) {
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0) bad_entry(entry);
  return value;
}

FrozenChannels parse_entry(std::string_view entry) {
  const std::size_t equals = entry.find('=');
  if (equals == std::string_view::npos) bad_entry(entry);
  FrozenChannels frozen{.pattern = std::string(trimmed(entry.substr(0, equals))), .channels = {}};
  if (frozen.pattern.empty()) bad_entry(entry);
  for (std::string_view text : split(entry.substr(equals + 1), ',')) {
    const std::size_t dash = text.find('-');
    const std::int64_t first = channel(trimmed(text.substr(0, dash)), entry);
    const std::int64_t last = dash == std::string_view::npos ? first : channel(trimmed(text.substr(dash + 1)), entry);
    if (first > last)
      throw UsageError(std::string(kFreezeChannels) + "the range " + std::string(text) + " of '" + std::string(entry) +
                       "' ends before it begins; write the smaller number first");
    frozen.channels.push_back({first, last});
  }
  return frozen;
}

}  // namespace

std::vector<FrozenChannels> parse_frozen_channels(std::string_view text) {
  std::vector<FrozenChannels> all;
  if (trimmed(text).empty()) return all;
  for (std::string_view entry : split(text, ';')) all.push_back(parse_entry(entry));
  return all;
}

void freeze_channels(FreezePlan& freeze, const ParameterSet& parameters, const std::vector<FrozenChannels>& frozen) {
  const auto anything_trains = [&] {
    for (std::size_t i = 0; i < parameters.parameters().size(); ++i)
      if (freeze.trains(std::int64_t(i))) return true;
    return false;
  };
  const bool trained_before = anything_trains();
  for (const FrozenChannels& f : frozen) {
    std::int64_t selected = 0;
    try {
      selected = freeze.freeze_channels(parameters, {.name = f.pattern}, f.channels);
    } catch (const UsageError& e) {
      throw UsageError(kFreezeChannels + f.pattern + ": " + e.what());
    }
    if (selected == 0)
      throw UsageError(kFreezeChannels + std::string("no parameter matches '") + f.pattern + "'; names are like '" +
                       parameters.parameters().front().name + "', graft weights inspect lists them");
  }
  if (trained_before && !anything_trains())
    throw UsageError(std::string(kFreezeChannels) + "nothing is left to train; name fewer channels");
}

}  // namespace graft
