#include "models_testing.h"

#include "models/network_io.h"

namespace graft {

std::vector<double> formula_values(const std::string& name, std::int64_t count, double centre, double radius) {
  const FormulaUniform uniform(name);
  std::vector<double> values(count);
#pragma omp parallel for
  for (std::int64_t i = 0; i < count; ++i) values[i] = float(centre + radius * (2 * uniform(i) - 1));
  return values;
}

std::vector<double> formula_start(const std::string& name, const Dimensions& shape) {
  const std::int64_t count = element_count(shape, name);
  if (shape.size() > 1) return formula_values(name, count, 0, std::sqrt(6.0 / double(count / shape[0])));
  if (name.ends_with("running_mean")) return formula_values(name, count, 0, 0.1);
  if (name.ends_with("running_var")) return formula_values(name, count, 1, 0.5);
  if (name.ends_with("weight")) return formula_values(name, count, 1, 0.25);
  return formula_values(name, count, 0, 0.1);
}

void fill_by_formula(Network& network) {
  const std::vector<NamedShape> shapes = expected_tensors(network.info().network());
  std::size_t next = 0;
  auto statistics = network.parameters().statistics().begin();
  for (Parameter& p : network.parameters().parameters()) {
    p.value.from_host(formula_start(p.name, shapes[next++].shape));
    ++p.version;
    if (p.role != Role::norm_shift) continue;
    std::vector<double> both = formula_start(shapes[next].name, shapes[next].shape);
    const std::vector<double> variance = formula_start(shapes[next + 1].name, shapes[next + 1].shape);
    both.insert(both.end(), variance.begin(), variance.end());
    statistics++->value.from_host(both);
    next += 2;
  }
}

Summary summary_of(const std::string& name, const std::vector<double>& values) {
  Summary summary{};
  for (double v : values) summary[0] += v * v;
  summary[0] = std::sqrt(summary[0]);
  for (int k = 0; k < 3; ++k) {
    const FormulaUniform uniform(name + "#" + std::to_string(k));
    double sum = 0;
#pragma omp parallel for reduction(+ : sum)
    for (std::int64_t i = 0; i < std::int64_t(values.size()); ++i) sum += values[i] * (2 * uniform(i) - 1);
    summary[k + 1] = sum;
  }
  return summary;
}

}  // namespace graft
