// Listings: what a folder, a CSV or an .npz holds, before splitting. Used by dataset.cpp only.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace graft {

/// A source's own account of itself.
struct Listing {
  std::vector<std::string> class_names;
  LabelSets label_sets;
  std::vector<Sample> samples;
  std::shared_ptr<const ImageSource> source;
  bool has_splits = false;         // otherwise every sample says train
  std::vector<std::string> notes;  // what was left out, and other things for people
};

/// `window`: for files of 16 bits (image.h).
Listing list_folder(const std::filesystem::path& folder, const std::optional<IntensityWindow>& window);
Listing list_csv(const std::filesystem::path& file, const std::optional<IntensityWindow>& window);
Listing list_npz(const std::filesystem::path& file);

}  // namespace graft
