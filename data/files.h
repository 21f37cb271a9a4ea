// Files as the project writes and reads them: whole, or not at all. Also SHA-256, which names the source of weights and
// the contents of images. CSV is in csv.h.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct evp_md_ctx_st;

namespace graft {

/// The whole file. Errors: missing, a folder, unreadable.
std::vector<std::uint8_t> read_file(const std::filesystem::path& path);
std::string read_text(const std::filesystem::path& path);

/// Writes to a temporary name in the same folder, syncs and renames: readers see the old contents or the new, never
/// half. Missing parent folders are created. Errors: folder read-only, disk full; the temporary file is removed.
void write_atomically(const std::filesystem::path& path, std::span<const std::uint8_t> contents);
void write_atomically(const std::filesystem::path& path, std::string_view contents);
/// The same of contents that lie in several places.
void write_atomically(const std::filesystem::path& path, std::span<const std::span<const std::uint8_t>> parts);

/// Errors: a file of this name cannot be written, as far as that can be seen without doing so.
void check_writable(const std::filesystem::path& path);

/// Gives a file that is whole and synced another name in its folder, for good. Errors: it is not there, permissions.
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);

/// A name beside `path` for writers that produce the file themselves (HDF5). The destructor removes the temporary file
/// unless `commit` (sync, rename) came first.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& temporary() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  bool is_committed_ = false;
};

/// SHA-256 (FIPS 180-4), incremental; OpenSSL's, which uses the CPU's instructions for it.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::uint8_t> bytes);
  std::array<std::uint8_t, 32> finish();  // may be called once

 private:
  std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

/// 64 lower-case hexadecimal digits.
std::string sha256_hex(std::span<const std::uint8_t> bytes);
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace graft
