#include "tests/support/simulated_cases.h"

#include <algorithm>
#include <cmath>

#include "kernels/philox.h"

namespace graft::testing {
namespace {

std::vector<double> prevalences(const CaseDesign& design) {
  if (design.is_balanced) {
    return std::vector<double>(static_cast<std::size_t>(design.classes), 1.0 / static_cast<double>(design.classes));
  }
  if (design.classes == 2) return {0.8, 0.2};
  if (design.classes == 4) return {0.4, 0.3, 0.2, 0.1};
  return {0.22, 0.18, 0.15, 0.12, 0.10, 0.08, 0.06, 0.05, 0.04};
}

double separation(const CaseDesign& design) {
  if (design.classes == 2) return design.is_accurate ? 2.1 : 1.25;
  if (design.classes == 4) return design.is_accurate ? 2.9 : 2.0;
  return design.is_accurate ? 3.3 : 2.5;
}

class Normal {
 public:
  Normal(std::uint64_t seed, std::uint64_t index)
      : random_({.seed = seed, .stream = RandomStream::other, .epoch = 1, .index = index}) {}

  double operator()() {
    has_second_ = !has_second_;
    if (!has_second_) return second_;
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random_.uniform()));
    const double angle = 6.283185307179586 * random_.uniform();
    second_ = radius * std::sin(angle);
    return radius * std::cos(angle);
  }
  std::int64_t below(std::int64_t count) { return random_.below(count); }
  double uniform() { return random_.uniform(); }

 private:
  Random random_;
  double second_ = 0.0;
  bool has_second_ = false;
};

/// Softmax of what a model sees of a case.
void append_probabilities(std::vector<double>& all, std::vector<double> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (double& value : logits) sum += value = std::exp(value - top);
  for (const double value : logits) all.push_back(value / sum);
}

/// Of several labels per case how many have each class.
std::vector<double> label_prevalences(const CaseDesign& design) {
  std::vector<double> shares;
  for (std::int64_t c = 0; c < design.classes; ++c)
    shares.push_back(design.is_balanced ? 0.3 : std::max(0.05, 0.5 * std::pow(0.7, static_cast<double>(c))));
  return shares;
}

/// Label l stands for the classes whose bits are set in it.
LabelSets label_sets_of_bits(std::size_t classes) {
  std::vector<std::vector<std::int32_t>> sets(std::size_t{1} << classes);
  for (std::size_t label = 0; label < sets.size(); ++label)
    for (std::size_t c = 0; c < classes; ++c)
      if ((label >> c & 1U) != 0) sets[label].push_back(static_cast<std::int32_t>(c));
  return LabelSets(std::move(sets));
}

/// A logit for each class: how much more likely what the model sees is where the class holds, and how frequent the
/// class is. The last class is the easiest.
SimulatedCases simulate_label_sets(const CaseDesign& design, const std::vector<SimulatedModel>& models,
                                   std::uint64_t seed, std::uint64_t index) {
  const auto classes = static_cast<std::size_t>(design.classes);
  const double base = design.is_accurate ? 1.5 : 0.85;
  const std::vector<double> shares = label_prevalences(design);
  Normal normal(seed, index);
  SimulatedCases result;
  result.label_sets = label_sets_of_bits(classes);
  result.probabilities.resize(models.size());
  std::int64_t cluster = 0, left = 0;  // of the cluster's cases
  std::int32_t label = 0;
  std::vector<double> of_cluster(classes);
  for (std::int64_t i = 0; i < design.n; ++i) {
    if (left == 0) {
      left = design.is_clustered ? 1 + normal.below(4) : 1;
      ++cluster;
      label = 0;
      for (std::size_t c = 0; c < classes; ++c) {
        of_cluster[c] = normal();
        if (normal.uniform() < shares[c]) label |= 1 << c;
      }
    }
    --left;
    result.labels.push_back(label);
    if (design.is_clustered) result.clusters.push_back(cluster);
    for (std::size_t c = 0; c < classes; ++c) {
      const double of_case =
          design.is_clustered ? std::sqrt(0.4) * of_cluster[c] + std::sqrt(0.6) * normal() : of_cluster[c];
      const double distance =
          base * (0.75 + 0.5 * static_cast<double>(c) / static_cast<double>(std::max<std::size_t>(1, classes - 1)));
      const double sign = (label >> c & 1) != 0 ? 1.0 : -1.0;
      for (std::size_t m = 0; m < models.size(); ++m) {
        const double noise = std::sqrt(0.7) * of_case + std::sqrt(0.3) * normal();
        const double evidence = 2.0 * distance * (noise + sign * models[m].skill * distance);
        const double logit = models[m].overconfidence * (evidence + std::log(shares[c] / (1.0 - shares[c])));
        result.probabilities[m].push_back(1.0 / (1.0 + std::exp(-logit)));
      }
    }
  }
  return result;
}

}  // namespace

