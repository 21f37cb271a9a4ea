// A file for what does not fit into memory while a program runs: of fixed size, written once, read as memory. It has no
// name as soon as it is open, so nothing is left of it however the program ends. Files that stay are files.h's
// business.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "kernels/core.h"

namespace graft {

/// The disk cannot hold what was asked for. Callers that can do without say so and go on.
class NoSpace : public Error {
 public:
  using Error::Error;
};

class ScratchFile {
 public:
  /// Reserves `bytes` in `folder`, so that writing cannot fail later for want of space, and leaves at least
  /// `spare_bytes` free to others. Errors (NoSpace): too little is free, a limit on file sizes, a folder that cannot be
  /// written.
  ScratchFile(const std::filesystem::path& folder, std::int64_t bytes, std::int64_t spare_bytes);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  /// Requires 0 <= offset and offset + bytes.size() <= size. Errors (NoSpace): the disk fails.
  void write(std::int64_t offset, std::span<const std::byte> bytes);
  std::span<const std::byte> bytes() const { return {data_, std::size_t(size_)}; }
  /// Tells the system that these bytes will be read soon; returns at once.
  void prefetch(std::int64_t offset, std::int64_t count) const;

 private:
  std::filesystem::path folder_;
  std::int64_t size_;
  int descriptor_ = -1;
  const std::byte* data_ = nullptr;
};

}  // namespace graft
