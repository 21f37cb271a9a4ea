#include "data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>
#include <utility>

#include "data/resize.h"
#include "kernels/core.h"
#include "kernels/philox.h"

namespace graft {
namespace {

/// Images kept in memory, one slot per sample; filled first come, never evicted, so reads need only an atomic flag.
class ImageCache {
 public:
  ImageCache(std::int64_t count, std::int64_t budget_bytes)
      : images_(static_cast<std::size_t>(count)), states_(static_cast<std::size_t>(count)), left_bytes_(budget_bytes) {}

  const Image* find(std::size_t i) const {
    return states_[i].load(std::memory_order_acquire) == kFilled ? &images_[i] : nullptr;
  }

  void keep(std::size_t i, Image image) {
    int expected = kEmpty;
    if (!states_[i].compare_exchange_strong(expected, kClaimed)) return;
    const std::int64_t bytes = image.bytes();
    if (left_bytes_.fetch_sub(bytes) < bytes) {
      left_bytes_.fetch_add(bytes);
      states_[i].store(kEmpty);
      return;
    }
    images_[i] = std::move(image);
    states_[i].store(kFilled, std::memory_order_release);
  }

 private:
  static constexpr int kEmpty = 0, kClaimed = 1, kFilled = 2;
  std::vector<Image> images_;
  std::vector<std::atomic<int>> states_;
  std::atomic<std::int64_t> left_bytes_;
};

/// A batch being prepared. `pending` counts images that are not yet written.
struct Slot {
  Batch batch;
  std::int64_t pending = 0;
  std::exception_ptr failure;
};

}  // namespace

Normalizer::Normalizer(const Transform& transform) : is_bgr_(transform.is_bgr) {
  for (std::size_t c = 0; c < 3; ++c) {
    const float deviation = transform.std[c];
    if (!(std::isfinite(transform.scale) && transform.scale != 0.0F && std::isfinite(deviation) && deviation != 0.0F &&
          std::isfinite(transform.mean[c]))) {
      throw Error(fmt::format("normalise: scale {}, mean {} and std {} must be finite, scale and std not zero",
                              transform.scale, transform.mean[c], deviation));
    }
    for (std::size_t v = 0; v < 256; ++v) {
      const float scaled = static_cast<float>(v) / transform.scale;
      const float centered = scaled - transform.mean[c];
      table_[c][v] = centered / deviation;
    }
  }
}

void Normalizer::operator()(float* out, const Image& image) const {
  const std::uint8_t* in = image.rgb.data();
  const std::int64_t pixels = image.height * image.width;
  const std::int64_t first = is_bgr_ ? 2 : 0;
  for (std::int64_t p = 0; p < pixels; ++p) {
    out[3 * p] = table_[0][in[3 * p + first]];
    out[3 * p + 1] = table_[1][in[3 * p + 1]];
    out[3 * p + 2] = table_[2][in[3 * p + 2 - first]];
  }
}

PixelScaling pixel_scaling(const Transform& transform) {
  PixelScaling scaling{.scale = transform.scale, .is_bgr = transform.is_bgr};
  for (std::size_t c = 0; c < 3; ++c) scaling.mean[c] = transform.mean[c], scaling.std[c] = transform.std[c];
  return scaling;
}

std::vector<float> prepare(const Image& image, const Transform& transform) {
  std::vector<float> pixels(static_cast<std::size_t>(transform.crop * transform.crop * 3));
  Normalizer{transform}(pixels.data(), resize_and_crop(image, transform.resize, transform.crop));
  return pixels;
}

/// Workers take images in the order in which they are needed. Image p of the epoch belongs to batch p / batch, whose
/// slot is batch % slots; a worker waits until that slot has been handed out.
struct Loader::State {
  State(const Dataset& source, LoaderSpec wanted)
      : dataset(source),
        spec(std::move(wanted)),
        normalize(spec.transform),
        cache(source.size(), spec.cache_bytes),
        slots(static_cast<std::size_t>(spec.batches_ahead + 1)) {}

  std::int64_t count() const { return static_cast<std::int64_t>(epoch_order.size()); }
  std::int64_t batches() const { return (count() + spec.batch - 1) / spec.batch; }
  std::int64_t batch_size(std::int64_t b) const { return std::min(spec.batch, count() - b * spec.batch); }
  Slot& slot(std::int64_t b) { return slots[static_cast<std::size_t>(b) % slots.size()]; }

  void prepare_slot(std::int64_t b);
  RandomPlace place(std::int64_t sample, std::uint32_t of_epoch) const;
  Image load(std::int64_t sample, std::uint32_t of_epoch);
  DecodedImage decode(std::int64_t sample, std::uint32_t of_epoch);
  void write_image(Batch& batch, std::int64_t place, std::int64_t sample, std::uint32_t of_epoch);
  void work(const std::stop_token& stop);

