// The reference's backward calls against central differences of its forward calls, for every claim in the op table.
#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

constexpr double kDifference = 1e-5;
constexpr std::int64_t kMostElements = 80;  // per claim; larger operands are sampled evenly

/// sum over pairs (y, dy) of <y, dy> after the case's forward.
double objective(Backend& device, const OpCase& op, CaseOperands& operands) {
  op.forward(device, operands);
  double total = 0;
  for (const auto& [y, dy] : op.objective) {
    const std::vector<double> values = operands.values(y), weights = operands.values(dy);
    for (std::size_t i = 0; i < values.size(); ++i) total += values[i] * weights[i];
  }
  return total;
}

class Gradients : public DeviceCaseTest {};

TEST_P(Gradients, EqualCentralDifferences) {
  const auto& [kind, op, write] = GetParam();
  Backend& device = reference();
  CaseOperands operands(device, *op, write, formats_of(*op, open(DeviceKind::cpu)));
  std::map<std::string, std::vector<double>> before;
  for (const GradientClaim& claim : op->claims) before[claim.gradient] = operands.values(claim.gradient);
  op->run(device, operands, write);
  std::map<std::string, std::vector<double>> after;
  for (const GradientClaim& claim : op->claims) after[claim.gradient] = operands.values(claim.gradient);

  for (const GradientClaim& claim : op->claims) {
    const Operand& gradient = *std::find_if(op->operands.begin(), op->operands.end(),
                                            [&](const Operand& o) { return o.name == claim.gradient; });
    const bool added = gradient.role == Role::output && write == Write::add;
    const std::vector<double> at = operands.values(claim.of);
    const double scale = std::max(1.0, largest(after[claim.gradient])), here = objective(device, *op, operands);
    const auto size = std::int64_t(at.size()), step = std::max<std::int64_t>(1, size / kMostElements);
    for (std::int64_t i = 0; i < size; i += step) {
      std::vector<double> moved = at;
      moved[std::size_t(i)] = at[std::size_t(i)] + kDifference;
      operands.set(claim.of, moved);
      const double up = objective(device, *op, operands);
      moved[std::size_t(i)] = at[std::size_t(i)] - kDifference;
      operands.set(claim.of, moved);
      const double down = objective(device, *op, operands);
      const auto j = std::size_t(claim.first + i);
      const double claimed = after[claim.gradient][j] - (added ? before[claim.gradient][j] : 0);
      // The method's own error: kDifference^2 times a third derivative of order 10, and the objective's rounding /
      // kDifference.
      EXPECT_NEAR(claimed, (up - down) / (2 * kDifference), 2e-8 * scale)
          << claim.gradient << " of " << claim.of << " at " << i;
      // A kink within the step would bend the objective by about kDifference; curvature does by its square.
      EXPECT_LT(std::abs(up - 2 * here + down), 1e-7 * scale) << "a kink lies at " << claim.of << " " << i;
    }
    operands.set(claim.of, at);
  }
}

std::vector<CaseOnDevice> cases_with_claims() {
  std::vector<CaseOnDevice> cases = cases_on(DeviceKind::reference);
  std::erase_if(cases, [](const CaseOnDevice& c) { return c.op->claims.empty(); });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Reference, Gradients, ::testing::ValuesIn(cases_with_claims()), CaseName{});

}  // namespace
}  // namespace graft
