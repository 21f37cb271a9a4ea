// Training without data, for measurements: an image set of a given length that no file holds, and batches of noise for
// it that are in memory from the start: the host's, or that of a device that prepares images. A step on them is a whole
// step, but for reading and decoding images, and sending them to a device where they could stay.
#pragma once

#include "strategies/batches/batch_source.h"

namespace graft {

class NoiseBatches : public BatchSource {
 public:
  struct Spec {
    std::int64_t count = 32, batch = 32;  // images per epoch and per batch
    std::int64_t size = 224;              // pixels, side
    std::int64_t classes = 2;             // labels are 0, 1, … in turn
  };
  NoiseBatches(Context& context, const Spec& spec);

  /// Errors: a share of the batches; noise is for one process.
  void start(std::int64_t epoch, std::int64_t first_batch = 0, const BatchShare& share = {}) override;
  bool next(DeviceBatch& batch) override;
  std::vector<std::int64_t> order(std::int64_t epoch) const override;

 private:
  Context& context_;
  Spec spec_;
  Tensor input(std::int64_t n, const Tensor& place);

  std::vector<float> pixels_;  // of one batch
  Tensor bytes_;               // instead, where the device prepares images
  std::int64_t next_ = 0;      // image
};

}  // namespace graft
