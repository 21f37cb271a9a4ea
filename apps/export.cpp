// graft export: a model for other programs.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/interrupt.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/pth.h"
#include "data/safetensors.h"
#include "models/onnx_graph.h"
#include "strategies/training/run_export.h"
#include "strategies/training/trained_model.h"

namespace graft {
namespace {

struct ExportOptions {
  std::string model, output, to = "file";
  bool is_json = false, is_quiet = false;
};

/// What a reader of bare weights must know to build the network around them.
std::map<std::string, std::string> metadata_of(const ModelInfo& info) {
  std::map<std::string, std::string> metadata = model_metadata(info);
  metadata["format"] = "pt";  // row-major, as PyTorch lays tensors out: what Hugging Face's loaders look for
  return metadata;
}

/// How the network differs from torchvision's with the same weights; a line each.
std::vector<std::string> differences(const ModelInfo& info) {
  std::vector<std::string> lines;
  if (info.stride_on == "1x1" && architecture_of(info.architecture).has_bottlenecks)
    lines.push_back("strides are on the 1x1 convolutions: swap conv1's and conv2's in layer2.0, layer3.0 and layer4.0");
  if (info.bn_epsilon != ModelInfo{}.bn_epsilon && architecture_of(info.architecture).has_norms)
    lines.push_back(fmt::format("batch norms have an epsilon of {:g}", info.bn_epsilon));
  if (info.head == "gap")
    lines.push_back("the head is one linear layer 512 to classes behind a global average pooling");
  if (info.window)
    lines.push_back(fmt::format("images of 16 bits: {} is black and {} is white", info.window->low, info.window->high));
  if (info.is_multi_label)
    lines.push_back("an image may have several labels: the sigmoid of a logit is the probability of its class");
  const ModelInfo torch;
  if (info.channel_order != torch.channel_order || info.input_scale != torch.input_scale || info.mean != torch.mean ||
      info.std != torch.std)
    lines.push_back(fmt::format("images: {}, value / {:g}, mean {:g} {:g} {:g}, std {:g} {:g} {:g}", info.channel_order,
                                info.input_scale, info.mean[0], info.mean[1], info.mean[2], info.std[0], info.std[1],
                                info.std[2]));
  return lines;
}

struct FileFormat {
  std::string_view suffix, name;
  void (*write)(const std::filesystem::path&, const ModelFile&);
};

void write_graph(const std::filesystem::path& path, const ModelFile& file) { write_onnx(path, onnx_graph(file)); }
void write_tensors(const std::filesystem::path& path, const ModelFile& file) {
  WeightTable weights = file.weights;
  weights.metadata = metadata_of(file.info);
  write_safetensors(path, weights);
}
void write_state_dict(const std::filesystem::path& path, const ModelFile& file) { write_pth(path, file.weights); }

constexpr FileFormat kFormats[] = {{".onnx", "onnx", write_graph},
                                   {".safetensors", "safetensors", write_tensors},
                                   {".pth", "pth", write_state_dict},
                                   {".pt", "pth", write_state_dict}};

const FileFormat& format_of(const std::string& output) {
  const std::string suffix = std::filesystem::path(output).extension().string();
  for (const FileFormat& format : kFormats)
    if (format.suffix == suffix) return format;
  throw UsageError(
      fmt::format("export: {} does not say a format; end the name in .onnx, .safetensors or .pth", output));
}

/// A run's results, for another tool.
int export_results(const ExportOptions& options) {
  if (!std::filesystem::is_directory(options.model))
    throw UsageError(
        fmt::format("export: {} is no run directory; --to {} takes the results of a run", options.model, options.to));
  std::vector<std::filesystem::path> written;
  if (options.to == "medmnist")
    written = export_medmnist(options.model, options.output);
  else
    written = {export_mlflow(options.model, options.output)};
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  std::string text;
  for (const std::filesystem::path& path : written) {
    files.push_back(path.string());
    text += path.string() + "\n";
  }
  print_result(options.is_json
                   ? nlohmann::ordered_json{{"run", options.model}, {"to", options.to}, {"files", files}}.dump() + "\n"
                   : text);
  return 0;
}

int run_export(const ExportOptions& options) {
  if (options.model.empty()) throw UsageError("export: no model given; name a run directory or a model file");
  if (options.output.empty() && options.to != "file")
    throw UsageError(fmt::format("export: no folder given; add -o DIR for --to {}", options.to));
  if (options.output.empty()) throw UsageError("export: no output given; add -o FILE.onnx, .safetensors or .pth");
  if (options.to != "file") return export_results(options);
  const FileFormat& format = format_of(options.output);
  if (std::filesystem::is_directory(options.output))
    throw UsageError(fmt::format("export: {} is a folder; -o expects a file name", options.output));
  const std::filesystem::path path = model_file_of(options.model);
  const ModelFile file = read_model_file(path);
  if (const auto& random = file.info.random_tensors; !random.empty())
    throw Error(
        fmt::format("export: {} tensors of {}, such as {}, start at random and are not in the file; train it first",
                    random.size(), path.string(), random.front()));
  {
    const StopLater until_the_file_is_whole;
    format.write(options.output, file);
    if (until_the_file_is_whole.is_requested()) return kExitInterrupted;
  }
  const std::int64_t bytes = std::int64_t(std::filesystem::file_size(options.output));
  const std::vector<std::string> notes = format.name == "onnx" ? std::vector<std::string>{} : differences(file.info);
  if (options.is_json) {
    const nlohmann::ordered_json json{{"model", path.string()},
                                      {"file", options.output},
                                      {"format", format.name},
                                      {"bytes", bytes},
                                      {"architecture", file.info.architecture},
                                      {"num_classes", file.info.num_classes},
                                      {"differences", notes}};
    print_result(json.dump() + "\n");
    return 0;
  }
  print_result(fmt::format("{}: {} with {} classes, {}\n", options.output, file.info.architecture,
                           file.info.num_classes, bytes_text(bytes)));
  if (options.is_quiet || notes.empty()) return 0;
  print_note(fmt::format("beside torchvision's {}:", file.info.architecture));
  for (const std::string& line : notes) print_note("  " + line);
  return 0;
}

}  // namespace

void add_export_verb(Command& program) {
  Command verb = program.verb("export", "Write a model or a run's results for other programs");
  auto options = std::make_shared<ExportOptions>();
  verb.argument("MODEL", "Run directory or model file", options->model);
  verb.option(
      {.flag = "-o,--output", .group = "Output", .help = "file to write, .onnx, .safetensors or .pth; or folder"},
      options->output);
  verb.option({.flag = "--to",
               .group = "Output",
               .help = "file: the model; of a run also its results, into the folder -o: medmnist is MedMNIST's score "
                       "files, mlflow a file store",
               .choices = {"file", "medmnist", "mlflow"}},
              options->to);
  verb.output_options(options->is_json, options->is_quiet);
  verb.example(
      "  graft export runs/full -o model.onnx\n"
      "  graft export resnet50.h5 -o resnet50.safetensors\n"
      "  graft export runs/full --to mlflow -o mlruns");
  verb.run([options] { return run_export(*options); });
}

}  // namespace graft
