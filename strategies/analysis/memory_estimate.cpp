#include "strategies/analysis/memory_estimate.h"

#include <algorithm>
#include <cmath>

#include "kernels/out_of_memory.h"
#include "strategies/stages.h"
#include "strategies/training/fit.h"

namespace graft {
namespace {

class BlankImages final : public ImageSource {
 public:
  explicit BlankImages(std::int64_t side) : side_(side) {}
  Image load(std::int64_t, ImageInfo*) const override { return Image::blank(side_, side_); }

 private:
  std::int64_t side_;
};

class Silence final : public ProgressSink {
 public:
  void note(std::string_view) override {}
};

Dataset blank_images(const ModelInfo& info, std::int64_t count) {
  std::vector<std::string> classes;
  for (std::int64_t c = 0; c < info.num_classes; ++c) classes.push_back(std::to_string(c));
  std::vector<Sample> samples(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) samples[std::size_t(i)].label = std::int32_t(i % info.num_classes);
  return {std::move(classes), std::move(samples), std::make_shared<BlankImages>(info.resize)};
}

/// The settings of a run that keeps no files and whose every batch is full.
TrainSettings without_files(const MemoryQuestion& question) {
  TrainSettings s = question.settings;
  s.batch = question.images > 0 ? std::min(s.batch, question.images) : s.batch;
  s.feature_cache_dir.clear();
  s.class_weights = "none";
  s.max_steps = -1;
  s.image_cache_mb = s.device_image_cache_mb = 0;
  s.graph = "off";  // a dry device captures nothing, and a captured step needs what an eager one does
  return s;
}

/// Files hold weights in another order, so that reading one, or writing its moments, makes a copy of it.
void copy_largest_weight(const ParameterSet& parameters) {
  const auto size = [](const Parameter& p) { return p.shape.size(); };
  (void)std::ranges::max_element(parameters.parameters(), {}, size)->value.to_host_floats();
}

void evaluate_one_batch(Network& network, BatchSource& images) {
  Context& context = network.context();
  const NoGrad no_grad(context);
  const EvaluationMode evaluation(context);
  images.start(0);
  DeviceBatch batch;
  if (!images.next(batch)) return;
  (void)network.run_parts(batch.x, batch.part, network.parts()).to_host();
}

/// Of images that stay on the device because the settings say so.
std::int64_t resident_bytes(const MemoryQuestion& question) {
  const TrainSettings& s = question.settings;
  const std::int64_t most = std::max<std::int64_t>(0, s.device_image_cache_mb) << 20;
  if (question.images == 0 || augmentation_of(s).has_random_crop()) return most;  // they may be of any size
  const std::int64_t side = question.info.input_size;
  return std::min(most, (question.images + question.validation_images) * side * side * 3);
}

/// Memory for images, that nobody fills.
class ResidentBlock {
 public:
  ResidentBlock(Backend& device, std::int64_t bytes) : device_(device) {
    const NamedRange range(device, "images");
    if (bytes > 0) block_ = device.allocate(bytes);
  }
  ResidentBlock(const ResidentBlock&) = delete;
  ResidentBlock& operator=(const ResidentBlock&) = delete;
  ~ResidentBlock() {
    if (block_) device_.release(block_);
  }

