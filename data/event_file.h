// TensorBoard's event files: curves, histograms and images by tag and step, which `tensorboard --logdir` shows. What a
// training run puts there is strategies/training/tensorboard.h. Sources: tensorflow/core/util/event.proto,
// summary.proto, lib/io/record_writer.cc; for restarts tensorboard/backend/event_processing/event_accumulator.py.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

#include "data/image.h"

namespace graft {

/// CRC-32C (Castagnoli), of "123456789" 0xe3069283.
std::uint32_t crc32c(std::span<const std::uint8_t> bytes);

/// A record: length, checksum of it, contents, checksum of them.
std::string event_record(std::string_view contents);

class EventFile {
 public:
  /// Begins the folder's next file, events.out.tfevents.NNNNNN.graft. Where the folder has some already it tells
  /// readers to forget what those hold of steps from `first_step` on, so a run that was killed and continues from a
  /// checkpoint has every step once. Errors: the folder cannot be written.
  EventFile(const std::filesystem::path& folder, std::int64_t first_step);

  void scalar(std::string_view tag, std::int64_t step, double value);
  /// Of the finite values in 64 equal parts between the smallest and the largest. Nothing for none.
  void histogram(std::string_view tag, std::int64_t step, std::span<const float> values);
  void image(std::string_view tag, std::int64_t step, const Image& image);

  /// Hands what was written to the system. Errors: disk full.
  void flush();

  const std::filesystem::path& path() const { return path_; }
  static constexpr std::string_view kPrefix = "events.out.tfevents.";

 private:
  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace graft
