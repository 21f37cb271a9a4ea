// What cuDNN offers on an H100 for every graph of the networks, asked without a GPU: one table for each batch and
// image size. With --list every graph follows, with its plan. Ends with 1 where cuDNN refuses a graph that graft runs.
//   graft_cudnn_support [BATCH SIZE]... [--list]         16 224 when none is given
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "data/architectures.h"
#include "tests/cudnn_support/h100.h"
#include "tests/cudnn_support/network_graphs.h"

namespace graft {
namespace {

struct Precisions {
  const char* name;
  DType dtype;
  bool allows_tf32;
};
constexpr Precisions kPrecisions[] = {
    {"f32", DType::f32, false}, {"tf32", DType::f32, true}, {"bf16", DType::bf16, false}, {"f16", DType::f16, false}};

/// Graphs of one kind and precision.
struct Cell {
  int built = 0, listed = 0, refused = 0;
  std::int64_t most_workspace = 0;
  std::set<int> engines;  // of the first plans, cuDNN's numbers
};

std::string text_of(const Cell& c) {
  std::string text;
  const auto add = [&](int count, const char* what) {
    if (count > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, what);
  };
  add(c.built, "built");
  add(c.listed, "listed");
  add(c.refused, "refused");
  if (c.built + c.listed > 0)
    text += fmt::format("; {} MiB; {}", (c.most_workspace + (1 << 20) - 1) >> 20, engines_text(c.engines));
  return text;
}

/// "conv+bias+relu", and " into a slice" or " *" for what the CUDA backend does not run.
std::string row_name(const NetworkGraph& g) {
  const std::string text = to_string(g.spec);
  return text.substr(0, text.find(' ')) + (g.spec.y_pitch ? ", y a slice" : "") +
         (g.spec.x_pitch ? ", x a slice" : "") + (g.is_used ? "" : " *");
}

/// How many graphs that graft runs are refused; each is named on stderr.
int print_table(const CudaModule& cudnn, std::int64_t batch, std::int64_t size, bool lists) {
  int refused = 0;
  std::map<std::string, std::map<std::string, Cell>> rows;
  std::string list;
  for (const Precisions& p : kPrecisions) {
    std::map<std::pair<bool, GraphSpec>, NetworkGraph> graphs;  // networks share some
    for (const std::string_view architecture : architecture_names())
      for (const NetworkGraph& g : network_graphs({std::string(architecture), batch, size, p.dtype, p.allows_tf32}))
        graphs.emplace(std::pair(g.is_used, g.spec), g);
    for (const auto& [key, g] : graphs) {
      const GraphSupport s = cudnn.graph_support(h100_properties(), g.spec);
      Cell& cell = rows[row_name(g)][p.name];
      ++(s.plan.empty() ? cell.refused : s.is_built ? cell.built : cell.listed);
      cell.most_workspace = std::max(cell.most_workspace, s.workspace_bytes);
      if (!s.plan.empty()) cell.engines.insert(engine_of(s));
      if (s.plan.empty() && g.is_used && !may_be_refused(g.spec)) {
        ++refused;
        std::fprintf(stderr, "graft_cudnn_support: batch %lld, %lld px, %s: %s is refused: %s\n",
                     static_cast<long long>(batch), static_cast<long long>(size), g.layer.c_str(),
                     to_string(g.spec).c_str(), s.reason.c_str());
      }
      if (lists)
        list += fmt::format("{}{}\t{}\t{}\t{}\t{}\t{}\t{}\n", to_string(g.spec), g.is_used ? "" : " *",
                            s.plan.empty() ? "refused"
                            : s.is_built   ? "built"
                                           : "listed",
                            s.plan, s.workspace_bytes, s.plans, s.engines, g.layer);
    }
  }
  std::printf("\n### Batch %lld, %lld px\n\n| graph | f32 | tf32 | bf16 | f16 |\n|---|---|---|---|---|\n",
              static_cast<long long>(batch), static_cast<long long>(size));
  for (const auto& [name, cells] : rows) {
    std::string line = "| " + name;
    for (const Precisions& p : kPrecisions)
      line += " | " + (cells.contains(p.name) ? text_of(cells.at(p.name)) : std::string());
    std::printf("%s |\n", line.c_str());
  }
  if (lists) std::printf("\ngraph\tanswer\tfirst plan\tworkspace bytes\tplans\tengines\tfirst layer\n%s", list.c_str());
  std::fflush(stdout);
  return refused;
}

int run(int argc, char** argv) {
  std::vector<std::int64_t> numbers;
  bool lists = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(argument.data(), argument.data() + argument.size(), number);
    if (argument == "--list") {
      lists = true;
    } else if (error == std::errc{} && end == argument.data() + argument.size() && number > 0) {
      numbers.push_back(number);
    } else {
      std::fprintf(stderr, "graft_cudnn_support: '%s' is neither a batch, a size nor --list\n", argv[i]);
      return 2;
    }
  }
  if (numbers.empty()) numbers = {16, 224};
  if (numbers.size() % 2 != 0) {
    std::fprintf(stderr, "graft_cudnn_support: give pairs of batch and size\n");
    return 2;
  }
  std::string why_not;
  const CudaModule* cudnn = open_cudnn(why_not);
  if (!cudnn) {
    std::fprintf(stderr, "graft_cudnn_support: %s\n", why_not.c_str());
    return 1;
  }
  std::printf(
      "cuDNN %s. First plan of each graph: built, or listed where its engine is compiled at run time, which needs a "
      "driver.\nMiB: the largest workspace. *: not run by graft, an alternative to kernels of its own.\n",
      cudnn->cudnn_version().c_str());
  int refused = 0;
  for (std::size_t i = 0; i < numbers.size(); i += 2) refused += print_table(*cudnn, numbers[i], numbers[i + 1], lists);
  return refused > 0 ? 1 : 0;
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  try {
    return graft::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "graft_cudnn_support: %s\n", error.what());
    return 1;
  }
}
