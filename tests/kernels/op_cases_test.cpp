// Every op case on every device against the reference device: results, and that nothing else in memory was touched.
#include <set>

#include "kernels/cpu/cpu_device.h"
#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

class OpCases : public DeviceCaseTest {};

TEST_P(OpCases, EqualTheReference) {
  const auto& [kind, op, write] = GetParam();
  Backend& device = open(kind, stored_type(*op));
  const std::vector<Format> formats = formats_of(*op, device);
  CaseOperands actual(device, *op, write, formats), expected(reference(), *op, write, formats);
  op->run(device, actual, write);
  device.synchronize();
  op->run(reference(), expected, write);
  for (const Operand& o : op->operands)
    if (is_result(o.role))
      expect_equal(*op, o, device.compute_type(), actual.values(o.name), expected.values(o.name),
                   op->exact && write == Write::overwrite);
  EXPECT_EQ(actual.damage(), "");
}

INSTANTIATE_TEST_SUITE_P(Cpu, OpCases, ::testing::ValuesIn(cases_in_every_type(DeviceKind::cpu, {DType::bf16})),
                         CaseName{});
INSTANTIATE_TEST_SUITE_P(Cuda, OpCases, ::testing::ValuesIn(cases_in_every_type(DeviceKind::cuda)), CaseName{});
INSTANTIATE_TEST_SUITE_P(CudaLargeInBf16, OpCases,
                         ::testing::ValuesIn(cases_on(DeviceKind::cuda, large_cases_in(DType::bf16))), CaseName{});
INSTANTIATE_TEST_SUITE_P(CudaLargeInF16, OpCases,
                         ::testing::ValuesIn(cases_on(DeviceKind::cuda, large_cases_in(DType::f16))), CaseName{});

// Everything that a GPU is tested with in 16 bits runs here as well: on the reference that rounds what it stores.
TEST(RoundedReference, EqualsTheReferenceInEveryCaseOfSixteenBits) {
  const std::unique_ptr<Backend> exact = make_backend({DeviceKind::reference, 0});
  for (const auto& [type, precision] : {std::pair(DType::bf16, Precision::bf16), {DType::f16, Precision::f16}}) {
    const std::unique_ptr<Backend> rounded = make_backend({DeviceKind::reference, 0}, {.precision = precision});
    std::set<std::string> calls;
    for (const auto& [kind, op, write] : cases_on(DeviceKind::reference, op_cases_in(type))) {
      if (op->needs_relu_masks) continue;
      SCOPED_TRACE(test_name({kind, op, write}));
      calls.insert(op->call);
      const std::vector<Format> formats = formats_of(*op, *rounded);
      CaseOperands actual(*rounded, *op, write, formats), expected(*exact, *op, write, formats);
      op->run(*rounded, actual, write);
      op->run(*exact, expected, write);
      for (const Operand& o : op->operands)
        if (is_result(o.role))
          expect_equal(*op, o, DType::f64, actual.values(o.name), expected.values(o.name),
                       op->exact && write == Write::overwrite);
      EXPECT_EQ(actual.damage(), "");
    }
    for (const char* call : {"conv", "conv_data_grad", "conv_weight_grad", "channel_sum", "linear", "linear_data_grad",
                             "linear_weight_grad"})
      EXPECT_TRUE(calls.contains(call)) << call << " has no case in " << to_string(type);
  }
}

// Winograd's transforms multiply (oneDNN's by up to 8) and cancel again, which costs about a decimal digit.
TEST(Winograd, ConvolutionsEqualTheReference) {
  constexpr double kSlack = 10;
  const std::unique_ptr<Backend> cpu = make_backend({DeviceKind::cpu, 0},
                                                    {.threads = kTestThreads, .allows_winograd = true}),
                                 reference = make_backend({DeviceKind::reference, 0});
  for (const auto& [kind, op, write] : cases_on(DeviceKind::cpu)) {
    if (!op->call.starts_with("conv")) continue;
    SCOPED_TRACE(op->name);
    const std::vector<Format> formats = formats_of(*op, *cpu);
    CaseOperands actual(*cpu, *op, write, formats), expected(*reference, *op, write, formats);
    op->run(*cpu, actual, write);
    op->run(*reference, expected, write);
    for (const Operand& o : op->operands)
      if (is_result(o.role))
        expect_equal(*op, o, DType::f32, actual.values(o.name), expected.values(o.name), false, kSlack);
    EXPECT_EQ(actual.damage(), "");
  }
  const std::vector<std::string> used = cpu_implementations(*cpu);
  const bool is_onednns =
      std::ranges::any_of(used, [](const std::string& line) { return line.find("wino") != line.npos; });
  EXPECT_EQ(is_onednns, cpu->description().find("AVX-512") != std::string::npos);
}

