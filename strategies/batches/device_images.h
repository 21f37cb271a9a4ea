// Batches of images that the device makes itself (Backend::images_to_input): the loader decodes, draws what happens to
// each image and leaves the rest to one call. Images stay on the device while there is room; others are sent batch by
// batch while the device computes. The batches equal those of ImageBatches to the bit.
#pragma once

#include "strategies/batches/batch_source.h"
#include "strategies/batches/resident_images.h"
#include "strategies/batches/upload_ring.h"

namespace graft {

/// Memory of a device for images.
struct ImageRoom {
  std::int64_t resident_bytes = 0;  // for those that stay
  bool is_all = false;              // there is no more: what is sent batch by batch is to find its place in it as well
};

class DeviceImageBatches final : public BatchSource {
 public:
  /// Errors: as Loader.
  DeviceImageBatches(Context& context, const Dataset& dataset, const LoaderSpec& spec, const ImageRoom& room);

  void start(std::int64_t epoch, std::int64_t first_batch = 0, const BatchShare& share = {}) override;
  bool next(DeviceBatch& batch) override;
  std::vector<std::int64_t> order(std::int64_t epoch) const override { return loader_.order(epoch); }
  /// Images that are on the device to stay.
  std::int64_t resident() const { return resident_.count(); }

 private:
  /// An image that is not on the device yet.
  struct Transfer {
    std::size_t image = 0;                       // of the batch
    std::optional<ResidentImages::Place> place;  // to stay there; else it is staged
  };
  LoaderSpec with_sizes(LoaderSpec spec) const;
  void leave_room_to_send();
  void place_images();
  UploadRing::Slot* send_images();

  Context& context_;
  std::int64_t images_, batch_size_;
  bool leaves_room_;
  PixelScaling scaling_;
  ResidentImages resident_;
  Loader loader_;  // asks resident_
  UploadRing ring_;

  // Of the present batch.
  Batch host_;
  std::vector<ImageChange> changes_;
  std::vector<Transfer> transfers_;
  bool has_new_block_ = false;
};

/// Images of a dataset, made into batches where that is best: on the device if it prepares images or there is room for
/// them, else by the loader's threads.
std::unique_ptr<BatchSource> image_batches(Context& context, const Dataset& dataset, const LoaderSpec& spec,
                                           const ImageRoom& room = {});

}  // namespace graft
