#include "strategies/batches/upload_ring.h"

#include <utility>

namespace graft {
namespace {

/// Images differ in size: a little more than was asked for, so that buffers do not grow with every batch.
std::int64_t with_reserve(std::int64_t bytes, std::int64_t before) { return before == 0 ? bytes : bytes + bytes / 4; }

}  // namespace

UploadRing::Slot& UploadRing::next(const Room& room) {
  turn_ = (turn_ + 1) % slots_.size();
  Slot& slot = slots_[turn_];
  make_room(slot, room);
  return slot;
}

void UploadRing::make_room(Slot& slot, const Room& room) {
  const bool has_host = slot.host_bytes >= room.host_bytes, has_staged = slot.staged_bytes >= room.staged_bytes;
  if (has_host && has_staged) return;
  const NamedRange range(device_, "images");  // what the memory is for
  if (!has_host) {
    const std::int64_t bytes = with_reserve(room.host_bytes, slot.host_bytes);
    slot.upload = nullptr;
    slot.upload = device_.make_upload(bytes);
    slot.host_bytes = bytes;
  }
  if (has_staged) return;
  const std::int64_t bytes = with_reserve(room.staged_bytes, slot.staged_bytes);
  if (slot.staged) device_.release(std::exchange(slot.staged, nullptr));
  slot.staged_bytes = 0;
  slot.staged = static_cast<std::byte*>(device_.allocate(bytes));
  slot.staged_bytes = bytes;
  slot.upload->follow_calls();  // the memory may have been another's
}

void UploadRing::clear() {
  for (Slot& slot : slots_) {
    slot.upload = nullptr;  // waits until nothing is sent any more
    if (slot.staged) device_.release(slot.staged);
    slot = {};
  }
}

}  // namespace graft
