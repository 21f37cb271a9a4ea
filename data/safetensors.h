// Reading and writing safetensors files: a JSON header of names, types, shapes and offsets, then raw little-endian
// values. Names and layout are taken as they stand; weight_import.h maps them to a network. Source:
// github.com/huggingface/safetensors, README "Format".
#pragma once

#include <filesystem>

#include "data/weight_table.h"

namespace graft {

/// Reads every floating-point tensor; integer tensors are listed in `skipped`, `__metadata__` in `metadata`. Order:
/// that of the values in the file. Errors: header over 100 MB, not JSON, duplicate or unknown keys, unknown type,
/// offsets that overlap, leave holes, disagree with the shape or pass the end of the file.
WeightTable read_safetensors(const std::filesystem::path& path);

/// Writes the table as float32 (float64 where a tensor holds exact doubles), atomically, values aligned to 8 bytes.
/// Errors: a tensor is named `__metadata__`; the file cannot be written.
void write_safetensors(const std::filesystem::path& path, const WeightTable& weights);

}  // namespace graft
