// graft explain: where in an image a model finds what speaks for a class, as pictures (Grad-CAM).
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/progress_display.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/dataset.h"
#include "data/files.h"
#include "strategies/analysis/grad_cam.h"
#include "strategies/training/trained_model.h"

namespace graft {
namespace {

struct ExplainOptions {
  SettingsOptions settings;
  std::string model, output, class_text;
  std::vector<std::string> images;
  bool is_json = false, is_quiet = false;
};

struct Explained {
  std::string path, overlay;
  ClassEvidence evidence;
};

std::string label_of(const ModelInfo& info, std::int64_t index) {
  return info.class_names.empty() ? fmt::format("class {}", index) : info.class_names[std::size_t(index)];
}

/// A class by its name, else by its number; -1 for no text. Errors (UsageError): neither.
std::int64_t class_index(const ModelInfo& info, const std::string& text) {
  if (text.empty()) return -1;
  const std::vector<std::string>& names = info.class_names;
  if (const auto found = std::ranges::find(names, text); found != names.end()) return found - names.begin();
  std::int64_t index = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error == std::errc() && end == text.data() + text.size() && index >= 0 && index < info.num_classes) return index;
  const std::string near = nearest_name(text, {names.begin(), names.end()});
  throw UsageError(fmt::format("--class: the model has no class '{}'; {}", text,
                               near.empty() ? fmt::format("give a name or a number from 0 to {}", info.num_classes - 1)
                                            : "did you mean '" + near + "'?"));
}

/// DIR/<stem>.class-<index>.png; a second image of one name gets a number.
std::string overlay_path(const ExplainOptions& options, const std::string& image, std::int64_t index,
                         std::set<std::string>& used) {
  const std::string stem = std::filesystem::path(image).stem().string();
  std::string name = fmt::format("{}.class-{}.png", stem, index);
  for (int copy = 2; !used.insert(name).second; ++copy) name = fmt::format("{}-{}.class-{}.png", stem, copy, index);
  return (std::filesystem::path(options.output) / name).string();
}

std::string json_text(const std::string& model, const ModelInfo& info, const std::vector<Explained>& all) {
  using nlohmann::ordered_json;
  ordered_json images = ordered_json::array();
  for (const auto& [path, overlay, e] : all) {
    ordered_json rows = ordered_json::array();
    for (auto row = e.evidence.begin(); row != e.evidence.end(); row += e.columns)
      rows.push_back(std::vector<double>(row, row + e.columns));
    images.push_back({{"path", path},
                      {"index", e.class_index},
                      {"label", label_of(info, e.class_index)},
                      {"probability", e.probability},
                      {"overlay", overlay},
                      {"evidence", std::move(rows)}});
  }
  const ordered_json json{{"model", model}, {"images", std::move(images)}};
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string plain_text(const ModelInfo& info, const std::vector<Explained>& all) {
  std::string text;
  for (const auto& [path, overlay, e] : all)
    text += fmt::format("{}  {:.2f} %  {} ({})\n", overlay, 100 * e.probability, label_of(info, e.class_index), path);
  return text;
}

int run_explain(ExplainOptions& options) {
  if (options.model.empty()) throw UsageError("explain: no model given; name a run directory or a model file");
  if (options.images.empty()) throw UsageError("explain: no images given; name files or folders after the model");
  if (options.output.empty()) throw UsageError("explain: no folder for the pictures given; add -o DIR");
  TrainSettings settings = options.settings.resolve();
  std::vector<std::string> files;
  for (const std::string& path : options.images)
    for (const std::filesystem::path& file : list_images(path)) files.push_back(file.string());

  Session session = open_session(settings);
  ProgressDisplay progress(options.is_quiet, session.heading);
  const std::filesystem::path model = model_file_of(options.model);
  Explainer explainer(*session.context, model, settings.size);
  const std::int64_t asked = class_index(explainer.info(), options.class_text);

  constexpr std::size_t kBatch = 8;
  std::vector<Explained> all;
  std::set<std::string> used;
  for (std::size_t first = 0; first < files.size(); first += kBatch) {
    const auto batch = std::span(files).subspan(first, std::min(kBatch, files.size() - first));
    for (const GradCam& e : explainer.explain(batch, std::vector<std::int64_t>(batch.size(), asked))) {
      const std::string& file = files[all.size()];
      if (std::ranges::max(e.map) == 0)
        progress.note(fmt::format("{}: nothing speaks for {}", file, label_of(explainer.info(), e.class_index)));
      all.push_back({file, overlay_path(options, file, e.class_index, used), e});
      write_atomically(all.back().overlay, encode_png(overlay(e)));
    }
    progress.advance({.pass = "explain", .done = std::ssize(all), .total = std::ssize(files)});
  }
  progress.end_pass();
  print_result(options.is_json ? json_text(model.string(), explainer.info(), all) : plain_text(explainer.info(), all));
  return 0;
}

}  // namespace

void add_explain_verb(Command& program) {
  Command verb = program.verb("explain", "Show where in an image a class is found (Grad-CAM)");
  auto options = std::make_shared<ExplainOptions>();
  verb.argument("MODEL", "Run directory or model file", options->model);
  verb.arguments("IMAGE", "Files and folders, searched to the bottom", options->images);
  verb.option({.flag = "-o,--output", .group = "Output", .help = "folder for the pictures, NAME.class-INDEX.png"},
              options->output);
  verb.option(
      {.flag = "--class", .group = "Output", .help = "name or index of the class (default: the most probable one)"},
      options->class_text);
  verb.output_options(options->is_json, options->is_quiet);
  options->settings.add_to(verb, {"train.size", "train.device", "train.threads", "train.seed", "train.precision"});
  verb.example(
      "  graft explain runs/first images/test/ -o maps/\n"
      "  graft explain resnet50.h5 cat.jpg --class \"tiger cat\" -o maps/");
  verb.run([options] { return run_explain(*options); });
}

}  // namespace graft
