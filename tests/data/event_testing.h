// TensorBoard's event files read back: every record's checksums, then its events.
#pragma once

#include <gtest/gtest.h>

#include "data/event_file.h"
#include "data/files.h"
#include "tests/data/protobuf_testing.h"

namespace graft::testing_events {

/// The contents of the records; every length and checksum is the one that event_record would give them.
inline std::vector<std::string> records(const std::filesystem::path& path) {
  const std::string bytes = read_text(path);
  std::vector<std::string> all;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto length = testing_protobuf::raw<std::uint64_t>(std::string_view(bytes).substr(at, 8));
    const std::string contents = bytes.substr(at + 12, length);
    EXPECT_EQ(bytes.substr(at, 16 + length), event_record(contents)) << path << " at " << at;
    all.push_back(contents);
    at += 16 + length;
  }
  return all;
}

struct ReadValue {
  std::string tag, file_version;
  std::int64_t step = 0;
  bool is_start = false;  // readers forget values of this step and later ones
  double scalar = 0;
  std::string histogram, image;  // messages
};

inline ReadValue value_of(const std::string& event) {
  using namespace testing_protobuf;
  ReadValue value;
  for (const Field& f : fields(event)) {
    if (f.number == 2) value.step = std::int64_t(f.value);
    if (f.number == 3) value.file_version = f.bytes;
    if (f.number == 7) value.is_start = every(f.bytes, 1).at(0).value == 1;
    if (f.number != 5) continue;
    const std::string summary = text(f.bytes, 1);
    value.tag = text(summary, 1);
    if (const auto scalar = every(summary, 2); !scalar.empty()) value.scalar = raw<float>(scalar[0].bytes);
    value.histogram = text(summary, 5);
    value.image = text(summary, 4);
  }
  return value;
}

/// What TensorBoard shows of a folder: all files in the order of their names, restarts obeyed.
inline std::vector<ReadValue> shown(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename().string().find("tfevents") != std::string::npos) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<ReadValue> all;
  for (const auto& file : files)
    for (const std::string& record : records(file)) {
      const ReadValue value = value_of(record);
      if (value.is_start) std::erase_if(all, [&](const ReadValue& v) { return v.step >= value.step; });
      if (!value.tag.empty()) all.push_back(value);
    }
  return all;
}

}  // namespace graft::testing_events
