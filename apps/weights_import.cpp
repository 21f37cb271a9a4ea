// graft weights import: another program's weights into a graft model file.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/interrupt.h"
#include "apps/model_text.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/model_file.h"
#include "data/weight_import.h"

namespace graft {
namespace {

struct ImportOptions {
  ImportRequest request;
  std::string input, output, labels, intensity_window;
  bool is_json = false, is_quiet = false;
};

std::string json_text(const ImportedWeights& imported, const std::string& output) {
  const ModelInfo& info = imported.info;
  using json = nlohmann::ordered_json;
  const json report{{"file", output},
                    {"format", imported.format},
                    {"recognised", imported.recognised},
                    {"architecture", info.architecture},
                    {"tensors", imported.weights.size()},
                    {"values", imported.weights.element_total()},
                    {"num_classes", info.num_classes},
                    {"stride_on", info.stride_on},
                    {"bn_epsilon", info.bn_epsilon},
                    {"channel_order", info.channel_order},
                    {"input_scale", info.input_scale},
                    {"resize", info.resize},
                    {"input_size", info.input_size},
                    {"intensity_window", info.window ? json(to_string(*info.window)) : json()},
                    {"task", info.is_multi_label ? json(kMultiLabelTask) : json()},
                    {"source_sha256", info.source_sha256},
                    {"random_tensors", info.random_tensors}};
  return report.dump() + "\n";
}

std::string plain_text(const ImportedWeights& imported, const std::string& output) {
  const ModelInfo& info = imported.info;
  return fmt::format(
      "{}: {}, {} tensors with {} values, {} classes{}{}\n"
      "  from       {} ({})\n"
      "  sha256     {}\n"
      "  input      {}\n"
      "  layers     {}\n",
      output, info.architecture, imported.weights.size(), imported.weights.element_total(), info.num_classes,
      info.class_names.empty() ? " without names" : "", info.is_multi_label ? ", any number of them per image" : "",
      info.source,
      imported.recognised.empty() ? imported.format + ", not a file known by its hash" : imported.recognised,
      info.source_sha256, input_text(info), layers_text(info));
}

/// A name given by mistake must not cost a file.
void check_output(const ImportOptions& options) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_directory(options.output, error))
    throw UsageError(fmt::format("weights import: {} is a folder; -o expects a file name", options.output));
  if (!fs::exists(options.output, error)) return;
  const auto is_model = [&] {
    try {
      return is_model_file(Hdf5File::open(options.output));
    } catch (const Error&) {
      return false;
    }
  };
  if (!is_model())
    throw UsageError(fmt::format("weights import: {} exists and is no graft model file; choose another -o or remove it",
                                 options.output));
}

/// What was taken for granted, since nothing said otherwise.
std::string assumptions_text(const ImportRequest& request, const ImportedWeights& imported) {
  if (imported.says_input || !imported.recognised.empty()) return {};
  std::vector<std::string> assumed;
  if (!request.stride_on && architecture_of(imported.info.architecture).has_bottlenecks)
    assumed.push_back(
        "strides are on the 3x3 convolutions (--stride-on 1x1 for the first ResNets, of Caffe and Keras)");
  if (!request.preprocess)
    assumed.push_back("images are normalised as in torchvision (--preprocess caffe for weights from Caffe or Keras)");
  if (assumed.empty()) return {};
  return fmt::format("taken for granted, since the file does not say: {}. If it is wrong, predictions are poor",
                     fmt::join(assumed, "; "));
}

int run_import(ImportOptions& options) {
  ImportRequest& request = options.request;
  request.window = parse_intensity_window(options.intensity_window, "--intensity-window");
  if (options.input.empty()) throw UsageError("weights import: no input given; name a weight file");
  if (options.output.empty()) throw UsageError("weights import: no output given; add -o OUT.h5");
  if (request.architecture.empty()) throw UsageError("weights import: add --arch " + architecture_list());
  check_output(options);
  request.path = options.input;
  request.labels = options.labels;
  const ImportedWeights imported = import_weights(request);
  {
    const StopLater until_the_file_is_whole;
    write_model_file(options.output, imported.info, imported.weights);
    if (until_the_file_is_whole.is_requested()) return kExitInterrupted;
  }
  if (!imported.info.random_tensors.empty() && !options.is_quiet) {
    print_note(fmt::format("{} tensors are not in the file and start at random:", imported.info.random_tensors.size()));
    for (const std::string& name : imported.info.random_tensors) print_note("  " + name);
  }
  if (const std::string text = assumptions_text(request, imported); !text.empty() && !options.is_quiet)
    print_note(text);
  print_result(options.is_json ? json_text(imported, options.output) : plain_text(imported, options.output));
  return 0;
}

}  // namespace

void add_weights_import_verb(Command& weights) {
  Command verb = weights.verb("import", "Convert .pth, safetensors or Keras .h5 into a graft model file");
  auto options = std::make_shared<ImportOptions>();
  ImportRequest& request = options->request;
  verb.argument("IN", "Weight file", options->input);
  verb.option({.flag = "-o,--output", .group = "Files", .help = "model file to write"}, options->output);
  verb.option({.flag = "--format",
               .group = "Files",
               .help = "format of IN",
               .choices = {"auto", "pth", "safetensors", "keras"}},
              request.format);
  verb.option({.flag = "--labels", .group = "Files", .help = "class names: JSON, or one a line"}, options->labels);
  verb.option({.flag = "--arch",
               .group = "Network",
               .help = "which network the weights are for: " + architecture_list(),
               .choices = {architecture_names().begin(), architecture_names().end()}},
              request.architecture);
  verb.option({.flag = "--stride-on",
               .group = "Network",
               .help = "strided convolution of a ResNet block; 3x3 unless IN says",
               .choices = {"3x3", "1x1"}},
              request.stride_on);
  verb.option({.flag = "--bn-epsilon",
               .group = "Network",
               .help = "batch-norm epsilon; 1e-5 unless IN says",
               .min = 0,
               .excludes_min = true},
              request.bn_epsilon);
  verb.option({.flag = "--partial", .group = "Network", .help = "missing tensors start at random"}, request.is_partial);
  verb.option({.flag = "--preprocess",
               .group = "Input",
               .help = "normalisation; torch unless IN says",
               .choices = {"torch", "caffe", "none"}},
              request.preprocess);
  verb.option({.flag = "--multi-label",
               .group = "Network",
               .help = "any number of classes per image: logits are for sigmoids, not for softmax"},
              request.is_multi_label);
  verb.option(
      {.flag = "--intensity-window",
       .group = "Input",
       .help = "LOW,HIGH: numbers of 16-bit files that are black and white; without it their high byte is taken"},
      options->intensity_window);
  verb.option({.flag = "--resize", .group = "Input", .help = "shorter side before the crop in pixels; 256", .min = 1},
              request.resize);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example("  graft weights import resnet50-0676ba61.pth -o resnet50.h5 --arch resnet50 --labels imagenet.json");
  verb.run([options] { return run_import(*options); });
}

}  // namespace graft
