// That no kernel is left out: each, and each instance of a template, is launched by an op case on the host model.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

#include "tests/host_model/backend.h"
#include "tests/host_model/case_testing.h"
#include "tests/host_model/host_model.h"
#include "tests/host_model/unfold_testing.h"

namespace graft {
namespace {

/// The names behind __global__ in kernels/cuda/*.cu.
std::set<std::string> kernels_in_source() {
  std::set<std::string> names;
  const std::regex kernel(R"(__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\()"), any(R"(\b__global__\b)");
  for (const auto& entry : std::filesystem::directory_iterator(GRAFT_SOURCE_DIR "/kernels/cuda")) {
    if (entry.path().extension() != ".cu") continue;
    std::ifstream file(entry.path());
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto count = [&](const std::regex& r) {
      return std::distance(std::sregex_iterator(text.begin(), text.end(), r), {});
    };
    EXPECT_EQ(count(kernel), count(any)) << "not every kernel of " << entry.path() << " was understood";
    for (std::sregex_iterator i(text.begin(), text.end(), kernel), end; i != end; ++i) names.insert((*i)[1]);
  }
  EXPECT_GT(names.size(), 20u);
  return names;
}

/// "flat_map_kernel" of "void flat_map_kernel<Relu, 4>(FlatMap<Relu>)".
std::string base_name(const std::string& function) {
  std::smatch name;
  return std::regex_search(function, name, std::regex(R"((\w+)(?:<.*>)?\()")) ? name[1].str() : function;
}

TEST(HostModelCoverage, EveryKernelIsLaunchedByACase) {
  const std::unique_ptr<Backend> device = host_model::make_backend();
  for (const CaseOnDevice& c : cases_here())
    for (const std::int64_t guard : kGuards) {
      CaseOperands operands(*device, *c.op, c.write, formats_of(*c.op, *device), guard);
      c.op->run(*device, operands, c.write);
    }
  for (const DType type : kTypes) {
    is_found_finite(*device, type, {});
    expect_bias_added(*device, type);
  }
  found_difference(*device, {1}, {2});
  unfold_long_rows(*device);
  std::set<std::string> launched;
  for (const std::string& name : host_model::launched_kernels()) launched.insert(base_name(name));
  const std::set<std::string> kernels = kernels_in_source();
  for (const std::string& name : kernels)
    EXPECT_TRUE(launched.contains(name)) << name << " is launched by no case in tests/support/op_cases_*.cpp";
  for (const std::string& name : host_model::device_functions())  // template instances, one by one
    if (kernels.contains(base_name(name)) && name.find("{lambda") == name.npos) {
      EXPECT_TRUE(host_model::launched_kernels().contains(name)) << name << " is launched by no case";
    }
}

}  // namespace
}  // namespace graft
