#include "data/scratch_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace graft {
namespace {

/// Opens a file that has no name any more. Errors (NoSpace): the folder cannot be written.
int open_nameless(const std::filesystem::path& folder) {
  std::string name = (folder / "scratch.XXXXXX").string();
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor < 0)
    throw NoSpace(
        fmt::format("cannot write to {}: {}; choose a writable place", folder.string(), std::strerror(errno)));
  ::unlink(name.c_str());
  return descriptor;
}

}  // namespace

ScratchFile::ScratchFile(const std::filesystem::path& folder, std::int64_t bytes, std::int64_t spare_bytes)
    : folder_(folder), size_(bytes) {
  constexpr double kMiB = 1 << 20;
  std::error_code unknown;
  const std::filesystem::space_info space = std::filesystem::space(folder, unknown);
  if (!unknown && space.available < std::uintmax_t(bytes + spare_bytes))
    throw NoSpace(fmt::format("{} has {:.0f} MiB free and needs {:.0f} MiB, with {:.0f} MiB to spare for other files",
                              folder.string(), double(space.available) / kMiB, double(bytes) / kMiB,
                              double(spare_bytes) / kMiB));
  descriptor_ = open_nameless(folder);
  const int failure = bytes > 0 ? ::posix_fallocate(descriptor_, 0, bytes) : 0;
  void* address =
      failure == 0 && bytes > 0 ? ::mmap(nullptr, std::size_t(bytes), PROT_READ, MAP_SHARED, descriptor_, 0) : nullptr;
  if (failure != 0 || address == MAP_FAILED) {
    const int reason = failure != 0 ? failure : errno;
    ::close(descriptor_);
    throw NoSpace(fmt::format("cannot reserve {:.0f} MiB in {}: {}", double(bytes) / kMiB, folder.string(),
                              std::strerror(reason)));
  }
  data_ = static_cast<const std::byte*>(address);
}

ScratchFile::~ScratchFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), std::size_t(size_));
  ::close(descriptor_);
}

void ScratchFile::write(std::int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw NoSpace(fmt::format("cannot write to {}: {}", folder_.string(), std::strerror(errno)));
    offset += put;
    bytes = bytes.subspan(std::size_t(put));
  }
}

void ScratchFile::prefetch(std::int64_t offset, std::int64_t count) const {
  ::posix_fadvise(descriptor_, offset, count, POSIX_FADV_WILLNEED);
}

}  // namespace graft
