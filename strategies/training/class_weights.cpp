#include "strategies/training/class_weights.h"

namespace graft {

std::vector<double> class_weights(const TrainSettings& settings, const Dataset& dataset) {
  if (settings.class_weights != "balanced") return {};
  const std::vector<std::int64_t> counts = dataset.counts(Split::train);
  const auto n = double(dataset.indices(Split::train).size());
  std::vector<double> weights;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    if (counts[c] == 0)
      throw Error("class weights: class '" + dataset.class_names()[c] + "' has no training image; use none");
    const auto with = double(counts[c]);
    if (!dataset.is_multi_label())
      weights.push_back(n / (double(counts.size()) * with));
    else
      weights.push_back(with < n ? (n - with) / with : 1);
  }
  return weights;
}

}  // namespace graft