std::string to_string(const CaseDesign& d) {
  return "n " + std::to_string(d.n) + ", " + std::to_string(d.classes) + " classes, " +
         (d.is_balanced ? "balanced" : "unbalanced") + (d.is_clustered ? ", clusters" : "") +
         (d.is_accurate ? ", accurate" : "") + (d.is_stratified ? ", stratified" : "") +
         (d.is_multi_label ? ", several labels" : "");
}

double expected_smallest_class(const CaseDesign& design) {
  const double share = design.is_multi_label ? label_prevalences(design).back() : prevalences(design).back();
  const double cases = share * static_cast<double>(design.n);
  return design.is_clustered ? cases / 2.5 : cases;
}

SimulatedCases simulate(const CaseDesign& design, const std::vector<SimulatedModel>& models, std::uint64_t seed,
                        std::uint64_t index) {
  if (design.is_multi_label) return simulate_label_sets(design, models, seed, index);
  const auto classes = static_cast<std::size_t>(design.classes);
  const double base = separation(design);
  const std::vector<double> shares = prevalences(design);
  Normal normal(seed, index);
  SimulatedCases result;
  result.probabilities.resize(models.size());
  std::int64_t cluster = 0, left = 0;  // of the cluster's cases
  std::size_t label = 0;
  double share = shares[0];  // of the classes up to the label
  std::vector<double> of_cluster(classes), of_case(classes);
  for (std::int64_t i = 0; i < design.n; ++i) {
    const bool is_full = design.is_stratified && i >= std::llround(share * static_cast<double>(design.n));
    if (left == 0 || is_full) {
      left = design.is_clustered ? 1 + normal.below(4) : 1;
      ++cluster;
      for (double& noise : of_cluster) noise = normal();
      if (is_full) {
        share += shares[++label];
      } else if (!design.is_stratified) {
        double at = normal.uniform();
        for (label = 0; label + 1 < classes && at >= shares[label]; ++label) at -= shares[label];
      }
    }
    --left;
    result.labels.push_back(static_cast<std::int32_t>(label));
    if (design.is_clustered) result.clusters.push_back(cluster);
    for (std::size_t c = 0; c < classes; ++c) {
      of_case[c] = design.is_clustered ? std::sqrt(0.4) * of_cluster[c] + std::sqrt(0.6) * normal() : of_cluster[c];
    }
    const double signal = base * (0.75 + 0.5 * static_cast<double>(label) / static_cast<double>(classes - 1));
    for (std::size_t m = 0; m < models.size(); ++m) {
      std::vector<double> logits(classes);
      for (std::size_t c = 0; c < classes; ++c) {
        const double noise = std::sqrt(0.7) * of_case[c] + std::sqrt(0.3) * normal();
        logits[c] = models[m].overconfidence * base * (noise + (c == label ? models[m].skill * signal : 0.0));
      }
      append_probabilities(result.probabilities[m], std::move(logits));
    }
  }
  return result;
}

}  // namespace graft::testing