 private:
  Backend& device_;
  void* block_ = nullptr;
};

StageMemory run_stage(const MemoryQuestion& question, std::int64_t first_epoch) {
  const TrainSettings settings = without_files(question);
  auto device =
      std::make_unique<DryBackend>(question.device,
                                   BackendOptions{.threads = int(settings.threads),
                                                  .allows_winograd = settings.winograd,
                                                  .precision = question.precision,
                                                  .plans = {.norm_fusion = parse_own_kernels(settings.fused_norms)}},
                                   question.limit_bytes);
  DryBackend& dry = *device;
  Context context(std::move(device));
  const std::unique_ptr<Network> network = make_network(context, question.info);
  if (settings.dropout >= 0) network->set_dropout(settings.dropout);
  const ResidentBlock resident(dry, resident_bytes(question));
  const Dataset dataset = blank_images(question.info, settings.batch * settings.accumulate);
  SplitBatches batches({*network, dataset, settings, transform_of(question.info), {}});
  const RunDirectory nowhere{{}};
  Silence silence;
  const auto starting_network = [&] { return make_network(context, question.info); };
  Fit fit({*network, dataset, settings, batches, nowhere, nullptr, starting_network}, silence);
  constexpr int kUpdates = 2;
  int updates = 0;
  fit.sweep({.epoch = first_epoch,
             .steps = kUpdates,
             .lr = [](std::int64_t) { return 1e-3; },
             .take_loss = [&](std::int64_t, double loss) { return updates += std::isfinite(loss), true; }});
  if (updates < kUpdates) throw Error("memory estimate: " + settings.strategy + " cannot be run without numbers");
  copy_largest_weight(network->parameters());
  evaluate_one_batch(*network, batches.training());
  return {.batch = settings.batch, .peak = dry.peak(), .reserved_bytes = dry.most_reserved(), .step = dry.step_plan()};
}

std::vector<Stage> stages_of(const MemoryQuestion& question) {
  Context context(std::make_unique<DryBackend>(Device{DeviceKind::reference}, BackendOptions{}));
  return stages_of(question.settings, *make_network(context, question.info));
}

bool fits(const MemoryQuestion& question) {
  try {
    estimate_memory(question);
    return true;
  } catch (const OutOfMemory&) {
    return false;
  }
}

}  // namespace

std::vector<StageMemory> estimate_memory(const MemoryQuestion& question) {
  std::vector<StageMemory> stages;
  for (const Stage& stage : stages_of(question)) {
    StageMemory memory = run_stage(question, stage.first_epoch);
    memory.first_epoch = stage.first_epoch + 1;
    memory.last_epoch = stage.last_epoch + 1;
    stages.push_back(std::move(memory));
  }
  return stages;
}

std::int64_t memory_for_images(const Network& network, const TrainSettings& settings, std::int64_t images) {
  const std::int64_t set = settings.device_image_cache_mb;
  return set >= 0 ? set << 20 : memory_left(network, settings, images);
}

std::int64_t memory_left(const Network& network, const TrainSettings& settings, std::int64_t images) {
  Backend& device = network.context().backend();
  const std::int64_t free = device.prepares_images() ? device.free_bytes() : 0;
  if (free == 0) return 0;
  const std::int64_t reserved = device.memory().reserved_bytes;
  constexpr std::int64_t kSpare = std::int64_t{512} << 20;
  try {
    const MemoryQuestion question{.settings = settings,
                                  .info = network.info(),
                                  .device = device.device(),
                                  .precision = precision_on(settings, device.device()),
                                  .images = images};
    const std::int64_t need = largest(estimate_memory(question)).reserved_bytes;
    return std::max<std::int64_t>(0, free + reserved - need - need / 10 - (settings.cudnn_workspace_mb << 20) - kSpare);
  } catch (const Error&) {  // a run that cannot be rehearsed
    return free / 2;
  }
}

const StageMemory& largest(const std::vector<StageMemory>& stages) {
  return *std::ranges::max_element(stages, {}, &StageMemory::reserved_bytes);
}

std::int64_t largest_batch(MemoryQuestion question) {
  const std::int64_t most = question.images > 0 ? question.images : std::int64_t{1} << 16;
  const auto fits_batch = [&](std::int64_t batch) {
    question.settings.batch = batch;
    return fits(question);
  };
  // Batch statistics of one value per channel have no variance, so the smallest batch that is tried is 2.
  if (!fits_batch(2)) return most >= 1 && fits_batch(1) ? 1 : 0;
  std::int64_t good = 2, bad = 4;
  while (bad <= most && fits_batch(bad)) good = bad, bad *= 2;
  bad = std::min(bad, most + 1);
  while (bad - good > std::max<std::int64_t>(1, good / 64)) {  // to within 2 %
    const std::int64_t middle = good + (bad - good) / 2;
    (fits_batch(middle) ? good : bad) = middle;
  }
  return good;
}

}  // namespace graft
