// Weight gradients that the CPU takes as products of matrices, a few images at a time.
#include <gtest/gtest.h>

#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

/// Three pieces of 37 images and one of 36, which are as many as their copies may take bytes.
TEST(ConvProduct, ManyImagesInPiecesGiveTheSumOfAll) {
  if (const std::string reason = cpu_bf16_unavailable_reason(); !reason.empty())
    GTEST_SKIP() << "not run in bf16 on the CPU: " << reason;
  const ConvSpec spec{.x = {147, 512, 7, 7}, .k = 128, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  ASSERT_GT(spec.x.n * spec.out_h() * spec.out_w() * 9 * spec.x.c * size_of(DType::bf16), 3 * (16 << 20));
  for (const Write write : {Write::overwrite, Write::add}) {
    std::vector<std::vector<double>> results;
    for (const Precision precision : {Precision::f32, Precision::bf16}) {
      const std::unique_ptr<Backend> device =
          make_backend({DeviceKind::cpu}, {.threads = kTestThreads, .precision = precision});
      const DType type = device->activation_type();
      const ConvFormats formats = device->conv_formats(spec);
      OpCase op;
      op.operands = {input("x", spec.x, whole(3)).of(type).in(formats.x),
                     input("dy", spec.y(), whole(2)).of(type).in(formats.y), output("dw", {spec.k, spec.x.c, 3, 3})};
      CaseOperands o(*device, op, write, {formats.x, formats.y, kNhwc});
      device->conv_weight_grad(spec, o["dw"], write, o["dy"], o["x"]);
      results.push_back(o.values("dw"));
      EXPECT_EQ(o.damage(), "");
    }
    // Sums of whole numbers below 2^24, and of fractions where there was something before.
    const double tolerance = write == Write::add ? rounding(DType::f32) * 4 * largest(results[0]) : 0;
    for (std::size_t i = 0; i < results[0].size(); ++i) ASSERT_NEAR(results[1][i], results[0][i], tolerance) << i;
    EXPECT_GT(largest(results[0]), 1000);
  }
}

}  // namespace
}  // namespace graft
