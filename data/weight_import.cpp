#include "data/weight_import.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "data/files.h"
#include "data/keras_h5.h"
#include "data/mapped_file.h"
#include "data/pth.h"
#include "data/published_weights.h"
#include "data/safetensors.h"

namespace graft {
namespace {

using nlohmann::json;

bool is_hdf5(std::span<const std::uint8_t> bytes) {
  constexpr std::array<std::uint8_t, 8> kStart = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
  return bytes.size() >= kStart.size() && std::equal(kStart.begin(), kStart.end(), bytes.begin());
}

bool looks_like_safetensors(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < 9 || bytes[8] != '{') return false;
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  return header_bytes <= 100'000'000;
}

/// "graft-model", "keras", "pth" or "safetensors", by contents; a file name says nothing.
std::string format_of(std::span<const std::uint8_t> bytes, const std::filesystem::path& path) {
  if (is_hdf5(bytes)) return is_model_file(Hdf5File::open(path)) ? "graft-model" : "keras";
  if (looks_like_pth(bytes)) return "pth";
  if (looks_like_safetensors(bytes)) return "safetensors";
  if (!bytes.empty() && bytes[0] == 0x80) return "pth";  // a plain pickle, which its reader refuses with advice
  if (path.extension() == ".onnx")
    throw Error(fmt::format("weights {}: ONNX files are written, not read; save the network's state_dict as .pth or "
                            ".safetensors and import that",
                            path.string()));
  throw Error(fmt::format(
      "weights {}: neither HDF5, safetensors nor .pth by its first bytes; it is damaged or of another format",
      path.string()));
}

/// The file in torchvision's names and layout, with what Keras fixes where it is a Keras file.
KerasWeights read_weights(const std::filesystem::path& path, const std::string& format) {
  if (format == "keras") return read_keras_h5(path);
  KerasWeights result;
  if (format == "pth") {
    result.weights = with_torchvision_names(read_pth(path));
  } else if (format == "safetensors") {
    result.weights = with_torchvision_names(read_safetensors(path));
  } else {
    throw Error(fmt::format("weights: unknown format \"{}\"; use auto, pth, safetensors or keras", format));
  }
  return result;
}

/// Rounds to float32 and refuses values that no trained network has.
WeightTable checked_values(WeightTable weights, const std::string& file) {
  WeightTable result;
  result.skipped = std::move(weights.skipped);
  result.metadata = std::move(weights.metadata);
  for (WeightTensor& tensor : std::move(weights).release()) {
    tensor.exact = {};
    const bool is_variance = tensor.name.ends_with("running_var");
    for (const float value : tensor.values) {
      if (!std::isfinite(value) || (is_variance && value < 0)) {
        throw Error(fmt::format("weights {}: {} holds {}, expected finite values{}; the file is damaged", file,
                                tensor.name, value, is_variance ? " >= 0" : ""));
      }
    }
    result.add(std::move(tensor));
  }
  return result;
}

/// What `graft export` wrote beside the tensors of a safetensors file; false if it did not.
bool take_metadata(ModelInfo& info, const std::map<std::string, std::string>& metadata, const std::string& file) {
  const auto text = [&](const char* key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? std::string() : found->second;
  };
  if (text("architecture") != info.architecture) return false;
  const auto numbers = [&](const char* key, std::size_t count) {
    std::istringstream words(text(key));
    std::vector<double> values;
    for (double value = 0; words >> value;) values.push_back(value);
    if (values.size() != count || !words.eof())
      throw Error(fmt::format("weights {}: its metadata has '{}' for {}, expected {} number{}; export it again", file,
                              text(key), key, count, count == 1 ? "" : "s"));
    return values;
  };
  info.stride_on = text("stride_on") == "1x1" ? "1x1" : "3x3";
  info.bn_epsilon = numbers("bn_epsilon", 1)[0];
  info.resize = std::int64_t(numbers("resize", 1)[0]);
  info.input_size = std::int64_t(numbers("input_size", 1)[0]);
  info.channel_order = text("channel_order") == "bgr" ? "bgr" : "rgb";
  info.input_scale = numbers("input_scale", 1)[0];
  std::ranges::copy(numbers("mean", 3), info.mean.begin());
  std::ranges::copy(numbers("std", 3), info.std.begin());
  const std::string window = text("intensity_window");
  info.window = intensity_window_of(window);
  if (!window.empty() && !info.window)
    throw Error(
        fmt::format("weights {}: its metadata has '{}' for intensity_window, expected two numbers as 0,4095; export "
                    "it again",
                    file, window));
  const std::string task = text("task");
  if (!task.empty() && task != kMultiLabelTask)
    throw Error(
        fmt::format("weights {}: its metadata has '{}' for task, this program knows '{}'; use a matching version", file,
                    task, kMultiLabelTask));
  info.is_multi_label = !task.empty();
  const json names = json::parse(text("class_names"), nullptr, false);
  if (names.is_array() && info.class_names.empty() && std::ssize(names) == info.num_classes &&
      std::ranges::all_of(names, &json::is_string))
    info.class_names = names.get<std::vector<std::string>>();
  return true;
}

}  // namespace

