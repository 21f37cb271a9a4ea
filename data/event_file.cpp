#include "data/event_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "data/protobuf.h"
#include "kernels/core.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

std::span<const std::uint8_t> raw_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) bytes += char(std::uint8_t(value >> (8 * i)));
  return bytes;
}

/// Checksums of data that holds checksums are weak, so stored ones are turned and shifted.
std::uint32_t masked(std::uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8U; }

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

/// An event of this moment, as a record.
template <class Fill>
std::string event(std::int64_t step, const Fill& fill) {
  ProtobufMessage m;
  m.real(1, now());
  if (step != 0) m.integer(2, step);
  fill(m);
  std::string contents;
  for (const auto part : m.parts()) contents.append(reinterpret_cast<const char*>(part.data()), part.size());
  return event_record(contents);
}

/// An event with one value; `fill` adds it to Summary.Value.
template <class Fill>
std::string summary(std::string_view tag, std::int64_t step, const Fill& fill) {
  return event(step, [&](ProtobufMessage& m) {
    ProtobufMessage value, summary;
    value.text(1, tag);
    fill(value);
    summary.message(1, std::move(value));
    m.message(5, std::move(summary));
  });
}

/// Number of the folder's last event file, 0 without one. Readers take the files in the order of their names.
std::int64_t last_number(const fs::path& folder) {
  std::int64_t last = 0;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(EventFile::kPrefix)) continue;
    last = std::max<std::int64_t>(last, std::strtoll(name.c_str() + EventFile::kPrefix.size(), nullptr, 10));
  }
  return last;
}

}  // namespace

std::uint32_t crc32c(std::span<const std::uint8_t> bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0x82f63b78U : 0U);
    }
    return t;
  }();
  std::uint32_t crc = ~0U;
  for (std::uint8_t byte : bytes) crc = crc >> 8 ^ table[(crc ^ byte) & 0xff];
  return ~crc;
}

std::string event_record(std::string_view contents) {
  const std::string length = little_endian(std::uint64_t(contents.size()));
  return length + little_endian(masked(crc32c(raw_bytes(length)))) + std::string(contents) +
         little_endian(masked(crc32c(raw_bytes(contents))));
}

EventFile::EventFile(const fs::path& folder, std::int64_t first_step) {
  const std::int64_t before = last_number(folder);
  path_ = folder / fmt::format("{}{:06}.graft", kPrefix, before + 1);
  out_.open(path_, std::ios::binary | std::ios::trunc);
  out_ << event(0, [](ProtobufMessage& m) { m.text(3, "brain.Event:2"); });
  if (before > 0) {
    constexpr int kSessionLog = 7, kStatus = 1, kStart = 1;
    out_ << event(first_step, [&](ProtobufMessage& m) {
      ProtobufMessage log;
      log.integer(kStatus, kStart);
      m.message(kSessionLog, std::move(log));
    });
  }
  flush();
}

void EventFile::scalar(std::string_view tag, std::int64_t step, double value) {
  out_ << summary(tag, step, [&](ProtobufMessage& v) { v.real(2, float(value)); });
}

void EventFile::histogram(std::string_view tag, std::int64_t step, std::span<const float> all) {
  std::vector<float> values;
  std::ranges::copy_if(all, std::back_inserter(values), [](float v) { return std::isfinite(v); });
  if (values.empty()) return;
  constexpr int kBins = 64;
  const auto [low, high] = std::ranges::minmax(values);
  const double width = high > low ? (double(high) - low) / kBins : 1;
  std::vector<double> limits, counts(kBins, 0.0);
  for (int i = 1; i <= kBins; ++i) limits.push_back(i < kBins ? low + i * width : std::max<double>(high, low + width));
  double sum = 0, squares = 0;
  for (float v : values) {
    sum += v, squares += double(v) * v;
    ++counts[std::size_t(std::clamp(int((double(v) - low) / width), 0, kBins - 1))];
  }
  out_ << summary(tag, step, [&](ProtobufMessage& v) {
    ProtobufMessage histogram;
    histogram.real(1, double(low));
    histogram.real(2, double(high));
    histogram.real(3, double(values.size()));
    histogram.real(4, sum);
    histogram.real(5, squares);
    histogram.packed(6, limits);
    histogram.packed(7, counts);
    v.message(5, std::move(histogram));
  });
}

void EventFile::image(std::string_view tag, std::int64_t step, const Image& image) {
  constexpr int kRgb = 3;
  out_ << summary(tag, step, [&](ProtobufMessage& v) {
    ProtobufMessage picture;
    picture.integer(1, image.height);
    picture.integer(2, image.width);
    picture.integer(3, kRgb);
    picture.bytes(4, encode_png(image));
    v.message(4, std::move(picture));
  });
}

void EventFile::flush() {
  out_.flush();
  if (!out_) throw Error("cannot write " + path_.string() + "; is the disk full, or the folder read-only?");
}

}  // namespace graft
