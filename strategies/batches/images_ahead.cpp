#include "strategies/batches/images_ahead.h"

#include "kernels/dry_backend.h"
#include "strategies/batches/split_batches.h"
#include "strategies/strategy.h"
#include "strategies/training/run_directory.h"
#include "strategies/training/starting_model.h"

namespace graft {

void check_without_images(const TrainSettings& settings) {
  RunDirectory(settings.output).check(existing_of(settings));
  if (has_checkpoint_to_resume(settings)) return;
  Context context(std::make_unique<DryBackend>(Device{DeviceKind::reference}, BackendOptions{}));
  const std::unique_ptr<Network> network = make_network(context, starting_info(settings));
  TrainSettings unfrozen = settings;
  unfrozen.freeze_channels.clear();  // the head's depend on the number of classes
  plan_epoch(*make_strategy(unfrozen), unfrozen, {0, settings.epochs, network->parameters(), network->blocks()});
}

ImagesAhead::ImagesAhead(const TrainSettings& settings) {
  check_without_images(settings);
  images_ =
      std::async(std::launch::async, [this, settings] { return open_dataset(settings, settings.leak_check, &stop_); });
}

}  // namespace graft
