// What the tests of op cases share: which devices can be tested here, one parametrised test per case and device.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <memory>

#include "kernels/cpu/cpu_device.h"
#include "kernels/half.h"
#include "tests/support/op_cases.h"

namespace graft {

/// One test's subject. `write` is Write::overwrite for cases that take none.
struct CaseOnDevice {
  DeviceKind device;
  const OpCase* op;
  Write write;
};
inline std::string test_name(const CaseOnDevice& c) {
  std::string name = c.op->name + (c.write == Write::add ? "_add" : "");
  std::replace_if(
      name.begin(), name.end(), [](unsigned char ch) { return !std::isalnum(ch); }, '_');
  return name;
}
inline void PrintTo(const CaseOnDevice& c, std::ostream* out) { *out << test_name(c); }
struct CaseName {
  std::string operator()(const ::testing::TestParamInfo<CaseOnDevice>& info) const { return test_name(info.param); }
};

/// Whether a device ever sees such views: a GPU's activations are NHWC, and other formats reach it in copies alone.
inline bool is_for(DeviceKind device, const OpCase& op) {
  if (!op.runs_on(device)) return false;
  if (device != DeviceKind::cuda || op.call == "copy") return true;
  return std::all_of(op.operands.begin(), op.operands.end(), [](const Operand& o) { return o.format == kNhwc; });
}

/// Every case of a table that is for the device, once for each Write it takes.
inline std::vector<CaseOnDevice> cases_on(DeviceKind device, const std::vector<OpCase>& table = op_cases()) {
  std::vector<CaseOnDevice> cases;
  for (const OpCase& op : table) {
    if (!is_for(device, op)) continue;
    cases.push_back({device, &op, Write::overwrite});
    if (op.takes_write()) cases.push_back({device, &op, Write::add});
  }
  return cases;
}

/// The cases of a device that has these 16-bit types (a GPU has both), with activations stored in each and in none of
/// them.
inline std::vector<CaseOnDevice> cases_in_every_type(DeviceKind device,
                                                     std::initializer_list<DType> types = {DType::bf16, DType::f16}) {
  std::vector<CaseOnDevice> cases = cases_on(device);
  for (const DType type : types)
    for (const CaseOnDevice& c : cases_on(device, op_cases_in(type))) cases.push_back(c);
  return cases;
}

inline constexpr int kTestThreads = 2;

/// The 16-bit type in which a case's activations are stored, if it is one of such a table.
inline std::optional<DType> stored_type(const OpCase& op) {
  for (const Operand& o : op.operands)
    if (o.stored) return o.stored;
  return std::nullopt;
}

/// Why a device cannot be tested on this machine, with activations of this type; empty when it can.
inline std::string unusable(DeviceKind device, std::optional<DType> stored = {}) {
  if (device == DeviceKind::cuda) {
    const std::string reason = cuda_unavailable_reason();
    return reason.empty() ? "" : "not run on a GPU: " + reason;
  }
  const std::string reason = device == DeviceKind::cpu && stored ? cpu_bf16_unavailable_reason() : "";
  return reason.empty() ? "" : "not run in bf16 on the CPU: " + reason;
}

/// Tests on one device and the reference, each opened once per suite.
class DeviceCaseTest : public ::testing::TestWithParam<CaseOnDevice> {
 protected:
  static void TearDownTestSuite() { devices().clear(); }

  void SetUp() override {
    const std::string reason = unusable(GetParam().device, stored_type(*GetParam().op));
    if (!reason.empty()) GTEST_SKIP() << reason;
  }

  /// A GPU takes every type whatever its precision is; the CPU's formats are those of its own.
  static Backend& open(DeviceKind kind, std::optional<DType> stored = {}) {
    const bool is_half = kind == DeviceKind::cpu && stored;
    std::unique_ptr<Backend>& device = devices()[{kind, is_half}];
    if (!device)
      device = make_backend({kind, 0}, {.threads = kTestThreads,
                                        .precision = is_half ? Precision::bf16 : Precision::f32,
                                        .plans = {.growth = OwnKernels::always}});
    return *device;
  }
  static Backend& reference() { return open(DeviceKind::reference); }

