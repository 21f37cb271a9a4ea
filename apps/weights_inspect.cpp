// graft weights inspect: what a weight file of any known format holds.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/model_text.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/weight_import.h"
#include "strategies/training/trained_model.h"

namespace graft {
namespace {

struct WeightsInspectOptions {
  std::string file;
  bool is_json = false, is_quiet = false;
};

std::string network_text(const NetworkShape& network) {
  if (network.architecture.empty()) return "none of " + architecture_list();
  return fmt::format("{}, {} classes, {} head", network.architecture, network.num_classes, network.head);
}

nlohmann::ordered_json info_json(const ModelInfo& info) {
  return {{"stride_on", info.stride_on},
          {"bn_epsilon", info.bn_epsilon},
          {"input_size", info.input_size},
          {"resize", info.resize},
          {"channel_order", info.channel_order},
          {"input_scale", info.input_scale},
          {"mean", info.mean},
          {"std", info.std},
          {"intensity_window", info.window ? nlohmann::ordered_json(to_string(*info.window)) : nullptr},
          {"class_names", info.class_names},
          {"task", info.is_multi_label ? nlohmann::ordered_json(kMultiLabelTask) : nullptr},
          {"source", info.source},
          {"source_sha256", info.source_sha256},
          {"random_tensors", info.random_tensors}};
}

std::string json_text(const WeightFileReport& report, const std::string& file) {
  using nlohmann::ordered_json;
  ordered_json all{{"file", file},
                   {"format", report.format},
                   {"bytes", report.bytes},
                   {"sha256", report.sha256},
                   {"recognised", report.recognised},
                   {"values", report.value_count},
                   {"values_sha256", report.values_sha256}};
  all["architecture"] = report.network.architecture;
  if (!report.network.architecture.empty()) {
    all["num_classes"] = report.network.num_classes;
    all["head"] = report.network.head;
  }
  if (report.info) all["model"] = info_json(*report.info);
  all["tensors"] = ordered_json::array();
  for (const auto& t : report.tensors) {
    all["tensors"].push_back({{"name", t.name}, {"shape", t.shape}, {"dtype", to_string(t.stored_dtype)}});
  }
  all["skipped"] = ordered_json::array();
  for (const SkippedTensor& t : report.skipped) {
    all["skipped"].push_back({{"name", t.name}, {"shape", t.shape}, {"dtype", t.dtype}});
  }
  for (const char* kind : {"missing", "extra"}) {
    all[kind] = ordered_json::array();
    const auto& list = std::string_view(kind) == "missing" ? report.comparison.missing : report.comparison.extra;
    for (const NamedShape& t : list) all[kind].push_back({{"name", t.name}, {"shape", t.shape}});
  }
  all["mismatched"] = ordered_json::array();
  for (const Mismatch& m : report.comparison.mismatched) {
    all["mismatched"].push_back({{"name", m.name}, {"expected", m.expected}, {"got", m.got}});
  }
  all["metadata"] = report.metadata;
  return all.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

/// A value of the file's metadata in one line; of a long list, such as class names, its first items and their number.
std::string metadata_text(const std::string& value) {
  constexpr std::size_t kMostBytes = 200, kFirstItems = 3;
  if (value.size() <= kMostBytes) return value;
  const auto list = nlohmann::json::parse(value, nullptr, false);
  if (list.is_array() && list.size() > kFirstItems) {
    std::string text;
    for (std::size_t i = 0; i < kFirstItems; ++i) text += list[i].dump() + ", ";
    return text + fmt::format("… ({}; --json has all)", list.size());
  }
  std::size_t end = kMostBytes;
  while (end > 0 && (value[end] & 0xC0) == 0x80) --end;  // not within a character
  return value.substr(0, end) + fmt::format("… ({} bytes; --json has all)", value.size());
}

std::string plain_text(const WeightFileReport& report, const std::string& file) {
  std::string text = fmt::format("{}: {}, {}, {} tensors with {} values\n", file, report.format,
                                 bytes_text(report.bytes), report.tensors.size(), report.value_count);
  text += fmt::format("  sha256   {}\n  values   {} (SHA-256 of names and values alone)\n  network  {}\n",
                      report.sha256, report.values_sha256, network_text(report.network));
  if (!report.recognised.empty()) text += fmt::format("  known as {}\n", report.recognised);
  if (const auto& info = report.info) {
    text += fmt::format("  input    {}\n  layers   {}\n  source   {} {}\n", input_text(*info), layers_text(*info),
                        info->source, info->source_sha256);
    if (!info->random_tensors.empty()) text += fmt::format("  random   {} tensors\n", info->random_tensors.size());
  }
  for (const auto& [key, value] : report.metadata) text += fmt::format("  {}: {}\n", key, metadata_text(value));

  TextTable table({"tensor", "shape", "type"});
  table.align_left(1), table.align_left(2);
  for (const auto& t : report.tensors) {
    table.add({t.name, dimensions_text(t.shape), std::string(to_string(t.stored_dtype))});
  }
  for (const SkippedTensor& t : report.skipped) table.add({t.name, dimensions_text(t.shape), t.dtype + " (not used)"});
  text += "\n" + table.text();
  if (!report.network.architecture.empty()) {
    text += report.comparison.is_equal() ? "\nnothing is missing\n" : "\n" + comparison_text(report.comparison, 1000);
  }
  if (text.back() != '\n') text += '\n';
  return text;
}

}  // namespace

void add_weights_inspect_verb(Command& weights) {
  Command verb = weights.verb("inspect", "Show what a weight file holds and what is missing");
  auto options = std::make_shared<WeightsInspectOptions>();
  verb.argument("FILE", "Weight file: .pth, safetensors, Keras .h5 or graft model file; or run directory",
                options->file);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example("  graft weights inspect resnet50.h5");
  verb.run([options] {
    if (options->file.empty()) throw UsageError("weights inspect: no file given; name a weight file");
    if (std::filesystem::is_directory(options->file)) options->file = model_file_of(options->file).string();
    const WeightFileReport report = inspect_weights(options->file);
    print_result(options->is_json ? json_text(report, options->file) : plain_text(report, options->file));
    return 0;
  });
}

}  // namespace graft
