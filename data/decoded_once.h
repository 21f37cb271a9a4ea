// Images that were decoded while a set was opened, for whoever loads them next: training need not decode them again.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "data/dataset.h"

namespace graft {

/// The images of another source. Until open_ends() it remembers those it loads, as many as fit in `budget_bytes`;
/// afterwards it gives each of them away once, and its memory with it.
class DecodedOnce final : public ImageSource {
 public:
  DecodedOnce(std::shared_ptr<const ImageSource> source, std::int64_t count, std::int64_t budget_bytes);

  Image load(std::int64_t i, ImageInfo* info) const override;
  /// To be called while nobody loads.
  void open_ends() { is_open_ = false; }
  void forget(std::int64_t i) { taken(i); }

 private:
  struct Decoded {
    Image image;
    ImageInfo info;
  };
  void remember(std::int64_t i, const Image& image, const ImageInfo& info) const;
  std::optional<Decoded> taken(std::int64_t i) const;

  std::shared_ptr<const ImageSource> source_;
  bool is_open_ = true;
  mutable std::mutex mutex_;  // of what follows
  mutable std::int64_t bytes_left_;
  mutable std::vector<std::optional<Decoded>> decoded_;
};

}  // namespace graft
