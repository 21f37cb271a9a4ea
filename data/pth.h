// Reading and writing PyTorch's .pth and .pt files: the zip of PyTorch 1.6 and later, and the stream written before. A file may
// hold the state dict itself or wrap it. Nothing that a file names is ever executed (pickle.h). Names and layout are
// taken as they stand; weight_import.h maps them to a network. Source: torch/serialization.py, `_load` and
// `_legacy_load`.
#pragma once

#include <filesystem>

#include "data/weight_table.h"

namespace graft {

/// Reads the floating-point tensors of a state dict, in its order, as row-major values whatever their strides; integer
/// tensors go to `skipped`. A dictionary without tensors is unwrapped by its key `state_dict`, `model` or
/// `model_state_dict`; a prefix `module.` that all names share (DataParallel) is dropped.
/// Errors: truncated or damaged files, opcodes or globals beyond a state dict's (named), compressed entries, big-endian
/// values, TorchScript archives, the tar format before PyTorch 0.1.10.
WeightTable read_pth(const std::filesystem::path& path);

/// Writes a state dict as PyTorch 1.6 and later do, atomically; `torch.load` reads it with weights_only=True. Values are
/// float32, or float64 where the table holds exact doubles. Equal tables give equal bytes.
/// Errors: more than 4 GB, or a tensor of 2^31 values; the file cannot be written.
void write_pth(const std::filesystem::path& path, const WeightTable& weights);

/// Whether a file begins like a zip or legacy .pth file (and not whether it is sound).
bool looks_like_pth(std::span<const std::uint8_t> bytes);

}  // namespace graft