void set_preprocessing(ModelInfo& info, const std::string& name) {
  if (name == "torch") {
    info.channel_order = "rgb";
    info.input_scale = 255;
    info.mean = {0.485, 0.456, 0.406};
    info.std = {0.229, 0.224, 0.225};
  } else if (name == "caffe") {
    info.channel_order = "bgr";
    info.input_scale = 1;
    info.mean = {103.939, 116.779, 123.68};
    info.std = {1, 1, 1};
  } else if (name == "none") {
    info.channel_order = "rgb";
    info.input_scale = 255;
    info.mean = {0, 0, 0};
    info.std = {1, 1, 1};
  } else {
    throw Error(fmt::format("weights: unknown preprocessing \"{}\"; use torch, caffe or none", name));
  }
}

std::vector<std::string> read_labels(const std::filesystem::path& path) {
  const std::string text = graft::read_text(path);
  std::vector<std::string> names;
  const auto fail = [&](const std::string& reason) {
    throw Error(fmt::format("labels {}: {}; expected {{\"0\": \"name\", ...}}, [\"name\", ...] or one name a line",
                            path.string(), reason));
  };
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) fail("the file is empty");
  if (text[first] != '{' && text[first] != '[') {
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      std::string line = text.substr(begin, end - begin);
      while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.pop_back();
      names.push_back(std::move(line));
      begin = end + 1;
    }
  } else {
    json document;
    try {
      document = json::parse(text);
    } catch (const json::exception& reason) {
      fail(fmt::format("not valid JSON ({})", reason.what()));
    }
    names.resize(document.size());
    std::size_t position = 0;
    for (const auto& [key, value] : document.items()) {
      std::size_t index = position++;
      if (document.is_object()) {
        const bool is_number =
            !key.empty() && key.size() < 9 && std::ranges::all_of(key, [](char c) { return c >= '0' && c <= '9'; });
        index = is_number ? std::stoul(key) : names.size();
        if (index >= names.size()) fail(fmt::format("the key \"{}\" is not an index below {}", key, names.size()));
      }
      const json& name = value.is_array() && value.size() == 2 ? value[1] : value;  // Keras: [WordNet id, name]
      if (!name.is_string()) fail(fmt::format("entry {} is not a text", key));
      if (!names[index].empty()) fail(fmt::format("the index {} appears twice", index));
      names[index] = name.get<std::string>();
    }
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) fail(fmt::format("class {} has no name", i));
  }
  return names;
}

