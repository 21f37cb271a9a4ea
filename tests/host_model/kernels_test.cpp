// Every op case on the host model, against the reference device: in three orders of threads and blocks, which must give
// the same bits.
#include <cmath>
#include <limits>
#include <map>

#include <fmt/format.h>

#include "tests/host_model/backend.h"
#include "tests/host_model/case_testing.h"
#include "tests/host_model/host_model.h"

namespace graft {
namespace {

using host_model::Order;

constexpr std::uint64_t kSeed = 7;  // of the random order

/// The race check, which is slow, finds in one order what it finds in another.
std::vector<Order> orders() {
  if (host_model::checks_races()) return {Order::random};
  return {Order::forward, Order::reverse, Order::random};
}

/// Buffers without a guard lie as those with the widest do, so the same kernels run: there one order is enough.
std::vector<Order> orders_with(std::int64_t guard) { return guard == 0 ? std::vector{Order::random} : orders(); }

class HostModelCases : public ::testing::TestWithParam<CaseOnDevice> {};

TEST_P(HostModelCases, EqualTheReferenceInEveryOrder) {
  const auto& [kind, op, write] = GetParam();
  const std::unique_ptr<Backend> device = host_model::make_backend(),
                                 reference = make_backend({DeviceKind::reference, 0});
  const std::vector<Format> formats = formats_of(*op, *device);
  CaseOperands expected(*reference, *op, write, formats);
  op->run(*reference, expected, write);
  for (const std::int64_t guard : kGuards) {
    std::map<std::string, std::vector<double>> in_first_order;
    for (const Order order : orders_with(guard)) {
      SCOPED_TRACE(fmt::format("guards of {} bytes, order {}", guard, int(order)));
      host_model::set_order(order, kSeed);
      CaseOperands actual(*device, *op, write, formats, guard);
      op->run(*device, actual, write);
      for (const Operand& o : op->operands) {
        if (!is_result(o.role)) continue;
        const std::vector<double> values = actual.values(o.name);
        expect_equal(*op, o, DType::f32, values, expected.values(o.name), op->exact && write == Write::overwrite);
        const auto [first, is_new] = in_first_order.emplace(o.name, values);
        EXPECT_TRUE(is_new || same_bits({first->second}, {values})) << o.name << " depends on the order of threads";
      }
      EXPECT_EQ(actual.damage(), "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OwnKernels, HostModelCases, ::testing::ValuesIn(cases_here()), CaseName{});

TEST(HostModelAllFinite, FindsWhatIsNot) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::unique_ptr<Backend> device = host_model::make_backend();
  for (const Order order : orders()) {
    host_model::set_order(order, kSeed);
    for (const DType type : kTypes) {
      EXPECT_TRUE(is_found_finite(*device, type, {}));
      for (const double bad : {std::nan(""), kInfinity, -kInfinity})
        EXPECT_FALSE(is_found_finite(*device, type, bad)) << to_string(type) << " " << bad;
    }
  }
}

TEST(HostModelBias, IsAddedInEveryType) {
  const std::unique_ptr<Backend> device = host_model::make_backend();
  for (const Order order : orders()) {
    host_model::set_order(order, kSeed);
    for (const DType type : kTypes) expect_bias_added(*device, type);
  }
}

TEST(HostModelDifferences, OfTwoResultsAreFound) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::unique_ptr<Backend> device = host_model::make_backend();
  constexpr std::size_t kSize = 1027;
  std::vector<double> x(kSize), y(kSize);
  for (std::size_t i = 0; i < kSize; ++i) x[i] = y[i] = -double(i % 7);
  for (const Order order : orders()) {
    host_model::set_order(order, kSeed);
    using Found = std::array<float, 2>;
    EXPECT_EQ(found_difference(*device, x, y), (Found{0, 6}));
    for (const std::size_t i : {std::size_t{0}, std::size_t{600}, kSize - 1}) {
      std::vector<double> other = y;
      other[i] += 0.25;
      EXPECT_EQ(found_difference(*device, x, other)[0], 0.25f) << i;
      other[i] = std::nan("");  // in one of the two
      EXPECT_EQ(found_difference(*device, x, other)[0], float(kInfinity)) << i;
      EXPECT_EQ(found_difference(*device, other, y)[0], float(kInfinity)) << i;
      EXPECT_EQ(found_difference(*device, other, other)[0], 0) << i;  // in both: nothing to compare
      std::vector<double> large = y;
      large[i] = 65504, other[i] = kInfinity;  // overflown in one of the two
      EXPECT_EQ(found_difference(*device, large, other), (Found{0, 6})) << i;
    }
  }
}

/// Windows with NaN, with -inf alone, and with equal values: which value wins, and where it is taken to be.
TEST(HostModelMaxPool, ChoosesAsTheReferenceDoes) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kValues[] = {-1, -kInfinity, 2, std::nan("")};
  const std::unique_ptr<Backend> device = host_model::make_backend(),
                                 reference = make_backend({DeviceKind::reference, 0});
  for (const std::int64_t k : {2, 3})
    for (const std::uint64_t kinds : {2, 3, 4}) {
      const PoolSpec spec{.x = {3, 8, 9, 11}, .window_h = k, .window_w = k, .pad_h = k - 2, .pad_w = k - 2};
      OpCase op;
      op.operands = {input("x", spec.x), fresh("y", spec.y()), fresh("index", spec.y()).of(DType::u8)};
      std::vector<double> x(std::size_t(spec.x.size()));
      std::uint64_t state = 1;
      for (double& v : x)
        v = kValues[(state = state * 6364136223846793005u + 1442695040888963407u) / (1ull << 33) % kinds];
      const auto pool = [&](Backend& on) {
        CaseOperands o(on, op, Write::overwrite, {kNhwc, kNhwc, kNhwc});
        o.set("x", x);
        on.max_pool(spec, o["y"], o["index"], o["x"]);
        return std::vector{o.values("y"), o.values("index")};
      };
      EXPECT_TRUE(same_bits(pool(*device), pool(*reference))) << k << " " << kinds;
    }
}

}  // namespace
}  // namespace graft