 private:
  static std::map<std::pair<DeviceKind, bool>, std::unique_ptr<Backend>>& devices() {
    static std::map<std::pair<DeviceKind, bool>, std::unique_ptr<Backend>> open_devices;
    return open_devices;
  }
};

inline double largest(const std::vector<double>& values) {
  double most = 0;
  for (const double v : values)
    if (std::isfinite(v)) most = std::max(most, std::abs(v));
  return most;
}

/// Half the distance between neighbouring numbers around 1: what one rounding may change.
inline double rounding(DType dtype) { return std::ldexp(1.0, dtype == DType::f64 ? -53 : -24); }

/// What rounding `value` to 16 bits may change: half the distance between the numbers around it.
inline double half_rounding(DType dtype, double value) {
  const int fraction_bits = dtype == DType::bf16 ? 7 : 10, smallest = dtype == DType::bf16 ? -126 : -14;
  return std::ldexp(0.5, std::max(std::ilogb(value), smallest) - fraction_bits);
}

/// What rounding may do to a result of `terms` added products, as a share of the largest result. Each product and each
/// addition is rounded once; the errors of a random sum grow with its square root, and so does the sum itself. 8
/// covers the constant work around it (a square root, an exponential, a division, a few factors), 2 the spread of
/// random errors.
inline double rounding_tolerance(DType dtype, double terms) { return rounding(dtype) * (8 + 2 * std::sqrt(terms)); }

/// `o` is an operand of the case; exact: to the bit; slack: how many times the tolerance is allowed.
inline void expect_equal(const OpCase& op, const Operand& o, DType device_type, const std::vector<double>& actual,
                         const std::vector<double>& expected, bool exact, double slack = 1) {
  const DType type = o.dtype ? *o.dtype : o.stored.value_or(device_type);
  const bool whole = type == DType::u8 || type == DType::i32;
  // Sums in f64 of a device that computes in f32 carry its rounding.
  const DType precision = type == DType::f64 || is_half(type) ? device_type : type;
  const double most_expected = largest(expected);
  const double tolerance = whole || exact ? 0 : slack * rounding_tolerance(precision, op.terms) * most_expected;
  std::int64_t wrong = 0, worst = -1;
  double most = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    // Exact in 16 bits: the one number that the reference's rounds to.
    const double wanted = exact && is_half(type) ? rounded_to(type, expected[i]) : expected[i];
    const double off = std::abs(actual[i] - wanted);
    // The device's result may be rounded to another of the two neighbours than the reference's; what was stored on the
    // way may have been as large as the largest result.
    double stored = is_half(type) && !exact ? 2 * half_rounding(type, std::abs(expected[i]) + tolerance) : 0;
    if (is_half(type) && op.stores > 1) stored += (op.stores - 1) * half_rounding(type, most_expected);
    // What was rounded may have been added to what was there before.
    if (o.passed) stored += op.stores * half_rounding(*o.passed, most_expected + std::max(-o.fill.low, o.fill.high));
    const bool equal = std::isnan(expected[i]) ? std::isnan(actual[i]) : off <= tolerance + stored;
    if (equal) continue;
    ++wrong;
    if (worst < 0 || std::isnan(off) || off > most) worst = std::int64_t(i), most = off;
  }
  EXPECT_EQ(wrong, 0) << o.name << " " << to_string(o.shape) << ": " << wrong << " of " << expected.size()
                      << " elements are off by more than " << tolerance << "; worst at " << worst << ": "
                      << actual[std::size_t(std::max<std::int64_t>(worst, 0))] << ", expected "
                      << expected[std::size_t(std::max<std::int64_t>(worst, 0))];
}

inline bool is_result(Role role) { return role == Role::output || role == Role::fresh || role == Role::updated; }

/// What a run of the case leaves in its results.
inline std::vector<std::vector<double>> results(Backend& device, const OpCase& op, Write write) {
  CaseOperands operands(device, op, write, formats_of(op, device));
  op.run(device, operands, write);
  std::vector<std::vector<double>> values;
  for (const Operand& o : op.operands)
    if (is_result(o.role)) values.push_back(operands.values(o.name));
  return values;
}

inline bool same_bits(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  const auto same = [](double x, double y) { return std::memcmp(&x, &y, sizeof x) == 0; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const auto& x, const auto& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(), same);
  });
}

}  // namespace graft
