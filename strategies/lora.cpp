// LoRA for convolutions: the pre-trained weights are frozen, and beside each convolution's a product of two small
// factors trains. The product is added to the weight before every use, so the cost of a step is that of full
// fine-tuning; what shrinks is what is trained, and the optimizer's memory with it.
#include "models/adapters.h"
#include "strategies/registry.h"
#include "strategies/shared_settings.h"

namespace graft {
namespace {

class Lora : public Strategy {
 public:
  explicit Lora(const StrategyOptions& options)
      : rank_(options.integer("rank")),
        alpha_(options.number("alpha")),
        layers_(options.text("layers")),
        frozen_batch_norm_(options.text("frozen_batch_norm")) {}

  void prepare(Network& network, const PrepareCall& call) override {
    add_adapters(network, {.weights = adapted_weights(network.parameters()),
                           .rank = rank_,
                           .scale = alpha_ / double(rank_),
                           .seed = call.seed});
  }

  EpochPlan plan(const EpochView& view) override {
    adapted_weights(view.parameters);  // a pattern that fits nothing is an error before anything is written
    FreezePlan freeze = frozen_plan(view.parameters, frozen_batch_norm_);
    for (std::size_t i = 0; i < view.parameters.parameters().size(); ++i)
      if (view.parameters.parameters()[i].role == Role::adapter) freeze.set_trains(std::int64_t(i), true);
    freeze.train_head(view.parameters);
    return {.freeze = std::move(freeze)};
  }

 private:
  std::vector<std::int64_t> adapted_weights(const ParameterSet& parameters) const {
    std::vector<std::int64_t> weights;
    std::int64_t i = 0;
    for (const Parameter& p : parameters.parameters()) {
      const std::string_view layer = std::string_view(p.name).substr(0, p.name.rfind('.'));
      if (p.role == Role::conv_weight && matches_pattern(layer, layers_)) weights.push_back(i);
      ++i;
    }
    if (weights.empty())
      throw UsageError("lora: no convolution is named '" + layers_ +
                       "'; give a pattern such as layer4.*, or * for all");
    return weights;
  }

  std::int64_t rank_;
  double alpha_;
  std::string layers_, frozen_batch_norm_;
};

}  // namespace

StrategyInfo lora_strategy() {
  return {
      .name = "lora",
      .summary = "The backbone is frozen; low-rank changes of its convolutions train, and the head",
      .source = "LoRA: Hu et al. 2021; for convolutions as in Hugging Face's PEFT",
      .settings = {{{.key = "rank", .help = "of each convolution's change", .min = 1}, std::int64_t{8}},
                   {{.key = "alpha", .help = "the change is alpha / rank times the factors' product", .min = 0}, 8.0},
                   {{.key = "layers", .help = "convolutions that change, a pattern of names: layer4.*"},
                    std::string("*")},
                   frozen_batch_norm_setting()},
      .create = create_strategy<Lora>};
}

}  // namespace graft
