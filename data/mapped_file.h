// A whole file as read-only memory. It neither writes nor watches the file: what is mapped is the file as it was when
// opened. The readers of weight files (safetensors.h, pth.h, model_file.h) check every offset against bytes().
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace graft {

/// Read-only memory map of a regular file, move-only.
class MappedFile {
 public:
  /// Errors: the file is missing, unreadable, a folder.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::uint8_t> bytes() const { return {data_, size_}; }

 private:
  const std::uint8_t* data_ = nullptr;  // null exactly when size_ == 0
  std::size_t size_ = 0;
};

}  // namespace graft
