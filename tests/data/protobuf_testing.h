// Protocol buffers read back field by field, by the tests of what graft writes in them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core.h"

namespace graft::testing_protobuf {

/// The fields of a message: numbers, and texts or messages as bytes. Wire types 0, 2 and 5 are all that ONNX needs
/// here.
struct Field {
  int number = 0;
  std::uint64_t value = 0;
  std::string_view bytes = {};
};

inline std::uint64_t varint(std::string_view& in) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    if (in.empty() || shift > 63) throw Error("a number runs past its message");
    const auto byte = static_cast<unsigned char>(in.front());
    in.remove_prefix(1);
    value |= std::uint64_t(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

inline std::vector<Field> fields(std::string_view in) {
  std::vector<Field> all;
  while (!in.empty()) {
    const std::uint64_t key = varint(in);
    Field field{.number = int(key >> 3)};
    if ((key & 7) == 0) {
      field.value = varint(in);
    } else {
      const std::uint64_t size = (key & 7) == 2 ? varint(in) : (key & 7) == 1 ? 8 : 4;
      if ((key & 7) != 2 && (key & 7) != 1 && (key & 7) != 5) throw Error("wire type " + std::to_string(key & 7));
      if (size > in.size()) throw Error("a field runs past its message");
      field.bytes = in.substr(0, size);
      in.remove_prefix(size);
    }
    all.push_back(field);
  }
  return all;
}

inline std::string text(std::string_view message, int number) {
  for (const Field& f : fields(message))
    if (f.number == number) return std::string(f.bytes);
  return {};
}

inline std::vector<Field> every(std::string_view message, int number) {
  std::vector<Field> found;
  for (const Field& f : fields(message))
    if (f.number == number) found.push_back(f);
  return found;
}

/// The number in 4 or 8 raw bytes.
template <class T>
T raw(std::string_view bytes) {
  if (bytes.size() != sizeof(T)) throw Error("a number of " + std::to_string(bytes.size()) + " bytes");
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace graft::testing_protobuf
