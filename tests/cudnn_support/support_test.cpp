// That cuDNN has a plan for every graph the three networks use, asked for an H100 that need not be here: its own
// heuristics answer, and plans whose engines need no compiler at run time are built. How a graph runs is tested on a
// GPU.
#include <gtest/gtest.h>

#include <algorithm>

#include <fmt/format.h>

#include "kernels/build_info.h"
#include "kernels/cuda/module.h"
#include "tests/cudnn_support/h100.h"
#include "tests/cudnn_support/network_graphs.h"
#include "tests/support/op_cases.h"

namespace graft {
namespace {

class CudnnSupport : public testing::Test {
 protected:
  void SetUp() override {
    if (!build_info().cuda_absent_reason.empty())
      GTEST_SKIP() << "the CUDA module was not built: " << build_info().cuda_absent_reason;
    std::string why_not;
    cudnn_ = open_cudnn(why_not);
    ASSERT_NE(cudnn_, nullptr) << why_not;
  }

  GraphSupport ask(const GraphSpec& spec) const { return cudnn_->graph_support(h100_properties(), spec); }

  const CudaModule* cudnn_ = nullptr;
};

struct Tally {
  int graphs = 0, built = 0, listed = 0;
  std::set<int> engines;  // of the first plans
};

std::string megabytes(std::int64_t bytes) { return fmt::format("{:.1f} MiB", double(bytes) / (1 << 20)); }

class CudnnSupportOf : public CudnnSupport, public testing::WithParamInterface<const char*> {
 protected:
  /// Fails for every graph in use without a plan, but for those that cuDNN may refuse, which it is to refuse.
  void expect_all(const GraphsRequest& request) {
    Tally tally;
    std::int64_t largest = 0;
    for (const NetworkGraph& graph : network_graphs(request)) {
      if (!graph.is_used) continue;
      const GraphSupport support = ask(graph.spec);
      if (may_be_refused(graph.spec)) {
        EXPECT_EQ(support.plan, "") << to_string(graph.spec) << " may round to TF32";
        continue;
      }
      ++tally.graphs;
      ++(support.is_built ? tally.built : tally.listed);
      largest = std::max(largest, support.workspace_bytes);
      EXPECT_NE(support.plan, "") << graph.layer << ": " << support.reason;
      tally.engines.insert(engine_of(support));
    }
    EXPECT_GT(tally.graphs, 15);
    std::printf("  %s %s: %d graphs, %d plans built, %d listed, largest workspace %s, %s\n",
                request.architecture.c_str(),
                request.allows_tf32 ? "tf32" : std::string(to_string(request.dtype)).c_str(), tally.graphs, tally.built,
                tally.listed, megabytes(largest).c_str(), engines_text(tally.engines).c_str());
  }
};

TEST_P(CudnnSupportOf, Float32) { expect_all({.architecture = GetParam()}); }
TEST_P(CudnnSupportOf, Tf32) { expect_all({.architecture = GetParam(), .allows_tf32 = true}); }
TEST_P(CudnnSupportOf, BFloat16) { expect_all({.architecture = GetParam(), .dtype = DType::bf16}); }
TEST_P(CudnnSupportOf, Float16) { expect_all({.architecture = GetParam(), .dtype = DType::f16}); }

INSTANTIATE_TEST_SUITE_P(Networks, CudnnSupportOf, testing::Values("resnet50", "densenet121", "vgg19"),
                         [](const auto& test) { return std::string(test.param); });

TEST_F(CudnnSupport, TheOpCasesConvolutions) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const OpCase& op : op_cases()) {
      if (!op.conv) continue;
      for (const GraphKind kind : {GraphKind::conv, GraphKind::data_grad, GraphKind::weight_grad}) {
        const GraphSupport support = ask(conv_graph(kind, *op.conv, dtype));
        EXPECT_NE(support.plan, "") << to_string(conv_graph(kind, *op.conv, dtype)) << ": " << support.reason;
      }
    }
}

TEST_F(CudnnSupport, Float32WithoutTf32IsNeverCompiledAtRunTime) {
  const ConvSpec conv{.x = {16, 64, 56, 56}, .k = 64, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  for (const GraphKind kind : {GraphKind::conv, GraphKind::data_grad, GraphKind::weight_grad}) {
    const GraphSupport exact = ask(conv_graph(kind, conv, DType::f32)),
                       tf32 = ask(conv_graph(kind, conv, DType::f32, true));
    EXPECT_TRUE(exact.is_built) << exact.plan;
    EXPECT_EQ(exact.compiled_plans, 0);
    EXPECT_LT(exact.plans, tf32.plans);
  }
  GraphSpec fused = conv_graph(GraphKind::conv, conv, DType::f32, true);
  fused.has_bias = fused.has_residual = true;
  EXPECT_GT(ask(fused).compiled_plans, 0);  // what is left out above
}

/// What could replace kernels of graft's own in ResNet-50. fp16 has fusions that the other types have not.
TEST_F(CudnnSupport, FusionsOfTraining) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32})
    for (const NetworkGraph& graph : network_graphs({.architecture = "resnet50", .dtype = dtype})) {
      if (graph.is_used) continue;
      const GraphKind kind = graph.spec.kind;
      const bool has_statistics = kind == GraphKind::conv_statistics || kind == GraphKind::norm_conv_statistics ||
                                  kind == GraphKind::data_grad_norm_sums;
      if (has_statistics && graph.layers < 3) continue;  // some of each kind will do
      const GraphSupport support = ask(graph.spec);
      if (!has_statistics || dtype == DType::f16) {
        EXPECT_NE(support.plan, "") << graph.layer << ": " << support.reason;
      } else {
        EXPECT_EQ(support.plan, "") << to_string(graph.spec) << " is offered now: see docs/design.md";
      }
    }
}

TEST_F(CudnnSupport, SlicesOfDenseNetsBuffer) {
  int graphs = 0;
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const NetworkGraph& graph : network_graphs({.architecture = "densenet121", .dtype = dtype})) {
      if (graph.is_used || graph.spec.y_pitch == 0) continue;
      const GraphSupport support = ask(graph.spec);
      EXPECT_NE(support.plan, "") << graph.layer << ": " << support.reason;
      ++graphs;
    }
  EXPECT_GE(graphs, 2 * 4 * 3);
}

TEST_F(CudnnSupport, RefusesWhatCannotBe) {
  const ConvSpec conv{.x = {16, 64, 56, 56}, .k = 64, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1};
  EXPECT_NE(ask(conv_graph(GraphKind::conv, conv, DType::bf16)).plan, "");

  ConvSpec nothing_left = conv;
  nothing_left.x.h = nothing_left.x.w = 2;
  nothing_left.pad_h = nothing_left.pad_w = 0;
  const GraphSupport empty = ask(conv_graph(GraphKind::conv, nothing_left, DType::bf16));
  EXPECT_EQ(empty.plan, "");
  EXPECT_NE(empty.reason, "");

  GraphSpec narrow = conv_graph(GraphKind::conv, conv, DType::bf16);
  narrow.x_pitch = 32;  // fewer channels than x has
  EXPECT_EQ(ask(narrow).plan, "");
}

TEST_F(CudnnSupport, ADamagedDescriptionOfTheGpuIsRefused) {
  const GraphSupport support = cudnn_->graph_support(
      "{\"deviceVer\": 900", conv_graph(GraphKind::conv, {.x = {1, 8, 4, 4}, .k = 8}, DType::bf16));
  EXPECT_EQ(support.plan, "");
  EXPECT_NE(support.reason, "");
}

}  // namespace
}  // namespace graft
