// DELTA: the network's feature maps stay near those that the pre-trained network makes of the same images. The
// pre-trained network runs beside the one that trains, forward alone: a third more work than full fine-tuning, its
// weights once more in memory, and its chosen feature maps until the backward pass.
#include <algorithm>

#include "strategies/registry.h"
#include "strategies/shared_settings.h"

namespace graft {
namespace {

class Delta : public Strategy {
 public:
  explicit Delta(const StrategyOptions& options)
      : alpha_(options.number("alpha")),
        block_names_(options.text("blocks")),
        sums_images_(options.text("reduction") == "sum"),
        batch_norm_(options.text("batch_norm")) {}

  void prepare(Network& network, const PrepareCall& call) override {
    source_ = call.starting_network();
    for (Parameter& p : source_->parameters().parameters()) p.is_trainable = false;
    source_->parameters().prepare_gradients();
    blocks_ = chosen_blocks(network.blocks(), block_names_);
  }

  EpochPlan plan(const EpochView& view) override {
    chosen_blocks(view.blocks, block_names_);  // a name that the network lacks is an error before anything is written
    FreezePlan freeze = FreezePlan::trainable(view.parameters);
    choose_batch_norm(freeze, view.parameters, batch_norm_);
    return {.freeze = std::move(freeze)};
  }

  bool has_penalty() const override { return true; }
  Tensor penalty(const PenaltyView& view) override {
    const double weight = sums_images_ ? alpha_ * double(view.images_in_update) : alpha_;
    Tensor total, target = view.images;
    int part = 0;
    for (int b : blocks_) {
      target = run_source(target, part, b + 1);
      part = b + 1;
      const Tensor distance = feature_distance(view.outputs[std::size_t(b)], target, weight);
      total = total ? add(total, distance) : distance;
    }
    return total;
  }

 private:
  Tensor run_source(const Tensor& x, int begin, int end) const {
    const NoGrad no_grad(source_->context());
    const EvaluationMode evaluation(source_->context());
    const Scope scope(source_->context(), "pre-trained");
    return source_->run_parts(x, begin, end);
  }

  /// In order; of "layer2, layer3", or "auto": all between the first and the last.
  static std::vector<int> chosen_blocks(const std::vector<std::string>& blocks, const std::string& names) {
    std::vector<int> chosen;
    if (names == "auto") {
      for (int b = 1; b + 1 < int(blocks.size()); ++b) chosen.push_back(b);
      return chosen;
    }
    for (const std::string& name : split_list(names)) chosen.push_back(block_index(blocks, name));
    std::ranges::sort(chosen);
    return chosen;
  }

  double alpha_;
  std::string block_names_;
  bool sums_images_;
  std::string batch_norm_;
  std::vector<int> blocks_;
  std::unique_ptr<Network> source_;
};

}  // namespace

StrategyInfo delta_strategy() {
  return {
      .name = "delta",
      .summary = "Full fine-tuning, feature maps held near those of the pre-trained network",
      .source = "DELTA: Li et al. 2019 and their code, every channel weighing the same",
      .settings = {{{.key = "alpha", .help = "strength of the feature maps' distance", .min = 0}, 0.01},
                   {{.key = "blocks",
                     .help = "blocks whose outputs are compared, separated by commas; auto is all but the first and "
                             "the last"},
                    std::string("auto")},
                   {{.key = "reduction",
                     .help = "distances of an update's images are summed, as in the authors' code, or averaged",
                     .choices = {"sum", "mean"}},
                    std::string("sum")},
                   batch_norm_setting()},
      .create = create_strategy<Delta>};
}

}  // namespace graft
