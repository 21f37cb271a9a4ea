#include "strategies/training/starting_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <future>

#include "data/files.h"
#include "models/initialise.h"
#include "models/network_io.h"

namespace graft {
namespace {

/// Errors: there is no such file; it is a folder, where that of a run says which of its files is meant.
void check_weights_file(const std::filesystem::path& weights) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(weights, error))
    throw Error(fmt::format("train.weights: {} does not exist; check the path", weights.string()));
  if (!fs::is_directory(weights, error)) return;
  for (const char* name : {"best.h5", "last.h5"})
    if (fs::exists(weights / name, error))
      throw Error(
          fmt::format("train.weights: {} is a run directory; give {}", weights.string(), (weights / name).string()));
  throw Error(fmt::format("train.weights: {} is a folder; give a model file", weights.string()));
}

StartingModel model_from_scratch(Context& context, const TrainSettings& s, const std::vector<std::string>& class_names,
                                 bool is_multi_label) {
  ModelInfo info = starting_info(s);
  info.num_classes = std::int64_t(class_names.size());
  info.class_names = class_names;
  info.is_multi_label = is_multi_label;
  StartingModel model{.network = make_network(context, info), .sha256 = {}, .notes = {}};
  initialise_from_scratch(*model.network, std::uint64_t(s.seed));
  return model;
}

}  // namespace

void set_input_size(ModelInfo& info, std::int64_t size, std::int64_t resize) {
  if (size > 0) {
    info.input_size = size;
    info.resize = std::llround(256.0 * double(size) / 224.0);
  }
  if (resize > 0) info.resize = resize;
  if (info.resize < info.input_size)
    throw UsageError(fmt::format("train.resize: {} pixels are less than the crop of {}; give at least that",
                                 info.resize, info.input_size));
}

ModelInfo starting_info(const TrainSettings& s) {
  ModelInfo info;
  if (s.from_scratch) {
    info.architecture = s.arch;
    info.source = fmt::format("random weights, seed {}", s.seed);
  } else {
    check_weights_file(s.weights);
    info = read_model_info(s.weights);
  }
  if (s.head != "auto") info.head = s.head;
  set_input_size(info, s.size, s.resize);
  info.window = intensity_window(s);
  return info;
}

StartingModel starting_model(Context& context, const TrainSettings& s, const std::vector<std::string>& class_names,
                             bool is_multi_label) {
  if (s.from_scratch) return model_from_scratch(context, s, class_names, is_multi_label);
  check_weights_file(s.weights);
  ModelFile file = read_model_file(s.weights);
  std::future<std::string> sha256 = std::async(std::launch::async, [path = s.weights] { return sha256_of_file(path); });
  const std::string head = s.head == "auto" ? file.info.head : s.head;
  const bool has_other_head = head != file.info.head;
  const bool keeps_head = !s.new_head && !has_other_head && file.info.class_names == class_names &&
                          file.info.is_multi_label == is_multi_label;
  const bool is_partial = !file.info.random_tensors.empty() || has_other_head;
  ModelInfo info = file.info;
  info.head = head;
  info.num_classes = std::int64_t(class_names.size());
  info.class_names = class_names;
  info.is_multi_label = is_multi_label;
  info.random_tensors.clear();
  set_input_size(info, s.size, s.resize);
  info.window = intensity_window(s);

  StartingModel model{.network = make_network(context, info), .sha256 = {}, .notes = {}};
  Network& network = *model.network;
  if (is_partial) initialise_from_scratch(network, std::uint64_t(s.seed));
  if (!keeps_head) initialise_head(network, std::uint64_t(s.seed));
  load_weights(network, file.weights, {.partial = is_partial, .skips_head = !keeps_head});
  model.sha256 = sha256.get();
  if (!keeps_head)
    model.notes.push_back(
        fmt::format("new head: {} classes ({}{}){}", class_names.size(),
                    fmt::join(class_names.begin(),
                              class_names.begin() + std::min<std::ptrdiff_t>(8, std::ssize(class_names)), ", "),
                    class_names.size() > 8 ? ", …" : "", is_multi_label ? ", any number of them per image" : ""));
  else
    model.notes.push_back("the model's class names equal the data's: its head is kept");
  if (file.info.window && file.info.window != info.window)
    model.notes.push_back(fmt::format(
        "the model has seen images of 16 bits through the window {0}, this run sees {1}; "
        "--intensity-window {0} would be the same",
        to_string(*file.info.window), info.window ? "them through " + to_string(*info.window) : "their high byte"));
  if (!file.info.random_tensors.empty())
    model.notes.push_back(
        fmt::format("{} tensors that the model file lacks start at random", file.info.random_tensors.size()));
  return model;
}

StartingModel resumed_model(Context& context, const std::filesystem::path& checkpoint) {
  const ModelFile file = read_model_file(checkpoint);
  StartingModel model{.network = make_network(context, file.info), .sha256 = {}, .notes = {}};
  load_weights(*model.network, file.weights);
  return model;
}

}  // namespace graft
