#include "data/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
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
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw Error(fmt::format("cannot write {}: {}; check permissions", path_.string(), reason()));
  }
  is_committed_ = true;
  sync_folder_of(path_);
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

void Sha256::compress(const std::uint8_t* block) {
  static constexpr std::array<std::uint32_t, 64> kRound{
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
      0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
      0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
      0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
      0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
      0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
  std::array<std::uint32_t, 64> w{};
  for (std::size_t i = 0; i < 16; ++i) {
    w[i] = std::uint32_t{block[4 * i]} << 24 | std::uint32_t{block[4 * i + 1]} << 16 |
           std::uint32_t{block[4 * i + 2]} << 8 | std::uint32_t{block[4 * i + 3]};
  }
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
    const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    const std::uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
    const std::uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    const std::uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const std::array<std::uint32_t, 8> add{a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < 8; ++i) state_[i] += add[i];
}

void Sha256::update(std::span<const std::uint8_t> bytes) {
  total_bytes_ += bytes.size();
  if (pending_size_ > 0) {
    const std::size_t take = std::min(bytes.size(), pending_.size() - pending_size_);
    std::copy_n(bytes.begin(), take, pending_.begin() + static_cast<std::ptrdiff_t>(pending_size_));
    pending_size_ += take;
    bytes = bytes.subspan(take);
    if (pending_size_ < pending_.size()) return;
    compress(pending_.data());
    pending_size_ = 0;
  }
  while (bytes.size() >= 64) {
    compress(bytes.data());
    bytes = bytes.subspan(64);
  }
  std::copy(bytes.begin(), bytes.end(), pending_.begin());
  pending_size_ = bytes.size();
}

std::array<std::uint8_t, 32> Sha256::finish() {
  const std::uint64_t bits = total_bytes_ * 8;
  std::array<std::uint8_t, 72> padding{0x80};
  const std::size_t zeros = (pending_size_ < 56 ? 56 : 120) - pending_size_;
  for (std::size_t i = 0; i < 8; ++i) padding[zeros + i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
  update(std::span<const std::uint8_t>(padding.data(), zeros + 8));
  std::array<std::uint8_t, 32> digest{};
  for (std::size_t i = 0; i < 32; ++i) digest[i] = static_cast<std::uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
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
