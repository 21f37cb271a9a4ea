// graft data inspect: counts, sizes, duplicates, leaks and damage of an image set.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/inspect.h"
#include "kernels/usable_cores.h"

namespace graft {
namespace {

struct DataInspectOptions {
  std::string data, intensity_window;
  double val_fraction = 0.2, test_fraction = 0.2;
  std::int64_t seed = 0, threads = 0;
  bool is_json = false, is_quiet = false;
};

std::vector<std::string> paths_of(const Dataset& data, const DuplicateSet& set) {
  std::vector<std::string> paths;
  for (std::int64_t i : set.samples) paths.push_back(data.samples()[static_cast<std::size_t>(i)].path);
  return paths;
}

bool has_no_label(const Dataset& data, const Sample& sample) {
  return data.label_sets().classes_of(sample.label).empty();
}

std::string json_text(const Dataset& data, const DataReport& report, const std::string& path) {
  using nlohmann::ordered_json;
  ordered_json all{
      {"path", path}, {"images", data.size()}, {"classes", report.class_names}, {"multi_label", data.is_multi_label()}};
  for (Split split : kSplits) {
    ordered_json counts = ordered_json::object();
    const auto& row = report.counts[static_cast<std::size_t>(split)];
    for (std::size_t c = 0; c < row.size(); ++c) counts[report.class_names[c]] = row[c];
    all["counts"][std::string(to_string(split))] = std::move(counts);
    if (data.is_multi_label())
      all["without_label"][std::string(to_string(split))] = std::ranges::count_if(
          data.samples(), [&](const Sample& s) { return s.split == split && has_no_label(data, s); });
  }
  all["sizes"] = ordered_json::array();
  for (const auto& [size, count] : report.sizes) {
    all["sizes"].push_back({{"width", size.first}, {"height", size.second}, {"images", count}});
  }
  all["modes"] = report.modes;
  if (!report.intensity_advice.empty()) all["intensity_advice"] = report.intensity_advice;
  all["grey_images"] = report.grey_images;
  all["groups"] = report.groups;
  all["duplicates"] = ordered_json::array();
  for (const DuplicateSet& set : report.duplicates) {
    all["duplicates"].push_back({{"paths", paths_of(data, set)},
                                 {"crosses_splits", set.crosses_splits},
                                 {"crosses_classes", set.crosses_classes}});
  }
  all["near_duplicate_pairs"] = report.near_pairs;
  all["leaks"] = ordered_json::parse(to_json(report.leaks));
  all["notes"] = data.notes();
  all["training_obstacle"] = data.training_obstacle();
  all["unreadable"] = ordered_json::array();
  for (const BadImage& bad : report.unreadable) {
    all["unreadable"].push_back({{"path", bad.path}, {"reason", bad.reason}});
  }
  return all.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string sizes_text(const DataReport& report) {
  if (report.sizes.size() > 6) {  // a summary reads better than a long list, which --json has
    std::int64_t low_w = INT64_MAX, high_w = 0, low_h = INT64_MAX, high_h = 0;
    for (const auto& [size, count] : report.sizes) {
      low_w = std::min(low_w, size.first), high_w = std::max(high_w, size.first);
      low_h = std::min(low_h, size.second), high_h = std::max(high_h, size.second);
    }
    return fmt::format("{} sizes, {} to {} wide, {} to {} high", report.sizes.size(), low_w, high_w, low_h, high_h);
  }
  std::string text;
  for (const auto& [size, count] : report.sizes) {
    text += fmt::format("{}{} of {}x{}", text.empty() ? "" : ", ", count, size.first, size.second);
  }
  return text;
}

/// What training would refuse; equal images are listed above already.
std::string leaks_section(const LeakageReport& leaks) {
  if (leaks.is_clean()) return "leaks       none between splits\n";
  constexpr std::int64_t kShown = 10;  // --json has all
  std::string text = "leaks       between splits; graft train refuses them unless --allow-leaks names them\n", line;
  std::istringstream lines(leaks_text(leaks, {}, kShown));
  while (std::getline(lines, line)) text += "  " + line + "\n";
  return text;
}

std::string plain_text(const Dataset& data, const DataReport& report, const std::string& path) {
  std::string text = fmt::format("{}: {} images, {} classes{}\n\n", path, data.size(), report.class_names.size(),
                                 data.is_multi_label() ? ", any number of them per image" : "");
  TextTable table({"class", "train", "val", "test"});
  const auto row_of = [&](const char* name, const auto& is_counted) {
    std::vector<std::string> row{name};
    for (const Split split : kSplits)
      row.push_back(std::to_string(
          std::ranges::count_if(data.samples(), [&](const Sample& s) { return s.split == split && is_counted(s); })));
    return row;
  };
  for (std::size_t c = 0; c < report.class_names.size(); ++c) {
    std::vector<std::string> row{report.class_names[c]};
    for (std::size_t s = 0; s < 3; ++s) row.push_back(std::to_string(report.counts[s][c]));
    table.add(std::move(row));
  }
  if (data.is_multi_label()) table.add(row_of("none of them", [&](const Sample& s) { return has_no_label(data, s); }));
  table.add(row_of("all", [](const Sample&) { return true; }));
  text += table.text() + fmt::format("\nsizes       {}\nmodes      ", sizes_text(report));
  for (const auto& [mode, count] : report.modes) text += fmt::format(" {} of {};", count, mode);
  text.back() = '\n';
  if (!report.intensity_advice.empty()) text += "intensity   " + report.intensity_advice + "\n";
  if (report.grey_images > 0) text += fmt::format("grey        {} images\n", report.grey_images);
  if (report.groups > 0) text += fmt::format("groups      {}\n", report.groups);

  const auto crossing = std::count_if(report.duplicates.begin(), report.duplicates.end(),
                                      [](const DuplicateSet& set) { return set.crosses_splits; });
  text += fmt::format("duplicates  {} sets of equal images, {} of them across splits\n", report.duplicates.size(),
                      crossing);
  for (const DuplicateSet& set : report.duplicates) {
    text += fmt::format("  {}{}{}\n", fmt::join(paths_of(data, set), " = "),
                        set.crosses_splits ? "  (across splits)" : "", set.crosses_classes ? "  (across classes)" : "");
  }
  text += fmt::format("near pairs  {} of nearly equal images, {} of them across splits\n", report.near_pairs,
                      report.leaks.count(LeakKind::near_duplicates).pairs);
  text += leaks_section(report.leaks);
  for (const std::string& note : data.notes()) text += "note        " + note + "\n";
  if (const std::string obstacle = data.training_obstacle(); !obstacle.empty())
    text += "training    graft train refuses this: " + obstacle + "\n";
  text += fmt::format("unreadable  {}{}\n", report.unreadable.size(),
                      report.unreadable.empty() ? ""
                                                : ", among those counted above; graft train refuses this unless "
                                                  "--skip-bad leaves them out");
  for (const BadImage& bad : report.unreadable) text += fmt::format("  {}: {}\n", bad.path, bad.reason);
  return text;
}

int run_inspect(const DataInspectOptions& options) {
  if (options.data.empty()) throw UsageError("data inspect: no data given; name a folder, a CSV or an .npz");
  const auto window = parse_intensity_window(options.intensity_window, "--intensity-window");
  const int threads = options.threads > 0 ? static_cast<int>(options.threads) : usable_cores();
  const Dataset data = Dataset::open({.path = options.data,
                                      .val_fraction = options.val_fraction,
                                      .test_fraction = options.test_fraction,
                                      .seed = static_cast<std::uint64_t>(options.seed),
                                      .skip_bad = true,
                                      .decodes_all = false,
                                      .for_training = false,
                                      .finds_copies = true,
                                      .threads = threads,
                                      .window = window});
  const DataReport report = inspect(data, threads, window);
  print_result(options.is_json ? json_text(data, report, options.data) : plain_text(data, report, options.data));
  return 0;
}

}  // namespace

void add_data_inspect_verb(Command& data) {
  Command verb = data.verb("inspect", "Count classes and splits; find duplicates, leaks and unreadable files");
  auto options = std::make_shared<DataInspectOptions>();
  verb.argument("DATA", "Folder, CSV or .npz", options->data);
  const auto share = [](const char* flag, const char* help) {
    return SettingInfo{.flag = flag, .group = "Data", .help = help, .min = 0, .max = 1, .excludes_max = true};
  };
  verb.option(share("--val-fraction", "share held out where there is no val/"), options->val_fraction);
  verb.option(share("--test-fraction", "share held out where there are no splits"), options->test_fraction);
  verb.option({.flag = "--intensity-window", .group = "Data", .help = "LOW,HIGH: as training would be told"},
              options->intensity_window);
  verb.option({.flag = "--seed", .group = "Data", .help = "of the split", .min = 0}, options->seed);
  verb.option({.flag = "--threads", .group = "Data", .help = "threads that decode; 0 is all cores", .min = 0},
              options->threads);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example("  graft data inspect images/");
  verb.run([options] { return run_inspect(*options); });
}

}  // namespace graft
