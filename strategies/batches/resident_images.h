// Decoded images that stay in a device's memory between epochs, as many as a budget allows: the first that come. Memory
// is taken in blocks as they come, so that their sizes need not be known beforehand.
#pragma once

#include <mutex>
#include <optional>
#include <vector>

#include "data/resize.h"
#include "tensor/context.h"

namespace graft {

class ResidentImages {
 public:
  struct Spec {
    std::int64_t samples = 0;         // of the dataset: numbers are below
    std::int64_t budget_bytes = 0;    // at most
    std::int64_t expected_bytes = 0;  // of all images that will be added, if that is known
  };
  /// The device must outlive the object.
  ResidentImages(Backend& device, const Spec& spec);
  ResidentImages(const ResidentImages&) = delete;
  ResidentImages& operator=(const ResidentImages&) = delete;
  ~ResidentImages();

  struct Place {
    Size size;
    std::int32_t block = 0;
    std::int64_t first_byte = 0;
  };
  /// Where a sample's image lies. May be called by other threads.
  std::optional<Place> find(std::int64_t sample) const;
  /// A place for an image that is not there yet, for the caller to fill: `find` knows it from now on. None when the
  /// budget or the device's memory is used up.
  std::optional<Place> add(std::int64_t sample, const Size& size);

  /// Takes so much from the budget, as far as it is not used yet.
  void leave(std::int64_t bytes);

  std::int64_t count() const { return count_; }
  /// As images_to_input takes them.
  const std::vector<ConstView>& blocks() const { return blocks_; }
  std::byte* address(const Place& place) const;

 private:
  bool take_block(std::int64_t at_least);

  Backend& device_;
  Spec spec_;
  std::int64_t taken_ = 0;  // bytes of all blocks
  std::int64_t used_ = 0;   // of the last one
  std::int64_t count_ = 0;
  std::vector<ConstView> blocks_;
  mutable std::mutex mutex_;                  // of what follows
  std::vector<std::optional<Place>> places_;  // by sample
};

}  // namespace graft
