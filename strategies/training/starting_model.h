// The network a run starts from: of a model file with its head or a new one, at random, or of the checkpoint that a
// resumed run left.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "models/network.h"
#include "strategies/train_settings.h"

namespace graft {

struct StartingModel {
  std::unique_ptr<Network> network;
  std::string sha256;              // of the model file; empty without one
  std::vector<std::string> notes;  // what a user should know: new head, random tensors
};

/// What a run starts with, as far as it is known without images: the model file's description, or that of a network
/// from scratch, with the settings' head and sizes. Classes are the file's. Errors: train.weights is missing, a folder,
/// or no graft model file.
ModelInfo starting_info(const TrainSettings& settings);

/// From the settings' weights or from scratch. The head stays if the model's class names equal the data's, and both
/// have one label per image or both several, unless new_head; a new one is drawn by the seed. The size replaces the
/// model's, and scales its resize. Errors: unreadable or unfitting file.
StartingModel starting_model(Context& context, const TrainSettings& settings,
                             const std::vector<std::string>& class_names, bool is_multi_label);

StartingModel resumed_model(Context& context, const std::filesystem::path& checkpoint);

/// Sets the side of the crop and the shorter side before it, in pixels; 0 leaves the model's. A size alone scales the
/// resize with it, to round(256 * size / 224).
void set_input_size(ModelInfo& info, std::int64_t size, std::int64_t resize);

}  // namespace graft
