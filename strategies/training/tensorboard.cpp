#include "strategies/training/tensorboard.h"

#include <algorithm>
#include <cmath>

#include "strategies/monitor.h"

namespace graft {

TensorboardLog::TensorboardLog(const std::filesystem::path& folder, const Network& network, std::int64_t last_step)
    : network_(network), file_(folder, last_step == 0 ? 0 : last_step + 1) {
  if (last_step == 0) weights(0, true);
  file_.flush();
}

void TensorboardLog::update(const Update& u) {
  constexpr std::int64_t kPointsPerEpoch = 100;
  const std::int64_t every = std::max<std::int64_t>(1, (u.updates_in_epoch + kPointsPerEpoch - 1) / kPointsPerEpoch);
  if (u.step != 1 && u.step % every != 0) return;
  file_.scalar("train/loss", u.step, u.loss);
  file_.scalar("train/penalty", u.step, u.penalty);
  file_.scalar("train/lr", u.step, u.lr);
  file_.flush();
}

void TensorboardLog::epoch(std::int64_t step, const EpochReport& r) {
  file_.scalar("epoch/number", step, double(r.epoch));
  file_.scalar("epoch/train_loss", step, r.train_loss);
  file_.scalar("epoch/train_accuracy", step, r.train_accuracy);
  if (r.has_validation()) {
    file_.scalar("epoch/val_loss", step, r.val_loss);
    file_.scalar("epoch/val_accuracy", step, r.val_accuracy);
    for (const Monitor& m : monitors())
      if (const double score = r.*m.score; m.name != "loss" && m.name != "accuracy" && !std::isnan(score))
        file_.scalar("epoch/val_" + std::string(m.name), step, score);
  }
  file_.scalar("epoch/images_per_second", step, r.images_per_second);
  weights(step, false);
  file_.flush();
}

void TensorboardLog::image(std::string_view tag, std::int64_t step, const Image& image) {
  if (image.rgb.empty()) return;
  file_.image(tag, step, image);
  file_.flush();
}

void TensorboardLog::weights(std::int64_t step, bool all) {
  const std::vector<std::string>& blocks = network_.blocks();
  for (int block = 0; block < int(blocks.size()); ++block) {
    std::vector<float> values;
    for (const Parameter& p : network_.parameters().parameters()) {
      const bool is_kernel = p.role == Role::conv_weight || p.role == Role::linear_weight;
      if (p.block != block || !is_kernel || !(all || p.is_trainable)) continue;
      const std::vector<float> more = p.value.to_host_floats();
      values.insert(values.end(), more.begin(), more.end());
    }
    file_.histogram("weights/" + blocks[std::size_t(block)], step, values);
  }
}

}  // namespace graft
