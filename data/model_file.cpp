#include "data/model_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "data/files.h"
#include "data/fletcher32.h"
#include "data/mapped_file.h"
#include "data/parallel.h"
#include "kernels/usable_cores.h"

namespace graft {
namespace {

constexpr std::int64_t kModelFormatVersion = 2;  // since there is `task`, and written only with it
constexpr const char* kModelFormat = "graft-model";

void check_info(const ModelInfo& info, const std::string& file) {
  const auto expect = [&](bool is_right, const std::string& what) {
    if (!is_right) throw Error(fmt::format("model file {}: {}", file, what));
  };
  expect(find_architecture(info.architecture) != nullptr,
         fmt::format("unknown architecture \"{}\"; use {}", info.architecture, architecture_list()));
  expect(info.stride_on == "3x3" || info.stride_on == "1x1",
         fmt::format("stride_on is \"{}\", expected 3x3 or 1x1", info.stride_on));
  expect(info.head == "original" || info.head == "gap",
         fmt::format("head is \"{}\", expected original or gap", info.head));
  expect(info.channel_order == "rgb" || info.channel_order == "bgr",
         fmt::format("channel_order is \"{}\", expected rgb or bgr", info.channel_order));
  expect(info.bn_epsilon > 0 && info.bn_epsilon < 1,
         fmt::format("bn_epsilon is {}, expected above 0", info.bn_epsilon));
  expect(info.num_classes >= 1 && info.num_classes <= 10'000'000,
         fmt::format("num_classes is {}, expected at least 1", info.num_classes));
  expect(info.input_size >= 1 && info.input_size <= 65536 && info.resize >= 1 && info.resize <= 65536,
         fmt::format("input_size {} and resize {} are out of range", info.input_size, info.resize));
  expect(std::isfinite(info.input_scale) && info.input_scale > 0,
         fmt::format("input_scale is {}, expected above 0", info.input_scale));
  for (std::size_t i = 0; i < 3; ++i) {
    expect(std::isfinite(info.mean[i]) && std::isfinite(info.std[i]) && info.std[i] > 0,
           fmt::format("mean {} or std {} is out of range", info.mean[i], info.std[i]));
  }
  expect(info.class_names.empty() || static_cast<std::int64_t>(info.class_names.size()) == info.num_classes,
         fmt::format("{} class names for {} classes", info.class_names.size(), info.num_classes));
}

void check_weights(const ModelInfo& info, const WeightTable& weights, const std::string& file) {
  WeightComparison comparison = compare_weights(weights, info.network());
  std::erase_if(comparison.missing,
                [&](const NamedShape& tensor) { return std::ranges::count(info.random_tensors, tensor.name) > 0; });
  if (comparison.is_equal()) return;
  throw Error(fmt::format("model file {}: the weights do not fit {} with {} classes and the {} head:\n{}", file,
                          info.architecture, info.num_classes, info.head, comparison_text(comparison)));
}

std::array<double, 3> read_three(const Hdf5File& file, const std::string& name, const std::string& path) {
  const auto numbers = file.read_numbers("/", name);
  if (numbers.size() != 3)
    throw Error(fmt::format("model file {}: {} has {} values, expected 3", path, name, numbers.size()));
  return {numbers[0], numbers[1], numbers[2]};
}

double read_one(const Hdf5File& file, const std::string& name, const std::string& path) {
  const auto numbers = file.read_numbers("/", name);
  if (numbers.size() != 1)
    throw Error(fmt::format("model file {}: {} has {} values, expected 1", path, name, numbers.size()));
  return numbers[0];
}

ModelInfo info_from(const Hdf5File& file, const std::string& path) {
  if (!is_model_file(file)) {
    throw Error(fmt::format(
        "model file {}: not a graft model file; make one with: graft weights import {} -o OUT.h5 --arch ...", path,
        path));
  }
  if (const auto version = file.read_integer("/", "format_version"); version < 1 || version > kModelFormatVersion) {
    throw Error(
        fmt::format("model file {}: format_version {}, this program reads up to {}; use a matching version of graft",
                    path, version, kModelFormatVersion));
  }
  ModelInfo info;
  info.architecture = file.read_text("/", "architecture");
  info.stride_on = file.read_text("/", "stride_on");
  info.bn_epsilon = read_one(file, "bn_epsilon", path);
  info.num_classes = file.read_integer("/", "num_classes");
  info.head = file.read_text("/", "head");
  info.input_size = file.read_integer("/", "input_size");
  info.resize = file.read_integer("/", "resize");
  info.channel_order = file.read_text("/", "channel_order");
  info.input_scale = read_one(file, "input_scale", path);
  info.mean = read_three(file, "mean", path);
  info.std = read_three(file, "std", path);
  if (file.has_attribute("/", "intensity_window")) {
    const std::string window = file.read_text("/", "intensity_window");
    info.window = intensity_window_of(window);
    if (!info.window)
      throw Error(
          fmt::format("model file {}: intensity_window is \"{}\", expected two numbers as \"0,4095\"", path, window));
  }
  info.class_names = file.read_texts("/", "class_names");
  if (file.has_attribute("/", "task")) {
    const std::string task = file.read_text("/", "task");
    if (task != kMultiLabelTask)
      throw Error(
          fmt::format("model file {}: task is \"{}\", this program knows \"{}\"; use a matching version of graft", path,
                      task, kMultiLabelTask));
    info.is_multi_label = true;
  }
  info.source = file.read_text("/", "source");
  info.source_sha256 = file.read_text("/", "source_sha256");
  if (file.has_attribute("/", "random_tensors")) info.random_tensors = file.read_texts("/", "random_tensors");
  check_info(info, path);
  return info;
}

/// An array of floating-point numbers as write_array left it, and where it lies.
struct StoredArray {
  std::string name;
  Hdf5DatasetInfo info;
  Hdf5File::Chunk chunk;
};

/// Nothing of integers, and of arrays in another layout, which were rewritten by another program: the library reads and
/// checks those.
std::optional<StoredArray> stored_array(const Hdf5File& file, const std::string& group, const std::string& name) {
  const std::string path = group + "/" + name;
  const Hdf5DatasetInfo info = file.dataset_info(path);
  if (info.type != Hdf5Type::floating) return {};
  const Hdf5File::Chunk chunk = file.single_chunk(path, info);
  return chunk.offset < 0 ? std::nullopt : std::optional(StoredArray{name, info, chunk});
}

/// Calls decode(i, bytes) for every array, on several threads: HDF5 has said where arrays lie, checking and copying
/// them is the bulk of the time. Errors: a checksum that is wrong.
template <class Decode>
void decode_stored(const std::filesystem::path& path, const std::vector<StoredArray>& arrays, const Decode& decode) {
  const MappedFile mapped(path);
  const auto bytes = mapped.bytes();
  const int threads = std::min(4, usable_cores());
  parallel_for(std::ssize(arrays), threads, [&](std::int64_t i) {
    const auto& [name, info, chunk] = arrays[std::size_t(i)];
    const auto size = static_cast<std::int64_t>(bytes.size());
    if (chunk.offset > size || chunk.bytes + 4 > size - chunk.offset) {
      throw Error(fmt::format("model file {}: {} lies beyond the end; the file is truncated", path.string(), name));
    }
    const auto values = bytes.subspan(static_cast<std::size_t>(chunk.offset), static_cast<std::size_t>(chunk.bytes));
    std::uint32_t stored = 0;
    std::memcpy(&stored, values.data() + values.size(), 4);
    if (fletcher32(values) != stored) {
      throw Error(
          fmt::format("model file {}: the checksum of {} is wrong; the file is damaged, import or copy it again",
                      path.string(), name));
    }
    decode(static_cast<std::size_t>(i), values);
  });
}

WeightTable weights_from(const Hdf5File& file, const std::filesystem::path& path) {
  const std::vector<std::string> names = file.children("/weights");
  std::vector<WeightTensor> tensors(names.size());
  std::vector<StoredArray> arrays;
  std::vector<WeightTensor*> places;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (std::optional<StoredArray> array = stored_array(file, "/weights", names[i])) {
      arrays.push_back(*std::move(array));
      places.push_back(&tensors[i]);
    } else {
      tensors[i] = file.read_tensor("/weights/" + names[i], names[i]);
    }
  }
  decode_stored(path, arrays, [&](std::size_t i, std::span<const std::uint8_t> values) {
    *places[i] = decode_tensor(arrays[i].name, arrays[i].info.shape, arrays[i].info.dtype, values);
  });
  WeightTable table;
  for (WeightTensor& tensor : tensors) table.add(std::move(tensor));
  return table;
}

/// Texts come before any array, so that they lie in the file's beginning (hdf5_heap_check.h).
void create_checkpoint_group(Hdf5File& file, const std::string& path, const StateGroup& group) {
  if (group.is_empty()) return;
  file.create_group(path);
  for (const auto& [name, text] : group.texts) file.write_text(path, name, text);
}

void write_arrays(Hdf5File& file, const std::string& path, const StateGroup& group) {
  for (const auto& [name, array] : group.arrays) {
    if (name.empty() || name.find('/') != std::string::npos) {
      throw Error(fmt::format("checkpoint: \"{}\" cannot name an array; leave out '/'", name));
    }
    std::visit(
        [&](const auto& values) {
          file.write_array(path + "/" + name, {static_cast<std::int64_t>(values.size())}, std::span(values));
        },
        array);
  }
}

template <class T>
NumberArray numbers_of(std::span<const std::uint8_t> bytes) {
  std::vector<T> numbers(bytes.size() / sizeof(T));
  std::memcpy(numbers.data(), bytes.data(), bytes.size());
  return numbers;
}

StateGroup read_group(const Hdf5File& file, const std::string& path, const std::filesystem::path& file_path) {
  StateGroup group;
  if (!file.has_group(path)) return group;
  std::vector<StoredArray> arrays;
  std::vector<NumberArray*> places;
  for (const std::string& name : file.children(path)) {
    NumberArray& place = group.arrays[name];
    if (std::optional<StoredArray> array = stored_array(file, path, name)) {
      arrays.push_back(*std::move(array));
      places.push_back(&place);
    } else {
      place = file.read_array(path + "/" + name);
    }
  }
  decode_stored(file_path, arrays, [&](std::size_t i, std::span<const std::uint8_t> values) {
    *places[i] = arrays[i].info.dtype == DType::f64 ? numbers_of<double>(values) : numbers_of<float>(values);
  });
  for (const std::string& name : file.attribute_names(path)) group.texts[name] = file.read_text(path, name);
  return group;
}

}  // namespace

