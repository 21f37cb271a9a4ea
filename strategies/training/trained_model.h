// The network of a run or a model file, for what comes after training.
#pragma once

#include <filesystem>
#include <memory>

#include "models/network.h"

namespace graft {

/// Where RUN or MODEL.h5 keeps its weights: best.h5, else last.h5 of a folder. Errors: there is none.
std::filesystem::path model_file_of(const std::filesystem::path& run_or_model);

/// The network of such a file. A size replaces the model's, and scales its resize; 0 leaves it.
std::unique_ptr<Network> trained_network(Context& context, const std::filesystem::path& model_file, std::int64_t size);

}  // namespace graft
