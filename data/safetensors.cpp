#include "data/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "data/files.h"
#include "data/mapped_file.h"

namespace graft {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

struct Entry {
  std::string name;
  std::string dtype;
  Dimensions shape;
  std::uint64_t begin = 0, end = 0;  // bytes, relative to the values
};

struct NumberType {
  std::string_view name;
  std::int64_t bytes;
  std::optional<DType> dtype;  // none: integers, and 8-bit floats that no published file here uses
};

constexpr NumberType kNumberTypes[] = {
    {"F32", 4, DType::f32},    {"F64", 8, DType::f64},   {"F16", 2, DType::f16},   {"BF16", 2, DType::bf16},
    {"I64", 8, std::nullopt},  {"U64", 8, std::nullopt}, {"I32", 4, std::nullopt}, {"U32", 4, std::nullopt},
    {"I16", 2, std::nullopt},  {"U16", 2, std::nullopt}, {"I8", 1, std::nullopt},  {"U8", 1, std::nullopt},
    {"BOOL", 1, std::nullopt},
};

/// The parser's callback sees every key of the top two levels, where a duplicate would silently replace the first.
json parse_header(std::string_view text, const std::string& file) {
  std::vector<std::set<std::string>> keys;  // one set per open object
  std::string duplicate;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > 8) throw Error(fmt::format("safetensors {}: the header is nested too deeply; not such a file", file));
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.empty() && !keys.back().insert(value.get<std::string>()).second) {
      duplicate = value.get<std::string>();
    }
    return true;
  };
  json header;
  try {
    header = json::parse(text, watch);
  } catch (const json::exception& reason) {
    throw Error(
        fmt::format("safetensors {}: the header is not valid JSON ({}); the file is damaged or not of this format",
                    file, reason.what()));
  }
  if (!duplicate.empty()) throw Error(fmt::format("safetensors {}: the key \"{}\" appears twice", file, duplicate));
  if (!header.is_object()) throw Error(fmt::format("safetensors {}: the header is not a JSON object", file));
  return header;
}

std::uint64_t whole_number(const json& value, const std::string& what) {
  if (!value.is_number_unsigned())
    throw Error(fmt::format("{}: expected a whole number >= 0, got {}", what, value.dump()));
  return value.get<std::uint64_t>();
}

Entry parse_entry(const std::string& name, const json& value, const std::string& file) {
  const std::string what = fmt::format("safetensors {}: tensor {}", file, name);
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    throw Error(fmt::format("{}: expected exactly the keys dtype, shape and data_offsets", what));
  }
  Entry entry{name, {}, {}, 0, 0};
  if (!value["dtype"].is_string()) throw Error(fmt::format("{}: dtype is not a string", what));
  entry.dtype = value["dtype"].get<std::string>();
  if (!value["shape"].is_array()) throw Error(fmt::format("{}: shape is not a list", what));
  for (const json& size : value["shape"]) {
    const std::uint64_t number = whole_number(size, what);
    if (number > (std::uint64_t{1} << 40)) throw Error(fmt::format("{}: impossible size {}", what, number));
    entry.shape.push_back(static_cast<std::int64_t>(number));
  }
  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    throw Error(fmt::format("{}: data_offsets is not [begin, end]", what));
  entry.begin = whole_number(offsets[0], what);
  entry.end = whole_number(offsets[1], what);
  return entry;
}

const NumberType& number_type(const Entry& entry, const std::string& file) {
  for (const NumberType& type : kNumberTypes) {
    if (type.name == entry.dtype) return type;
  }
  throw Error(fmt::format("safetensors {}: tensor {} has type {}; this reader knows F32, F64, F16, BF16 and integers",
                          file, entry.name, entry.dtype));
}

}  // namespace