TEST(ReferenceFormats, DoNotChangeResults) {
  const std::unique_ptr<Backend> cpu = make_backend({DeviceKind::cpu, 0}),
                                 reference = make_backend({DeviceKind::reference, 0});
  for (const auto& [kind, op, write] : cases_on(DeviceKind::reference)) {
    if (op->call == "map:Dropout") continue;  // its mask follows the memory order
    SCOPED_TRACE(op->name);
    CaseOperands blocked(*reference, *op, write, formats_of(*op, *cpu)),
        plain(*reference, *op, write, std::vector<Format>(op->operands.size(), kNhwc));
    op->run(*reference, blocked, write);
    op->run(*reference, plain, write);
    for (const Operand& o : op->operands)
      if (is_result(o.role)) expect_equal(*op, o, DType::f64, blocked.values(o.name), plain.values(o.name), false);
    EXPECT_EQ(blocked.damage(), "");
    EXPECT_EQ(plain.damage(), "");
  }
}

// Results are the same bits run after run; on the reference, and for loops that are graft's own on the CPU, also for
// every number of threads.

/// The cases of a device in its usual precision; on CPUs that have it and on GPUs also in bf16, and there by graft's
/// own kernels wherever there are any.
struct Work {
  std::unique_ptr<Backend> device;
  std::vector<CaseOnDevice> cases;
};
std::vector<Work> works_on(DeviceKind kind, int threads) {
  std::vector<Work> works;
  works.push_back({make_backend({kind, 0}, {.threads = threads}), cases_on(kind)});
  if (kind != DeviceKind::reference && unusable(kind, DType::bf16).empty())
    works.push_back(
        {make_backend({kind, 0},
                      {.threads = threads, .precision = Precision::bf16, .plans = {.growth = OwnKernels::always}}),
         cases_on(kind, op_cases_in(DType::bf16))});
  return works;
}

class Determinism : public ::testing::TestWithParam<DeviceKind> {};

TEST_P(Determinism, SameBitsAgain) {
  const std::string reason = unusable(GetParam());
  if (!reason.empty()) GTEST_SKIP() << reason;
  for (const Work& work : works_on(GetParam(), kTestThreads))
    for (const CaseOnDevice& c : work.cases)
      EXPECT_TRUE(same_bits(results(*work.device, *c.op, c.write), results(*work.device, *c.op, c.write)))
          << test_name(c);
}

INSTANTIATE_TEST_SUITE_P(Reference, Determinism, ::testing::Values(DeviceKind::reference));
INSTANTIATE_TEST_SUITE_P(Cpu, Determinism, ::testing::Values(DeviceKind::cpu));
INSTANTIATE_TEST_SUITE_P(Cuda, Determinism, ::testing::Values(DeviceKind::cuda));

TEST(DeterminismOfThreads, SameBitsForOneTwoAndThree) {
  for (const DeviceKind kind : {DeviceKind::reference, DeviceKind::cpu}) {
    std::vector<std::vector<std::vector<double>>> by_case;
    for (const int threads : {1, 2, 3}) {  // one device after the other: the CPU's thread count is the process's
      std::size_t i = 0;
      for (const auto& [device, cases] : works_on(kind, threads))
        for (const CaseOnDevice& c : cases) {
          const bool is_vendors = c.op->call.starts_with("conv") || c.op->call.starts_with("linear");
          if (kind == DeviceKind::cpu && is_vendors) continue;
          std::vector<std::vector<double>> values = results(*device, *c.op, c.write);
          if (threads == 1)
            by_case.push_back(std::move(values));
          else
            EXPECT_TRUE(same_bits(by_case[i], values)) << to_string(device->device()) << " " << test_name(c);
          ++i;
        }
    }
  }
}

}  // namespace
}  // namespace graft
