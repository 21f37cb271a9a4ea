#include "strategies/batches/device_images.h"

#include <cstring>
#include <utility>

namespace graft {

DeviceImageBatches::DeviceImageBatches(Context& context, const Dataset& dataset, const LoaderSpec& spec,
                                       const ImageRoom& room)
    : context_(context),
      images_(std::ssize(spec.indices)),
      batch_size_(spec.batch),
      leaves_room_(room.is_all && spec.augmentation.has_random_crop()),
      scaling_(pixel_scaling(spec.transform)),
      resident_(context.backend(), {.samples = dataset.size(),
                                    .budget_bytes = room.resident_bytes,
                                    .expected_bytes = spec.augmentation.has_random_crop()
                                                          ? 0
                                                          : images_ * spec.transform.crop * spec.transform.crop * 3}),
      loader_(dataset, with_sizes(spec)),
      ring_(context.backend()) {}

LoaderSpec DeviceImageBatches::with_sizes(LoaderSpec spec) const {
  spec.decodes_only = true;
  spec.size_on_device = [this](std::int64_t sample) -> std::optional<Size> {
    const std::optional<ResidentImages::Place> place = resident_.find(sample);
    return place ? std::optional(place->size) : std::nullopt;
  };
  return spec;
}

void DeviceImageBatches::start(std::int64_t epoch, std::int64_t first_batch, const BatchShare& share) {
  if (resident_.count() == images_) ring_.clear();  // nothing is sent any more
  loader_.start(epoch, first_batch, share);
}

/// The ring's two buffers hold a batch each, and a quarter more. Of whole photographs, which a random crop is taken
/// from, that may be gigabytes.
void DeviceImageBatches::leave_room_to_send() {
  std::int64_t bytes = 0;
  for (const DecodedImage& decoded : host_.decoded) bytes += decoded.image.bytes();
  bytes = bytes / host_.n() * batch_size_;  // a run that goes on may begin with its last batch, which is smaller
  resident_.leave(2 * (bytes + bytes / 4));
  leaves_room_ = false;
}

/// Where each image of the batch lies, or will.
void DeviceImageBatches::place_images() {
  const std::size_t blocks_before = resident_.blocks().size();
  changes_.clear();
  transfers_.clear();
  for (std::size_t i = 0; i < host_.decoded.size(); ++i) {
    const DecodedImage& decoded = host_.decoded[i];
    changes_.push_back(decoded.change);
    std::optional<ResidentImages::Place> place = resident_.find(host_.indices[i]);
    if (!place) {
      if (decoded.may_stay) place = resident_.add(host_.indices[i], {decoded.image.height, decoded.image.width});
      transfers_.push_back({i, place});
    }
    if (place) changes_.back().block = place->block, changes_.back().first_byte = place->first_byte;
  }
  has_new_block_ = resident_.blocks().size() != blocks_before;
  // What is staged lies in the block behind those of what stays.
  std::int64_t staged = 0;
  for (const Transfer& t : transfers_) {
    if (t.place) continue;
    changes_[t.image].block = std::int32_t(resident_.blocks().size());
    changes_[t.image].first_byte = staged;
    staged += host_.decoded[t.image].image.bytes();
  }
}

/// Sends what is not on the device; what lies together on both sides goes in one piece. Null if nothing is missing.
UploadRing::Slot* DeviceImageBatches::send_images() {
  if (transfers_.empty()) return nullptr;
  UploadRing::Room room;
  for (const Transfer& t : transfers_) {
    const std::int64_t bytes = host_.decoded[t.image].image.bytes();
    room.host_bytes += bytes;
    if (!t.place) room.staged_bytes += bytes;
  }
  UploadRing::Slot& slot = ring_.next(room);
  if (has_new_block_) slot.upload->follow_calls();  // the memory may have been another's
  std::byte* const memory = slot.upload->memory();
  std::byte* target = nullptr;  // of the present piece, which is bytes `begin` to `end` of the buffer
  std::int64_t begin = 0, end = 0;
  const auto send_piece = [&] {
    if (end > begin) slot.upload->send(target, begin, end - begin);
    begin = end;
  };
  for (const Transfer& t : transfers_) {
    DecodedImage& decoded = host_.decoded[t.image];
    std::byte* const device = t.place ? resident_.address(*t.place) : slot.staged + changes_[t.image].first_byte;
    if (device != target + (end - begin)) send_piece(), target = device;
    std::memcpy(memory + end, decoded.image.rgb.data(), decoded.image.rgb.size());
    end += decoded.image.bytes();
    if (!t.place && decoded.may_stay) loader_.keep(host_.indices[t.image], std::move(decoded));
  }
  send_piece();
  slot.upload->arrive();
  return &slot;
}

bool DeviceImageBatches::next(DeviceBatch& batch) {
  if (!loader_.next(host_)) return false;
  if (leaves_room_) leave_room_to_send();
  place_images();
  UploadRing::Slot* const slot = send_images();
  std::vector<ConstView> blocks = resident_.blocks();
  if (slot && slot->staged)
    blocks.push_back({slot->staged, DType::u8, kNhwc, {1, slot->staged_bytes, 1, 1}, slot->staged_bytes});
  batch.x = place_for(context_, {host_.n(), 3, host_.height, host_.width}, batch.x);
  context_.backend().images_to_input(batch.x.view(), blocks, changes_, scaling_);
  if (slot) slot->upload->follow_calls();  // before it is this slot's turn again
  batch.part = 0;
  batch.labels = host_.labels;
  batch.samples = host_.indices;
  return true;
}

std::unique_ptr<BatchSource> image_batches(Context& context, const Dataset& dataset, const LoaderSpec& spec,
                                           const ImageRoom& room) {
  if (context.backend().prepares_images() || room.resident_bytes > 0)
    return std::make_unique<DeviceImageBatches>(context, dataset, spec, room);
  return std::make_unique<ImageBatches>(context, dataset, spec);
}

}  // namespace graft