bool is_model_file(const Hdf5File& file) {
  return file.has_attribute("/", "format") && file.read_texts("/", "format") == std::vector<std::string>{kModelFormat};
}

void write_model_file(const std::filesystem::path& path, const ModelInfo& info, const WeightTable& weights,
                      const Checkpoint& checkpoint) {
  check_info(info, path.string());
  check_weights(info, weights, path.string());
  AtomicFile target(path);
  Hdf5File file = Hdf5File::create(target.temporary());
  file.write_text("/", "format", kModelFormat);
  file.write_integer("/", "format_version", info.is_multi_label ? kModelFormatVersion : 1);
  file.write_text("/", "architecture", info.architecture);
  file.write_text("/", "stride_on", info.stride_on);
  file.write_number("/", "bn_epsilon", info.bn_epsilon);
  file.write_integer("/", "num_classes", info.num_classes);
  file.write_text("/", "head", info.head);
  file.write_integer("/", "input_size", info.input_size);
  file.write_integer("/", "resize", info.resize);
  file.write_text("/", "channel_order", info.channel_order);
  file.write_number("/", "input_scale", info.input_scale);
  file.write_numbers("/", "mean", {info.mean.begin(), info.mean.end()});
  file.write_numbers("/", "std", {info.std.begin(), info.std.end()});
  if (info.window) file.write_text("/", "intensity_window", to_string(*info.window));
  file.write_texts("/", "class_names", info.class_names);
  if (info.is_multi_label) file.write_text("/", "task", kMultiLabelTask);
  file.write_text("/", "source", info.source);
  file.write_text("/", "source_sha256", info.source_sha256);
  if (!info.random_tensors.empty()) file.write_texts("/", "random_tensors", info.random_tensors);
  create_checkpoint_group(file, "/optimizer", checkpoint.optimizer);
  create_checkpoint_group(file, "/state", checkpoint.state);
  file.create_group("/weights");
  for (const WeightTensor& tensor : weights.tensors()) {
    const std::string dataset = "/weights/" + tensor.name;
    if (tensor.exact.empty()) {
      file.write_array(dataset, tensor.shape, std::span(tensor.values));
    } else {
      file.write_array(dataset, tensor.shape, std::span(tensor.exact));
    }
  }
  write_arrays(file, "/optimizer", checkpoint.optimizer);
  write_arrays(file, "/state", checkpoint.state);
  file.close();
  target.commit();
}

ModelInfo read_model_info(const std::filesystem::path& path) { return info_from(Hdf5File::open(path), path.string()); }

ModelFile read_model_file(const std::filesystem::path& path) {
  const Hdf5File file = Hdf5File::open(path);
  ModelFile model{info_from(file, path.string()), {}};
  model.weights = weights_from(file, path);
  check_weights(model.info, model.weights, path.string());
  return model;
}

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  const Hdf5File file = Hdf5File::open(path);
  info_from(file, path.string());
  return {read_group(file, "/optimizer", path), read_group(file, "/state", path)};
}

}  // namespace graft