  const Dataset& dataset;
  const LoaderSpec spec;
  const Normalizer normalize;
  ImageCache cache;

  std::mutex mutex;
  std::condition_variable_any may_work;  // an image may be taken
  std::condition_variable is_quiet;      // a batch is complete, or no worker is busy
  std::vector<Slot> slots;
  std::vector<std::int64_t> epoch_order;  // from the first batch that is wanted on; nothing until start()
  std::int64_t epoch = 0;
  std::int64_t next_image = 0;        // to be taken
  std::int64_t ready_until = 0;       // batches below have their slot
  std::int64_t next_batch = 0;        // to be handed out
  std::int64_t busy = 0;              // workers inside an image
  std::vector<std::jthread> workers;  // last: joined before anything above goes
};

void Loader::State::prepare_slot(std::int64_t b) {
  Slot& target = slot(b);
  const std::int64_t n = batch_size(b), size = spec.transform.crop;
  target.batch.height = target.batch.width = size;
  if (spec.decodes_only)
    target.batch.decoded.resize(static_cast<std::size_t>(n));
  else
    target.batch.pixels.resize(static_cast<std::size_t>(n * size * size * 3));
  target.batch.labels.resize(static_cast<std::size_t>(n));
  target.batch.indices.resize(static_cast<std::size_t>(n));
  target.pending = n;
  target.failure = nullptr;
}

RandomPlace Loader::State::place(std::int64_t sample, std::uint32_t of_epoch) const {
  return augmentation_place(spec.seed, of_epoch, sample);
}

Image Loader::State::load(std::int64_t sample, std::uint32_t of_epoch) {
  const auto at = static_cast<std::size_t>(sample);
  const Image* kept = cache.find(at);
  if (spec.augmentation.is_none()) {
    if (kept != nullptr) return *kept;
    Image shown = resize_and_crop(dataset.load(sample), spec.transform.resize, spec.transform.crop);
    cache.keep(at, shown);
    return shown;
  }
  std::optional<Image> decoded;
  if (kept == nullptr) {
    decoded = dataset.load(sample);
    cache.keep(at, *decoded);
    kept = &*decoded;
  }
  return augment(*kept, spec.augmentation, {.resize = spec.transform.resize, .crop = spec.transform.crop},
                 place(sample, of_epoch));
}

DecodedImage Loader::State::decode(std::int64_t sample, std::uint32_t of_epoch) {
  const std::int64_t crop = spec.transform.crop;
  const bool is_cropped = !spec.augmentation.has_random_crop();  // else the crop comes first
  DecodedImage result;
  std::optional<Size> size = spec.size_on_device ? spec.size_on_device(sample) : std::nullopt;
  if (!size) {
    const Image* kept = cache.find(static_cast<std::size_t>(sample));
    if (kept != nullptr)
      result.image = *kept;
    else if (is_cropped)
      result.image = resize_and_crop(dataset.load(sample), spec.transform.resize, crop);
    else
      result.image = dataset.load(sample);
    size = Size{result.image.height, result.image.width};
  }
  if (is_cropped) {
    result.change = draw_change(*size, spec.augmentation, {.resize = crop, .crop = crop}, place(sample, of_epoch));
  } else if (std::max(taps_needed(size->height, crop), taps_needed(size->width, crop)) <= kMostTaps) {
    result.change =
        draw_change(*size, spec.augmentation, {.resize = spec.transform.resize, .crop = crop}, place(sample, of_epoch));
  } else {
    Image whole = std::move(result.image);
    result.image =
        augment(whole, spec.augmentation, {.resize = spec.transform.resize, .crop = crop}, place(sample, of_epoch));
    cache.keep(static_cast<std::size_t>(sample), std::move(whole));
    result.change = draw_change({crop, crop}, {}, {.resize = crop, .crop = crop}, {});
    result.may_stay = false;
  }
  return result;
}

void Loader::State::write_image(Batch& batch, std::int64_t place, std::int64_t sample, std::uint32_t of_epoch) {
  const auto at = static_cast<std::size_t>(place);
  if (spec.decodes_only) {
    batch.decoded[at] = decode(sample, of_epoch);
  } else {
    const Image image = load(sample, of_epoch);
    normalize(batch.pixels.data() + place * image.bytes(), image);
  }
  batch.labels[at] = dataset.samples()[static_cast<std::size_t>(sample)].label;
  batch.indices[at] = sample;
}

void Loader::State::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex);
  while (may_work.wait(lock, stop, [&] { return next_image < std::min(ready_until * spec.batch, count()); })) {
    const std::int64_t position = next_image++;
    const std::int64_t sample = epoch_order[static_cast<std::size_t>(position)];
    const auto of_epoch = static_cast<std::uint32_t>(epoch);
    Slot& target = slot(position / spec.batch);
    ++busy;
    lock.unlock();
    std::exception_ptr failure;
    try {
      write_image(target.batch, position % spec.batch, sample, of_epoch);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    --busy;
    if (failure && !target.failure) target.failure = failure;
    if (--target.pending == 0 || busy == 0) is_quiet.notify_all();
  }
}

