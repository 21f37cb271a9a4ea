#include "data/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "kernels/core.h"

namespace graft {
namespace fs = std::filesystem;
namespace {

std::string reason() { return std::strerror(errno); }

/// Owns a POSIX descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int close() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

/// Opens, and refuses what `read` would misread.
Descriptor open_to_read(const fs::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) throw Error(fmt::format("cannot open {}: {}; check the path", path.string(), reason()));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw Error(fmt::format("cannot read {}: {}", path.string(), reason()));
  if (S_ISDIR(status.st_mode))
    throw Error(fmt::format("cannot read {}: it is a folder, expected a file", path.string()));
  return file;
}

/// Calls `take` with each chunk of the file.
template <typename Take>
void read_chunks(const fs::path& path, Take take) {
  const Descriptor file = open_to_read(path);
  std::vector<std::uint8_t> chunk(1 << 20);
  while (true) {
    const ssize_t got = ::read(file.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(fmt::format("cannot read {}: {}", path.string(), reason()));
    if (got == 0) return;
    take(std::span<const std::uint8_t>(chunk.data(), static_cast<std::size_t>(got)));
  }
}

void sync_folder_of(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const Descriptor handle(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some network file systems refuse to sync folders; the rename is then as durable as they make it.
  if (handle.is_open()) ::fsync(handle.get());
}

}  // namespace

std::vector<std::uint8_t> read_file(const fs::path& path) {
  const Descriptor file = open_to_read(path);
  struct stat status {};
  ::fstat(file.get(), &status);
  std::vector<std::uint8_t> contents(static_cast<std::size_t>(status.st_size));
  std::size_t filled = 0;
  while (true) {
    // One byte more than is expected: a pipe, or a file that grows, reports no useful size.
    if (filled == contents.size()) contents.resize(filled + 1 + filled / 2);
    const ssize_t got = ::read(file.get(), contents.data() + filled, contents.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(fmt::format("cannot read {}: {}", path.string(), reason()));
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
    if (status.st_size > 0 && filled == static_cast<std::size_t>(status.st_size)) break;
  }
  contents.resize(filled);
  return contents;
}

std::string read_text(const fs::path& path) {
  const auto bytes = read_file(path);
  return std::string(bytes.begin(), bytes.end());
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  static std::atomic<unsigned> serial{0};
  if (path_.has_parent_path()) {
    std::error_code failure;
    fs::create_directories(path_.parent_path(), failure);
    if (failure) {
      throw Error(fmt::format("cannot create folder {}: {}; choose a writable place", path_.parent_path().string(),
                              failure.message()));
    }
  }
  temporary_ = path_;
  temporary_ += fmt::format(".tmp.{}.{}", ::getpid(), serial++);
}

AtomicFile::~AtomicFile() {
  if (!is_committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::commit() {
  {
    Descriptor file(::open(temporary_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.is_open() || ::fsync(file.get()) != 0) {
      throw Error(fmt::format("cannot write {}: {}; check free space and permissions", path_.string(), reason()));
    }
  }
  rename_file(temporary_, path_);
  is_committed_ = true;
}

void check_writable(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) throw Error(fmt::format("cannot write {}: it is a folder", path.string()));
  fs::path place = fs::absolute(path, error).lexically_normal().parent_path();
  while (!fs::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  if (!fs::is_directory(place, error) || access(place.c_str(), W_OK) != 0)
    throw Error(fmt::format("cannot write {}: {} is no folder that can be written to", path.string(), place.string()));
}

void rename_file(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw Error(fmt::format("cannot write {}: {}; check permissions", to.string(), reason()));
  sync_folder_of(to);
}

void write_atomically(const fs::path& path, std::span<const std::uint8_t> contents) {
  write_atomically(path, std::span(&contents, 1));
}

void write_atomically(const fs::path& path, std::span<const std::span<const std::uint8_t>> parts) {
  AtomicFile target(path);
  Descriptor file(::open(target.temporary().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  const auto fail = [&] {
    throw Error(fmt::format("cannot write {}: {}; check free space and permissions", path.string(), reason()));
  };
  if (!file.is_open()) fail();
  for (std::span<const std::uint8_t> rest : parts) {
    while (!rest.empty()) {
      const ssize_t put = ::write(file.get(), rest.data(), rest.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) fail();
      rest = rest.subspan(static_cast<std::size_t>(put));
    }
  }
  if (file.close() != 0) fail();
  target.commit();
}

void write_atomically(const fs::path& path, std::string_view contents) {
  write_atomically(path, std::span(reinterpret_cast<const std::uint8_t*>(contents.data()), contents.size()));
}

namespace {

void must_succeed(int openssl_result) {
  if (openssl_result != 1) throw Error("OpenSSL computes no SHA-256; check its configuration (OPENSSL_CONF)");
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  must_succeed(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

void Sha256::update(std::span<const std::uint8_t> bytes) {
  must_succeed(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()));
}

std::array<std::uint8_t, 32> Sha256::finish() {
  std::array<std::uint8_t, 32> digest{};
  must_succeed(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr));
  return digest;
}

namespace {

std::string hex(const std::array<std::uint8_t, 32>& digest) {
  std::string text;
  for (const std::uint8_t byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace

std::string sha256_hex(std::span<const std::uint8_t> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hex(hash.finish());
}

std::string sha256_of_file(const fs::path& path) {
  Sha256 hash;
  read_chunks(path, [&](std::span<const std::uint8_t> chunk) { hash.update(chunk); });
  return hex(hash.finish());
}

}  // namespace graft
