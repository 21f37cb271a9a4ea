// A protocol buffers message while it is written: numbered fields, nested messages, and memory of others that is not
// copied. What ONNX files and TensorBoard's events are made of. Source: protobuf.dev, "Encoding".
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace graft {

class ProtobufMessage {
 public:
  void integer(int field, std::int64_t value);
  void real(int field, float value);
  void real(int field, double value);
  void bytes(int field, std::span<const std::uint8_t> value);
  void text(int field, std::string_view value);
  void packed(int field, std::span<const double> values);
  /// Raw little-endian values, which must outlive the message.
  void borrowed(int field, std::span<const float> values);
  void message(int field, ProtobufMessage inner);

  std::size_t size() const { return size_; }
  /// The message in order, in as many parts as it has owners; they live as long as it and what it borrows.
  std::vector<std::span<const std::uint8_t>> parts() const;

 private:
  struct Part {
    std::vector<std::uint8_t> own = {};
    std::span<const std::uint8_t> other = {};
  };
  void key(int field, int wire_type);
  void varint(std::uint64_t value);
  void append(std::span<const std::uint8_t> bytes);

  std::vector<Part> parts_;
  std::size_t size_ = 0;
};

}  // namespace graft