Loader::Loader(const Dataset& dataset, LoaderSpec spec) {
  if (spec.indices.empty()) throw Error("loader: no samples; the split is empty");
  if (spec.batch < 1 || spec.threads < 1 || spec.batches_ahead < 0 || spec.cache_bytes < 0) {
    throw UsageError(fmt::format("loader: batch {} and threads {} must be at least 1", spec.batch, spec.threads));
  }
  if (spec.transform.resize < 1 || spec.transform.crop < 1) {
    throw UsageError(fmt::format("loader: resize {} and crop {} must be at least 1 pixel", spec.transform.resize,
                                 spec.transform.crop));
  }
  for (const std::int64_t i : spec.indices) {
    if (i < 0 || i >= dataset.size()) throw Error(fmt::format("loader: no sample {} among {}", i, dataset.size()));
  }
  check(spec.augmentation);
  state_ = std::make_unique<State>(dataset, std::move(spec));
  for (int t = 0; t < state_->spec.threads; ++t) {
    state_->workers.emplace_back([state = state_.get()](const std::stop_token& stop) { state->work(stop); });
  }
}

Loader::~Loader() = default;

std::vector<std::int64_t> Loader::order(std::int64_t epoch) const {
  std::vector<std::int64_t> result = state_->spec.indices;
  if (!state_->spec.shuffles || epoch == kListingOrder) return result;
  // Fisher-Yates with a draw per place.
  Random random({.seed = state_->spec.seed, .stream = RandomStream::order, .epoch = static_cast<std::uint32_t>(epoch)});
  for (std::size_t last = result.size() - 1; last > 0; --last) {
    std::swap(result[last], result[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(last) + 1))]);
  }
  return result;
}

void Loader::keep(std::int64_t sample, DecodedImage image) {
  if (!image.may_stay) throw Error("loader: this image is another in the next epoch and cannot be kept");
  state_->cache.keep(static_cast<std::size_t>(sample), std::move(image.image));
}

std::vector<std::int64_t> BatchShare::samples(const std::vector<std::int64_t>& order, std::int64_t batch,
                                              std::int64_t first_batch) const {
  std::vector<std::int64_t> result;
  const auto count = static_cast<std::int64_t>(order.size());
  for (std::int64_t b = first_batch; b * batch < count; ++b) {
    if (has(b))
      result.insert(result.end(), order.begin() + b * batch, order.begin() + std::min(count, (b + 1) * batch));
  }
  return result;
}

void Loader::start(std::int64_t epoch, std::int64_t first_batch, const BatchShare& share) {
  State& s = *state_;
  const auto samples = static_cast<std::int64_t>(s.spec.indices.size());
  if (const std::int64_t batches = (samples + s.spec.batch - 1) / s.spec.batch;
      first_batch < 0 || first_batch > batches) {
    throw Error(fmt::format("loader: no batch {} in an epoch of {}", first_batch, batches));
  }
  std::unique_lock lock(s.mutex);
  s.next_image = s.count();  // nothing more of the old epoch
  s.is_quiet.wait(lock, [&] { return s.busy == 0; });
  s.epoch_order = share.samples(order(epoch), s.spec.batch, first_batch);
  s.epoch = epoch;
  s.next_batch = s.next_image = s.ready_until = 0;
  while (s.ready_until < std::min(s.batches(), s.spec.batches_ahead + 1)) s.prepare_slot(s.ready_until++);
  s.may_work.notify_all();
}

bool Loader::next(Batch& batch) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  if (s.next_batch == s.batches()) return false;
  Slot& ready = s.slot(s.next_batch);
  s.is_quiet.wait(lock, [&] { return ready.pending == 0; });
  if (ready.failure) std::rethrow_exception(ready.failure);
  std::swap(batch, ready.batch);
  ++s.next_batch;
  if (s.ready_until < s.batches()) {
    s.prepare_slot(s.ready_until++);
    s.may_work.notify_all();
  }
  return true;
}

}  // namespace graft
