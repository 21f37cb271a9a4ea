// The part of Python's pickle language that PyTorch writes for a dictionary of tensors, as an inert machine: it builds
// a tree of plain values and never calls, imports or constructs anything that a file names. pth.h reads files with it.
// Source: CPython Lib/pickletools.py; torch/serialization.py and torch/_utils.py for the meaning of the few globals.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace graft::pickle {

using Ref = std::int32_t;  // index into Document::nodes; a tree of indices cannot overflow a stack when it is destroyed

/// What a storage persistent id says: ('storage', type, key, device, numel[, view]).
struct Storage {
  std::string type;              // "FloatStorage"
  std::string key;               // names the bytes: an entry of the zip, or of the legacy stream's key list
  std::int64_t size = 0;         // elements of the storage
  std::int64_t view_offset = 0;  // elements; only legacy files share one storage between several
};

struct Tensor {
  Ref storage = 0;
  std::int64_t offset = 0;  // elements
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // elements, as many as sizes
};

enum class Kind : std::uint8_t {
  none,
  boolean,
  integer,
  real,
  text,
  big_integer,
  tuple,
  list,
  dict,
  global,
  storage,
  tensor
};

struct Node {
  Kind kind = Kind::none;
  std::int64_t integer = 0;  // boolean and integer; index into storages or tensors
  double real = 0;
  std::string text;        // text; global as "module.name"; big_integer as little-endian bytes
  std::vector<Ref> items;  // tuple, list; dict as key, value, key, value ...
};

struct Document {
  std::vector<Node> nodes;
  std::vector<Storage> storages;
  std::vector<Tensor> tensors;
  Ref root = 0;
  std::size_t bytes_read = 0;  // the pickle's length: legacy files hold several in a row

  const Node& at(Ref ref) const { return nodes[static_cast<std::size_t>(ref)]; }
  /// The value under a text key of a dictionary, or -1.
  Ref find(Ref dict, std::string_view key) const;
};

/// Runs one pickle from the front of `bytes` up to its STOP.
/// Errors: an opcode outside the subset or a global outside the list (both named), truncation, a stack underflow, more
/// than 4 million values. `file` is for messages.
Document parse(std::span<const std::uint8_t> bytes, const std::string& file);

}  // namespace graft::pickle
