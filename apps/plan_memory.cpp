// graft plan-memory: what a training run needs of its device's memory, said before it starts.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/dataset.h"
#include "kernels/out_of_memory.h"
#include "strategies/analysis/memory_estimate.h"
#include "strategies/training/starting_model.h"

namespace graft {
namespace {

struct PlanMemoryOptions {
  SettingsOptions settings;
  std::string data;
  std::int64_t classes = 0;
  std::optional<double> fits_gib;
  bool is_json = false, is_quiet = false;
};

/// Architecture and head as the settings name them, classes of the data, the option or the model.
MemoryQuestion question_of(const PlanMemoryOptions& options, const TrainSettings& settings) {
  MemoryQuestion question{.settings = settings, .info = {}, .device = {}};
  ModelInfo& info = question.info;
  info.architecture = settings.arch;
  if (!settings.weights.empty()) info = read_model_info(settings.weights);
  if (info.architecture != settings.arch && options.settings.is_given_on_command_line("train.arch"))
    throw UsageError(fmt::format("train.arch: {} holds a {}, not a {}; leave --arch out", settings.weights,
                                 info.architecture, settings.arch));
  if (settings.head != "auto") info.head = settings.head;
  if (options.classes > 0) info.num_classes = options.classes;
  if (!settings.data.empty()) {
    const Dataset data = Dataset::open({.path = settings.data,
                                        .val_fraction = settings.val_fraction,
                                        .test_fraction = settings.test_fraction,
                                        .seed = std::uint64_t(settings.seed),
                                        .decodes_all = false});
    info.num_classes = std::ssize(data.class_names());
    question.images = std::ssize(data.indices(Split::train));
    question.validation_images = std::ssize(data.indices(Split::val));
  }
  info.class_names.clear();
  set_input_size(info, settings.size, settings.resize);
  // What is asked about need not be here.
  question.device = parse_device(settings.device);
  question.precision = precision_on(settings, question.device);
  return question;
}

std::string stage_text(const StageMemory& stage) {
  const auto line = [](std::string_view name, std::int64_t bytes, const std::string& comment) {
    return fmt::format("  {:<12} {:>9}{}{}\n", name, memory_text(bytes), comment.empty() ? "" : "   ", comment);
  };
  std::string text;
  for (std::size_t i = 0; i < kMemoryUseNames.size(); ++i)
    if (stage.peak.bytes[i] > 0) text += line(kMemoryUseNames[i], stage.peak.bytes[i], "");
  text += line("total", stage.peak.total(), stage.peak.range.empty() ? "" : "when most is needed: " + stage.peak.range);
  const double over = 100 * (double(stage.step.arena_bytes) / double(stage.step.most_live_bytes) - 1);
  text += line("planned", stage.step.arena_bytes,
               fmt::format("for one step, {:.1f} % more than lives together in it", over));
  return text + line("first step", stage.reserved_bytes, "is not planned yet and takes this, or less if there is less");
}

std::string plain_text(const MemoryQuestion& question, const std::vector<StageMemory>& stages) {
  const StageMemory& most = largest(stages);
  const TrainSettings& s = question.settings;
  std::string text = emphasised(fmt::format("{}, {}: {} images of {} x {} pixels on {}, {}", question.info.architecture,
                                            s.strategy, most.batch, question.info.input_size, question.info.input_size,
                                            to_string(question.device), to_string(question.precision)),
                                Emphasis::bold, stdout) +
                     "\n";
  if (stages.size() > 1) {
    TextTable table({"stage", "epochs", "total", "first step"});
    for (std::size_t i = 0; i < stages.size(); ++i)
      table.add({std::to_string(i + 1), fmt::format("{}-{}", stages[i].first_epoch, stages[i].last_epoch),
                 memory_text(stages[i].peak.total()), memory_text(stages[i].reserved_bytes)});
    text += table.text() + fmt::format("\nstage {}, which needs most:\n", &most - stages.data() + 1);
  }
  return text + stage_text(most);
}

std::string notes_text(const MemoryQuestion& question) {
  if (question.device.kind != DeviceKind::cuda)
    return "not counted: the program, decoded images and the loader's batches\n";
  const TrainSettings& s = question.settings;
  std::string text = "not counted: the CUDA context, and cuDNN's workspaces, which are known on the GPU alone";
  if (s.device_image_cache_mb < 0) text += "; images and kept features stay on the GPU in what is left";
  const bool may_fuse = architecture_of(question.info.architecture).family == Family::densenet &&
                        question.precision != Precision::f32 && question.precision != Precision::tf32 &&
                        s.fused_norms == "auto";
  if (may_fuse) text += "; where the GPU is faster with fused norms it needs less, as --set train.fused_norms=on shows";
  return text + "\n";
}

nlohmann::ordered_json json_of(const StageMemory& stage) {
  nlohmann::ordered_json peak = nlohmann::ordered_json::object();
  for (std::size_t i = 0; i < kMemoryUseNames.size(); ++i) peak[std::string(kMemoryUseNames[i])] = stage.peak.bytes[i];
  return {{"first_epoch", stage.first_epoch},
          {"last_epoch", stage.last_epoch},
          {"peak", std::move(peak)},
          {"peak_bytes", stage.peak.total()},
          {"peak_at", stage.peak.range},
          {"reserved_bytes", stage.reserved_bytes},
          {"step_bytes", stage.step.arena_bytes},
          {"step_lower_bound_bytes", stage.step.most_live_bytes}};
}

std::string json_text(const MemoryQuestion& question, const std::vector<StageMemory>& stages,
                      std::optional<std::int64_t> batch) {
  const TrainSettings& s = question.settings;
  nlohmann::ordered_json all{
      {"architecture", question.info.architecture}, {"strategy", s.strategy},
      {"classes", question.info.num_classes},       {"batch", largest(stages).batch},
      {"size", question.info.input_size},           {"device", to_string(question.device)},
      {"precision", to_string(question.precision)}, {"recompute", s.recompute},
      {"peak_bytes", largest(stages).peak.total()}, {"reserved_bytes", largest(stages).reserved_bytes},
      {"stages", nlohmann::ordered_json::array()}};
  for (const StageMemory& stage : stages) all["stages"].push_back(json_of(stage));
  if (batch) all["largest_batch"] = *batch;
  return all.dump() + "\n";
}

int run_plan_memory(PlanMemoryOptions& options) {
  if (!options.data.empty()) options.settings.set_flag("train.data", options.data);
  MemoryQuestion question = question_of(options, options.settings.resolve());
  std::optional<std::int64_t> batch;
  if (options.fits_gib) {
    question.limit_bytes = std::llround(*options.fits_gib * double(1 << 30));
    batch = largest_batch(question);
    if (*batch == 0)
      throw Error(fmt::format("plan-memory: not even one image fits into {}; use a smaller --size or --recompute norms",
                              memory_text(question.limit_bytes)));
    question.settings.batch = *batch;
  }
  const std::vector<StageMemory> stages = estimate_memory(question);
  if (options.is_json) return print_result(json_text(question, stages, batch)), 0;
  std::string text = plain_text(question, stages);
  if (batch)
    text = (*batch == question.images ? fmt::format("--batch {}, all training images, fits into {}\n\n", *batch,
                                                    memory_text(question.limit_bytes))
                                      : fmt::format("--batch {} fits into {} (to within 2 %)\n\n", *batch,
                                                    memory_text(question.limit_bytes))) +
           text;
  print_result(text);
  if (!options.is_quiet) print_note(notes_text(question));
  return 0;
}

}  // namespace

void add_plan_memory_verb(Command& program) {
  Command verb = program.verb("plan-memory", "Say what memory a training run needs, before it starts");
  auto options = std::make_shared<PlanMemoryOptions>();
  verb.argument("[DATA]", "images, if there are any: their classes and number", options->data);
  verb.option(
      {.flag = "--classes", .group = "Model", .help = "classes, where there is no DATA; 0 is the model's", .min = 0},
      options->classes);
  verb.option({.flag = "--fits",
               .group = "Run",
               .help = "find the largest batch that a device with this much memory takes, in GiB",
               .min = 0,
               .excludes_min = true},
              options->fits_gib);
  options->settings.add_all_but(
      verb, {"train.output", "train.resume", "train.overwrite", "train.from_scratch", "train.new_head",
             "train.max_steps", "train.monitor", "train.feature_cache_dir", "train.loader_threads",
             "train.record_every", "train.tensorboard", "train.probe_from"});
  verb.output_options(options->is_json, options->is_quiet);
  verb.example(
      "  graft plan-memory --arch densenet121 --batch 256 --device cuda --recompute norms\n"
      "  graft plan-memory images/ --weights resnet50.h5 --strategy full --fits 24");
  verb.run([options] { return run_plan_memory(*options); });
}

}  // namespace graft
