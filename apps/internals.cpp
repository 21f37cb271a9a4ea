// graft internals: what a run's recorder has seen, as a table, as CSV or as JSON.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/internals_table.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/files.h"
#include "strategies/freeze_plan.h"

namespace graft {
namespace {

struct InternalsOptions {
  std::string run, pattern, output;
  bool is_csv = false, is_json = false, is_quiet = false;
};

Internals open_internals(const std::string& run) {
  if (run.empty()) throw UsageError("internals: no run given; name a run directory");
  std::filesystem::path path(run);
  if (std::filesystem::is_directory(path)) {
    path /= "internals.h5";
    if (!std::filesystem::exists(path))
      throw Error("internals: " + run + " holds no internals.h5; train with --record-internals N to get one");
  }
  return read_internals(path);
}

/// Blocks, then the parameters and batch norms whose names match.
std::vector<InternalsSeries> chosen_series(const Internals& internals, const std::string& pattern) {
  std::vector<InternalsSeries> chosen = block_series(internals);
  if (pattern.empty()) return chosen;
  const std::size_t blocks = chosen.size();
  for (InternalsSeries& series : member_series(internals))
    if (matches_pattern(series.name, pattern)) chosen.push_back(std::move(series));
  if (chosen.size() == blocks)
    throw UsageError("--parameters: no parameter or batch norm matches '" + pattern + "'; names are like '" +
                     internals.header.parameters.front().name + "', * stands for any text");
  return chosen;
}

std::string json_text(const Internals& internals, const std::vector<InternalsSeries>& all) {
  using nlohmann::ordered_json;
  const InternalsRecords& r = internals.records;
  ordered_json series = ordered_json::array();
  for (const InternalsSeries& s : all)
    series.push_back({{"level", s.level},
                      {"name", s.name},
                      {"size", s.size},
                      {"gradient_norm", s.gradient_norm},
                      {"weight_norm", s.weight_norm},
                      {"relative_gradient_norm", s.relative_gradient_norm},
                      {"update_ratio", s.update_ratio},
                      {"anchor_distance", s.anchor_distance},
                      {"mean_drift", s.mean_drift},
                      {"variance_drift", s.variance_drift}});
  const ordered_json json{{"architecture", internals.header.architecture},
                          {"strategy", internals.header.strategy},
                          {"record_every", internals.header.record_every},
                          {"step", r.step},
                          {"epoch", r.epoch},
                          {"lr", r.lr},
                          {"loss", r.loss},
                          {"series", std::move(series)}};
  return json.dump() + "\n";
}

int run_internals(const InternalsOptions& options) {
  if (options.is_json && options.is_csv) throw UsageError("internals: --json and --csv exclude each other; give one");
  const Internals internals = open_internals(options.run);
  const std::vector<InternalsSeries> series = chosen_series(internals, options.pattern);
  const std::string text = options.is_json  ? json_text(internals, series)
                           : options.is_csv ? internals_csv(internals, series)
                                            : internals_table(internals, series);
  if (options.output.empty())
    print_result(text);
  else
    write_atomically(options.output, text);
  return 0;
}

}  // namespace

void add_internals_verb(Command& program) {
  Command verb = program.verb("internals", "Show what happened inside a run: gradients, updates, drift");
  auto options = std::make_shared<InternalsOptions>();
  verb.argument("RUN", "Run directory of a training with --record-internals", options->run);
  verb.option({.flag = "--parameters",
               .group = "Output",
               .help = "beside the blocks, parameters and batch norms of matching names: '*', 'layer4.*.weight'"},
              options->pattern);
  verb.output_options(options->is_json, options->is_quiet);
  verb.option({.flag = "--csv", .group = "Output", .help = "print a line per record and row"}, options->is_csv);
  verb.option({.flag = "-o,--output", .group = "Output", .help = "write to this file instead"}, options->output);
  verb.example(
      "  graft train images/ --weights resnet50.h5 --strategy full --record-internals 10 -o runs/full\n"
      "  graft internals runs/full --csv -o internals.csv");
  verb.run([options] { return run_internals(*options); });
}

}  // namespace graft
