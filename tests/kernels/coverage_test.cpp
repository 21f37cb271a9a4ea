// The op table itself: no call and no formula without a case, no gradient without a check, and cases sharp enough that
// a mix-up of parameters shows.
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tests/kernels/kernel_testing.h"

namespace graft {
namespace {

/// Calls that compute nothing; device_test.cpp tests them.
const std::set<std::string> kNotOps{"device",          "compute_type",
                                    "description",     "allocate",
                                    "release",         "activation_type",
                                    "memory",          "copy_in",
                                    "copy_out",        "zero",
                                    "synchronize",     "all_finite",
                                    "conv_formats",    "run_map",
                                    "push_range",      "pop_range",
                                    "has_relu_masks",  "plans",
                                    "folds_norms",     "is_asynchronous",
                                    "begin_copy_out",  "supports_capture",
                                    "begin_capture",   "end_capture",
                                    "prepare_update",  "begin_step",
                                    "end_step",        "wait",
                                    "replay",          "make_timer",
                                    "conv_workspace",  "reset_peak_memory",
                                    "prefer_plans",    "free_bytes",
                                    "make_upload",     "send",
                                    "arrive",          "follow_calls",
                                    "prepares_images", "make_kernel_tracer",
                                    "fuses_norm_conv"};

/// The names of Backend's virtual calls, read from its header; overloads of `update` by their step's type.
std::set<std::string> calls_in_header() {
  std::ifstream file(GRAFT_SOURCE_DIR "/kernels/backend.h");
  std::stringstream text;
  text << file.rdbuf();
  const std::string source = text.str();
  const std::regex any_virtual(R"(virtual\s+[^~])");
  const auto declared = std::distance(std::sregex_iterator(source.begin(), source.end(), any_virtual), {});
  const std::regex call(R"(virtual\s+[\w:*&<> ]*?\b(\w+)\(([^;]*?)\)[\w ]*(?:= 0;|;|\{))"), step(R"((\w+Step)&)");
  std::set<std::string> names;
  std::int64_t understood = 0;  // `memory` is a call of the device and one of an upload
  for (std::sregex_iterator i(source.begin(), source.end(), call), end; i != end; ++i, ++understood) {
    std::string name = (*i)[1];
    const std::string parameters = (*i)[2];
    if (std::smatch m; std::regex_search(parameters, m, step)) name += ":" + m[1].str();
    names.insert(name);
  }
  EXPECT_EQ(understood, declared) << "not every virtual call in kernels/backend.h was understood";
  EXPECT_GT(declared, 30);
  return names;
}

std::set<std::string> calls_in_table(const std::vector<OpCase>& table) {
  std::set<std::string> names;
  for (const OpCase& op : table) names.insert(op.call.starts_with("map:") ? "map" : op.call);
  return names;
}

TEST(Coverage, EveryBackendCallHasACase) {
  const std::set<std::string> calls = calls_in_header();
  for (const std::string& name : kNotOps) EXPECT_TRUE(calls.contains(name)) << name << " is no longer a call";
  for (const std::vector<OpCase>* table : {&op_cases(), &speed_cases()}) {
    const std::set<std::string> covered = calls_in_table(*table);
    for (const std::string& name : calls)
      if (!kNotOps.contains(name)) {
        EXPECT_TRUE(covered.contains(name))
            << name << " has no case in tests/support/op_cases_*.cpp" << (table == &op_cases() ? "" : " at real size");
      }
    for (const std::string& name : covered) EXPECT_TRUE(name == "map" || calls.contains(name)) << name;
  }
}

TEST(Coverage, EveryFunctorHasACase) {
  std::set<int> covered;
  for (const OpCase& op : op_cases()) covered.insert(op.functor);
  for (int i = 0; i < int(std::tuple_size_v<MapFunctors>); ++i)
    EXPECT_TRUE(covered.contains(i)) << "functor " << i << " of MapFunctors has no case in op_cases_map.cpp";
}

TEST(Coverage, EveryGradientIsChecked) {
  std::set<std::string> checked;
  for (const OpCase& op : op_cases())
    if (!op.claims.empty()) checked.insert(op.call);
  std::set<std::string> needed{"channel_sum", "map:ReluGrad",         "map:Add",         "map:Multiply", "map:Scale",
                               "map:Dropout", "map:ScaledDifference", "map:MaskChannels"};
  for (const std::string& name : calls_in_header())
    if (name.find("grad") != std::string::npos && name != "measure_gradients") needed.insert(name);  // takes norms
  EXPECT_GE(needed.size(), 16u);
  for (const std::string& name : needed) EXPECT_TRUE(checked.contains(name)) << name << " claims no gradient";
}

TEST(Coverage, NamesAreUnique) {
  std::set<std::string> names;
  for (const CaseOnDevice& c : cases_on(DeviceKind::reference))
    EXPECT_TRUE(names.insert(test_name(c)).second) << test_name(c);
}

/// Every pair of a convolution's numbers, exchanged.
std::vector<std::pair<std::string, ConvSpec>> mixed_up(const ConvSpec& spec) {
  struct Field {
    const char* name;
    std::int64_t ConvSpec::*member;
  };
  const Field fields[] = {{"stride_h", &ConvSpec::stride_h},
                          {"stride_w", &ConvSpec::stride_w},
                          {"pad_h", &ConvSpec::pad_h},
                          {"pad_w", &ConvSpec::pad_w},
                          {"dilation_h", &ConvSpec::dilation_h},
                          {"dilation_w", &ConvSpec::dilation_w},
                          {"r", &ConvSpec::r},
                          {"s", &ConvSpec::s}};
  std::vector<std::pair<std::string, ConvSpec>> all;
  for (const Field& a : fields)
    for (const Field& b : fields) {
      if (&a >= &b || spec.*a.member == spec.*b.member) continue;
      ConvSpec other = spec;
      std::swap(other.*a.member, other.*b.member);
      if (other.out_h() > 0 && other.out_w() > 0) all.emplace_back(std::string(a.name) + " and " + b.name, other);
    }
  return all;
}

std::vector<double> conv_result(Backend& device, const ConvSpec& spec, const OpCase& op) {
  CaseOperands o(device, op, Write::overwrite, std::vector<Format>(op.operands.size(), kNhwc));
  WeightView w = o.weight("w");
  w.value.shape = {spec.k, spec.x.c, spec.r, spec.s};
  device.conv(spec, o["y"], o["x"], w, {});
  return o.values("y");
}

TEST(Sharpness, AMixUpInAConvolutionWouldShow) {
  const std::unique_ptr<Backend> device = make_backend({DeviceKind::reference, 0});
  // Between them the two odd cases exchange every pair of parameters.
  std::set<std::string> noticed;
  for (const OpCase& op : op_cases()) {
    if (op.name != "conv/odd" && op.name != "conv/odd_blocks") continue;
    const std::vector<double> right = conv_result(*device, *op.conv, op);
    for (const auto& [name, spec] : mixed_up(*op.conv)) {
      if (spec.y() == op.conv->y() && spec.weight_size() == op.conv->weight_size()) {  // else the shapes tell
        const std::vector<double> wrong = conv_result(*device, spec, op);
        double off = 0;
        for (std::size_t i = 0; i < right.size(); ++i) off = std::max(off, std::abs(right[i] - wrong[i]));
        EXPECT_GT(off, 1e-2 * largest(right)) << op.name << ": " << name << " exchanged makes no difference";
      }
      noticed.insert(name);
    }
  }
  EXPECT_EQ(noticed.size(), 28u) << "pairs of 8 parameters that differ in at least one of the two cases";
}

TEST(Sharpness, AMixUpInBatchNormWouldShow) {
  const std::unique_ptr<Backend> device = make_backend({DeviceKind::reference, 0});
  for (const OpCase& op : op_cases()) {
    if (op.name != "normalize/odd_residual_relu") continue;
    CaseOperands o(*device, op, Write::overwrite, std::vector<Format>(op.operands.size(), kNhwc));
    const auto off = [&](const std::string& a, const std::string& b) {
      op.run(*device, o, Write::overwrite);
      const std::vector<double> right = o.values("y"), va = o.values(a), vb = o.values(b);
      o.set(a, vb), o.set(b, va);
      op.run(*device, o, Write::overwrite);
      const std::vector<double> wrong = o.values("y");
      o.set(a, va), o.set(b, vb);
      double most = 0;
      for (std::size_t i = 0; i < right.size(); ++i) most = std::max(most, std::abs(right[i] - wrong[i]));
      return most;
    };
    EXPECT_GT(off("gamma", "beta"), 0.1);
    EXPECT_GT(off("x", "residual"), 0.1);
    return;
  }
  FAIL() << "normalize/odd_residual_relu is gone";
}

}  // namespace
}  // namespace graft
