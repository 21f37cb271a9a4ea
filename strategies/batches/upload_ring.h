// Bytes of the host on their way to a device that computes meanwhile: two buffers by turns, so that one is filled and
// sent while the device still reads the other. Used by the sources of batches whose device works by itself.
#pragma once

#include <array>
#include <memory>

#include "tensor/context.h"

namespace graft {

class UploadRing {
 public:
  /// A turn's buffer, and memory of the device to send to. Afterwards, when the calls that read that memory have been
  /// made: upload->follow_calls().
  struct Slot {
    std::unique_ptr<Upload> upload;
    std::byte* staged = nullptr;
    std::int64_t host_bytes = 0, staged_bytes = 0;
  };

  /// The device must outlive the object.
  explicit UploadRing(Backend& device) : device_(device) {}
  UploadRing(const UploadRing&) = delete;
  UploadRing& operator=(const UploadRing&) = delete;
  ~UploadRing() { clear(); }

  struct Room {
    std::int64_t host_bytes = 0, staged_bytes = 0;
  };
  /// The next turn, with room for so much. Buffers grow as they must. Errors (OutOfMemory): the device has no more.
  Slot& next(const Room& room);
  void clear();

 private:
  void make_room(Slot& slot, const Room& room);

  Backend& device_;
  std::array<Slot, 2> slots_;
  std::size_t turn_ = 0;
};

}  // namespace graft