WeightTable read_safetensors(const std::filesystem::path& path) {
  const std::string file = path.string();
  const MappedFile mapped(path);
  const auto bytes = mapped.bytes();
  if (bytes.size() < 8)
    throw Error(fmt::format("safetensors {}: {} bytes are too few; the file is damaged", file, bytes.size()));
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  if (header_bytes > kMaxHeaderBytes || header_bytes < 2) {
    throw Error(fmt::format("safetensors {}: header of {} bytes, expected 2 to {}; not a safetensors file", file,
                            header_bytes, kMaxHeaderBytes));
  }
  if (header_bytes > bytes.size() - 8) {
    throw Error(fmt::format("safetensors {}: header of {} bytes in a file of {}; it is truncated, download it again",
                            file, header_bytes, bytes.size()));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes);
  if (text.front() != '{') throw Error(fmt::format("safetensors {}: the header does not begin with '{{'", file));
  const json header = parse_header(text, file);
  const auto values = bytes.subspan(8 + header_bytes);

  WeightTable table;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(parse_entry(name, value, file));
      continue;
    }
    if (!value.is_object()) throw Error(fmt::format("safetensors {}: __metadata__ is not an object", file));
    for (const auto& [key, note] : value.items()) {
      if (!note.is_string()) throw Error(fmt::format("safetensors {}: __metadata__.{} is not a string", file, key));
      table.metadata[key] = note.get<std::string>();
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::uint64_t covered = 0;
  for (Entry& entry : entries) {
    const NumberType& type = number_type(entry, file);
    const std::string what = fmt::format("safetensors {}: tensor {}", file, entry.name);
    if (entry.begin != covered || entry.end < entry.begin) {
      throw Error(fmt::format("{} lies at [{}, {}), expected to begin at {}: values overlap or leave a hole", what,
                              entry.begin, entry.end, covered));
    }
    if (entry.end > values.size()) {
      throw Error(fmt::format("{} ends at byte {} of {}; the file is truncated, download it again", what, entry.end,
                              values.size()));
    }
    const auto expected = static_cast<std::uint64_t>(element_count(entry.shape, what) * type.bytes);
    if (entry.end - entry.begin != expected) {
      throw Error(fmt::format("{}: {} {} expects {} bytes, got {}", what, entry.dtype, dimensions_text(entry.shape),
                              expected, entry.end - entry.begin));
    }
    covered = entry.end;
    if (type.dtype) {
      table.add(decode_tensor(std::move(entry.name), std::move(entry.shape), *type.dtype,
                              values.subspan(entry.begin, expected)));
    } else {
      table.skipped.push_back({std::move(entry.name), std::move(entry.shape), std::move(entry.dtype)});
    }
  }
  if (covered != values.size()) {
    throw Error(fmt::format("safetensors {}: {} bytes follow the last tensor; the file is damaged", file,
                            values.size() - covered));
  }
  return table;
}

void write_safetensors(const std::filesystem::path& path, const WeightTable& weights) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!weights.metadata.empty()) header["__metadata__"] = weights.metadata;
  // Wider elements first keep every tensor aligned to its own size.
  std::vector<const WeightTensor*> order;
  for (const WeightTensor& tensor : weights.tensors()) {
    if (tensor.name == "__metadata__") throw Error("safetensors: a tensor cannot be named __metadata__; rename it");
    order.push_back(&tensor);
  }
  std::stable_partition(order.begin(), order.end(), [](const WeightTensor* t) { return !t->exact.empty(); });
  std::uint64_t at = 0;
  for (const WeightTensor* tensor : order) {
    const bool is_double = !tensor->exact.empty();
    const std::uint64_t end = at + tensor->values.size() * (is_double ? 8 : 4);
    header[tensor->name] = {
        {"dtype", is_double ? "F64" : "F32"}, {"shape", tensor->shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kMaxHeaderBytes) throw Error("safetensors: the header would pass 100 MB; write fewer tensors");
  std::string contents(8, '\0');
  const std::uint64_t header_bytes = text.size();
  std::memcpy(contents.data(), &header_bytes, 8);
  contents.reserve(8 + text.size() + at);
  contents += text;
  for (const WeightTensor* tensor : order) {
    if (tensor->exact.empty()) {
      contents.append(reinterpret_cast<const char*>(tensor->values.data()), tensor->values.size() * 4);
    } else {
      contents.append(reinterpret_cast<const char*>(tensor->exact.data()), tensor->exact.size() * 8);
    }
  }
  write_atomically(path, std::string_view(contents));
}

}  // namespace graft