ImportedWeights import_weights(const ImportRequest& request) {
  const std::string file = request.path.string();
  const Architecture& architecture = architecture_of(request.architecture);
  if (request.stride_on == "1x1" && !architecture.has_bottlenecks)
    throw UsageError(fmt::format(
        "weights: strides on 1x1 convolutions are for ResNets of 50 layers and more, not {}; leave out --stride-on",
        architecture.name));
  const MappedFile mapped(request.path);
  ImportedWeights result;
  const std::string found = format_of(mapped.bytes(), request.path);
  if (found == "graft-model") {
    throw Error(fmt::format("weights {}: already a graft model file; use it as it is, or see: graft weights inspect {}",
                            file, file));
  }
  result.format = request.format == "auto" ? found : request.format;
  if (result.format != found) {
    throw Error(fmt::format("weights {}: expected format {}, its contents are {}; leave out --format", file,
                            result.format, found));
  }
  KerasWeights read = read_weights(request.path, result.format);
  if (!read.architecture.empty() && read.architecture != request.architecture) {
    throw Error(fmt::format("weights {}: this is Keras's {}, not {}; give --arch {}", file, read.architecture,
                            request.architecture, read.architecture));
  }
  result.weights = checked_values(std::move(read.weights), file);

  ModelInfo& info = result.info;
  if (!request.labels.empty()) info.class_names = read_labels(request.labels);
  const std::int64_t if_absent = info.class_names.empty() ? 1000 : static_cast<std::int64_t>(info.class_names.size());
  const NetworkShape network = network_of(request.architecture, result.weights, if_absent);
  WeightComparison comparison = compare_weights(result.weights, network);
  const bool is_only_missing = comparison.extra.empty() && comparison.mismatched.empty();
  const bool has_none = comparison.missing.size() == expected_tensors(network).size();
  if (has_none || !is_only_missing || (!comparison.missing.empty() && !request.is_partial)) {
    const std::string guess = guess_network(result.weights).architecture;
    std::string advice = "check --arch and the file";
    if (!guess.empty() && guess != request.architecture) {
      advice = fmt::format("the names are those of {}: give --arch {}", guess, guess);
    } else if (is_only_missing && !has_none) {
      advice = "give --partial to leave the missing tensors random";
    }
    throw Error(fmt::format("weights {}: {} missing, {} extra, {} mismatched tensors for {}; {}\n{}", file,
                            comparison.missing.size(), comparison.extra.size(), comparison.mismatched.size(),
                            request.architecture, advice, comparison_text(comparison)));
  }
  for (NamedShape& tensor : comparison.missing) info.random_tensors.push_back(std::move(tensor.name));

  info.architecture = network.architecture;
  info.num_classes = network.num_classes;
  info.head = network.head;
  info.stride_on = read.stride_on;
  info.bn_epsilon = read.bn_epsilon;
  set_preprocessing(info, read.preprocess);
  const bool has_metadata = take_metadata(info, result.weights.metadata, file);
  result.says_input = has_metadata || result.format == "keras";
  info.stride_on = request.stride_on.value_or(info.stride_on);
  info.bn_epsilon = request.bn_epsilon.value_or(info.bn_epsilon);
  info.resize = request.resize.value_or(info.resize);
  if (request.preprocess) set_preprocessing(info, *request.preprocess);
  if (request.window) info.window = request.window;
  info.is_multi_label = info.is_multi_label || request.is_multi_label;
  if (!info.class_names.empty() && static_cast<std::int64_t>(info.class_names.size()) != info.num_classes) {
    throw Error(fmt::format("labels {}: {} names for the {} classes of {}; give the list of this model",
                            request.labels.string(), info.class_names.size(), info.num_classes, file));
  }
  info.source_sha256 = sha256_hex(mapped.bytes());
  result.recognised = published_name(mapped.bytes(), info.source_sha256);
  info.source = request.path.filename().string();
  if (!result.recognised.empty()) info.source += fmt::format(" = {}", result.recognised);
  return result;
}

namespace {

std::string values_sha256(const WeightTable& weights) {
  Sha256 hash;
  const auto update = [&](const void* data, std::size_t bytes) {
    hash.update({static_cast<const std::uint8_t*>(data), bytes});
  };
  for (const WeightTensor& tensor : weights.tensors()) {
    update(tensor.name.c_str(), tensor.name.size() + 1);
    update(tensor.values.data(), tensor.values.size() * sizeof(float));
    update(tensor.exact.data(), tensor.exact.size() * sizeof(double));
  }
  return fmt::format("{:02x}", fmt::join(hash.finish(), ""));
}

}  // namespace

WeightFileReport inspect_weights(const std::filesystem::path& path) {
  const MappedFile mapped(path);
  WeightFileReport report;
  report.format = format_of(mapped.bytes(), path);
  report.bytes = static_cast<std::int64_t>(mapped.bytes().size());
  report.sha256 = sha256_hex(mapped.bytes());
  report.recognised = published_name(mapped.bytes(), report.sha256);
  WeightTable weights;
  if (report.format == "graft-model") {
    ModelFile model = read_model_file(path);
    report.network = model.info.network();
    report.info = std::move(model.info);
    weights = std::move(model.weights);
  } else {
    weights = read_weights(path, report.format).weights;
    report.network = guess_network(weights);
  }
  if (!report.network.architecture.empty()) report.comparison = compare_weights(weights, report.network);
  for (const WeightTensor& tensor : weights.tensors())
    report.tensors.push_back({tensor.name, tensor.shape, tensor.stored_dtype});
  report.value_count = weights.element_total();
  report.values_sha256 = values_sha256(weights);
  report.skipped = std::move(weights.skipped);
  report.metadata = std::move(weights.metadata);
  return report;
}

}  // namespace graft
