#include "data/protobuf.h"

#include <bit>
#include <cstring>
#include <utility>

namespace graft {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie in memory");

using Bytes = std::span<const std::uint8_t>;
enum WireType { kVarint = 0, kEightBytes = 1, kLength = 2, kFourBytes = 5 };

template <class T>
Bytes bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes()};
}

}  // namespace

void ProtobufMessage::key(int field, int wire_type) { varint(std::uint64_t(field) << 3 | std::uint64_t(wire_type)); }

void ProtobufMessage::varint(std::uint64_t value) {
  std::uint8_t bytes[10];
  std::size_t n = 0;
  for (; value >= 0x80; value >>= 7) bytes[n++] = std::uint8_t(value | 0x80);
  bytes[n++] = std::uint8_t(value);
  append({bytes, n});
}

void ProtobufMessage::append(Bytes bytes) {
  if (parts_.empty() || !parts_.back().other.empty()) parts_.emplace_back();
  parts_.back().own.insert(parts_.back().own.end(), bytes.begin(), bytes.end());
  size_ += bytes.size();
}

void ProtobufMessage::integer(int field, std::int64_t value) {
  key(field, kVarint);
  varint(std::uint64_t(value));
}

void ProtobufMessage::real(int field, float value) {
  key(field, kFourBytes);
  append(bytes_of(std::span<const float>(&value, 1)));
}

void ProtobufMessage::real(int field, double value) {
  key(field, kEightBytes);
  append(bytes_of(std::span<const double>(&value, 1)));
}

void ProtobufMessage::bytes(int field, Bytes value) {
  key(field, kLength);
  varint(value.size());
  append(value);
}

void ProtobufMessage::text(int field, std::string_view value) { bytes(field, bytes_of(std::span<const char>(value))); }

void ProtobufMessage::packed(int field, std::span<const double> values) { bytes(field, bytes_of(values)); }

void ProtobufMessage::borrowed(int field, std::span<const float> values) {
  key(field, kLength);
  varint(values.size_bytes());
  if (values.empty()) return;
  size_ += values.size_bytes();
  parts_.push_back({.other = bytes_of(values)});
}

void ProtobufMessage::message(int field, ProtobufMessage inner) {
  key(field, kLength);
  varint(inner.size_);
  size_ += inner.size_;
  for (Part& part : inner.parts_) parts_.push_back(std::move(part));
}

std::vector<Bytes> ProtobufMessage::parts() const {
  std::vector<Bytes> all;
  for (const Part& part : parts_) all.push_back(part.other.empty() ? Bytes(part.own) : part.other);
  return all;
}

}  // namespace graft
