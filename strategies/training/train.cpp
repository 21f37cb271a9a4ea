#include "strategies/training/train.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "kernels/build_info.h"
#include "kernels/out_of_memory.h"
#include "models/network_io.h"
#include "strategies/batches/images_ahead.h"
#include "strategies/batches/leak_check.h"
#include "strategies/training/environment.h"
#include "strategies/training/evaluation.h"
#include "strategies/training/finished_run.h"
#include "strategies/training/fit.h"
#include "strategies/training/probe_stage.h"
#include "strategies/training/resume_check.h"
#include "strategies/training/starting_model.h"

namespace graft {
namespace {

using Json = nlohmann::ordered_json;

void note_absent_classes(const Dataset& dataset, Split split, ProgressSink& progress) {
  const std::vector<std::int64_t> counts = dataset.counts(split);
  std::vector<std::string> absent;
  for (std::size_t c = 0; c < counts.size(); ++c)
    if (counts[c] == 0) absent.push_back(dataset.class_names()[c]);
  if (!absent.empty())
    progress.note(fmt::format("{}: no images of {}: the scores tell nothing of {}", to_string(split),
                              fmt::join(absent, ", "), absent.size() == 1 ? "it" : "them"));
}

/// Validation and test with the network's present weights: the contents of predictions.csv and the parts of
/// summary.json. Nothing when `stop` was raised.
std::optional<std::string> measure(const Network& network, const Dataset& dataset, SplitBatches& batches,
                                   const RunCall& call, ProgressSink& progress, RunResult& result, Json& summary) {
  std::string csv = predictions_header(dataset.class_names(), dataset.is_multi_label());
  for (Split split : {Split::val, Split::test}) {
    const std::int64_t count = batches.count(split);
    if (count == 0) continue;
    note_absent_classes(dataset, split, progress);
    const Predictions predictions = predict_batches(network, batches.evaluation(split),
                                                    {.name = to_string(split),
                                                     .count = count,
                                                     .stop = call.stop,
                                                     .rows = batches.rows(),
                                                     .ranks = call.ranks,
                                                     .label_sets = dataset.label_sets()},
                                                    progress);
    if (predictions.n() < count) return {};
    const EvaluationResult scores = evaluate_predictions(predictions, dataset.class_names(), to_string(split));
    summary[std::string(to_string(split))] = Json::parse(to_json(scores));
    csv += predictions_lines(predictions, dataset, dataset.class_names(),
                             [](const Sample& sample) { return std::string(to_string(sample.split)); });
    if (split == Split::test) {
      result.has_test = true;
      result.test = scores;
    }
  }
  return csv;
}

void fill(RunResult& result, const TrainState& state, const Monitor& monitor) {
  result.monitor = monitor.name;
  result.epochs = state.epoch;
  result.steps = state.steps;
  result.best_epoch = state.best_epoch;
  result.best_val_score = state.best_value;
}

/// The device is to compute with what the run has used so far, so that it gives the bits of a run without interruption.
void keep_plans(const RunDirectory& directory, Backend& device, ProgressSink& progress) {
  if (!directory.has("environment.json")) return;
  const UsedPlans plans = plans_of(read_text(directory.file("environment.json")));
  if (plans.lines.empty()) return;
  if (are_alike(plans.device, device.description())) return device.prefer_plans(plans.lines);
  progress.note(fmt::format("the run has used {} so far; on {} its results may differ in their last bits", plans.device,
                            device.description()));
}

void record_plans(const RunDirectory& directory, const Backend& device) {
  const std::vector<std::string> lines = device.plans();
  if (lines.empty()) return;
  directory.write("environment.json",
                  with_plans(read_text(directory.file("environment.json")), {device.description(), lines}));
}

/// Errors: the folder for results is that of the images, or a run in it would be taken for a class of them.
void check_output_place(const TrainSettings& settings) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(settings.data, error)) return;
  const fs::path data = fs::canonical(settings.data, error), output = fs::weakly_canonical(settings.output, error);
  if (error) return;
  const auto [rest_of_data, below] = std::ranges::mismatch(data, output);
  if (rest_of_data != data.end()) return;
  const bool has_splits = fs::is_directory(data / "train", error);  // then other folders are no classes
  if (below != output.end() && has_splits && *below != "train" && *below != "val" && *below != "test") return;
  throw UsageError(fmt::format("train.output: {} lies among the images of {}; choose a folder elsewhere",
                               settings.output, settings.data));
}

/// A call of train(), and what all its parts need.
struct Run {
  Context& context;
  const TrainSettings& settings;
  const RunCall& call;
  ProgressSink& progress;
  RunDirectory directory;
  bool resumes = false;  // from the checkpoint in it
  RunLock lock = {};     // on the directory
  RunClock clock = {};
  bool takes_probe() const { return !resumes && !settings.probe_from.empty(); }
  RunClock::Part part(const char* name) { return {clock, name}; }
};

struct RunInputs {
  Dataset dataset;
  std::optional<LeakageReport> leaks;
  StartingModel model;
  Network& network() const { return *model.network; }
};

/// Errors: as resumed_model(); of a file that cannot be read, with what is still there.
StartingModel model_of_checkpoint(const Run& run) {
  try {
    return resumed_model(run.context, run.directory.last());
  } catch (const OutOfMemory&) {  // says nothing of the file
    throw;
  } catch (const Error& error) {
    throw Error(fmt::format("{}; the run cannot go on from it{}, and --overwrite starts anew", error.what(),
                            run.directory.has("best.h5")
                                ? fmt::format(": {} holds its best epoch", run.directory.best().string())
                                : std::string()));
  }
}

RunInputs open_inputs(Run& run) {
  const TrainSettings& settings = run.settings;
  Dataset dataset = [&] {
    const RunClock::Part images = run.part("images");
    return run.call.images ? run.call.images->take() : open_dataset(settings, settings.leak_check);
  }();
  for (const std::string& line : dataset.notes()) run.progress.note(line);
  for (const BadImage& bad : dataset.skipped()) run.progress.note("skipped " + bad.path + ": " + bad.reason);
  if (dataset.copies() != nullptr)
    if (const std::string advice = intensity_advice(*dataset.copies(), intensity_window(settings)); !advice.empty())
      run.progress.note(advice);
  std::optional<LeakageReport> leaks = [&] {
    const RunClock::Part images = run.part("images");
    return check_leaks(dataset, settings, run.progress);
  }();
  StartingModel model = [&] {
    const RunClock::Part opening = run.part("model");
    return run.resumes ? model_of_checkpoint(run)
                       : starting_model(run.context, settings, dataset.class_names(), dataset.is_multi_label());
  }();
  if (settings.dropout >= 0) model.network->set_dropout(settings.dropout);
  for (const std::string& line : model.notes) run.progress.note(line);
  return {std::move(dataset), std::move(leaks), std::move(model)};
}

/// A run that cannot be planned fails before it writes anything.
void check_plan(const Run& run, const Network& network) {
  const TrainSettings& settings = run.settings;
  resolved_graph(settings, run.context.backend());
  if (!run.resumes)
    plan_epoch(*make_strategy(settings), settings, {0, settings.epochs, network.parameters(), network.blocks()});
}

/// Errors (UsageError): so many processes cannot train together on this device, or share the settings' batches.
void check_processes(int count, const TrainSettings& s, const Device& device) {
  if (count == 1) return;
  if (device.kind == DeviceKind::cuda)
    throw UsageError(fmt::format("train: {} processes train together on CPUs, this one has {}; add --device cpu", count,
                                 to_string(device)));
  if (s.accumulate < count)
    throw UsageError(
        fmt::format("train.accumulate: {} processes share the batches of an update, and {} gives them {}; use "
                    "--accumulate {} with --batch {} for as many images in an update as now",
                    count, s.accumulate, s.accumulate == 1 ? "one" : "too few", count,
                    std::max<std::int64_t>(1, s.batch * s.accumulate / count)));
}

/// Errors: ranks were given other settings, images or weights than the first.
void check_same_run_of_all(const Run& run, const RunInputs& inputs) {
  Ranks& ranks = run.call.ranks;
  if (ranks.count() == 1) return;
  const std::string all =
      run.call.config_toml + inputs.dataset.split_csv() + inputs.model.sha256 + std::string(build_info().version);
  if (const auto rank = first_to_differ(ranks, std::as_bytes(std::span(all))))
    throw Error(
        fmt::format("train: processes 0 and {} were started together for runs that are not the same: other settings, "
                    "images, weights or program; give them the same, or start each run by itself",
                    *rank));
}

/// The files that are there before training, and of a probe those of its epochs; of several ranks the first makes them.
/// Returns what is to be said of a run that goes on with another number of epochs.
std::string prepare_directory(Run& run, const RunInputs& inputs) {
  const RunDirectory& directory = run.directory;
  const Backend& device = run.context.backend();
  const std::string environment = environment_json({.device_description = device.description(),
                                                    .command_line = run.call.command_line,
                                                    .model = run.settings.weights,
                                                    .model_sha256 = inputs.model.sha256,
                                                    .seed = run.settings.seed,
                                                    .processes = run.call.ranks.count()});
  const ProbeStageSpec probe{run.settings, run.call.config_toml, environment, inputs.dataset, inputs.network()};
  if (run.takes_probe()) check_probe_stage(probe);

  if (!run.call.ranks.is_first()) return {};
  run.lock.make_and_take(directory);
  directory.check(existing_of(run.settings));  // while images were opened another run may have begun and ended there
  directory.prepare(existing_of(run.settings));
  std::string epochs_note;
  if (run.resumes) {
    epochs_note = other_epochs_note(directory, run.call.config_toml);
    check_same_run(directory, run.call.config_toml, inputs.dataset.split_csv());
    keep_plans(directory, run.context.backend(), run.progress);
  } else {
    directory.write("environment.json", environment);
  }
  directory.write("config.toml", run.call.config_toml);
  directory.write("split.csv", inputs.dataset.split_csv());
  if (inputs.leaks && !inputs.leaks->is_clean()) directory.write("leaks.csv", leaks_csv(*inputs.leaks));
  if (run.takes_probe()) {
    run.progress.note(take_probe_stage(probe, directory));
  }
  return epochs_note;
}

/// As far as the run has come.
std::unique_ptr<Fit> make_fit(Run& run, const RunInputs& inputs, SplitBatches& batches) {
  const auto starting_network = [&run, &inputs] {
    StartingModel start =
        starting_model(run.context, run.settings, inputs.dataset.class_names(), inputs.dataset.is_multi_label());
    if (run.resumes) check_same_weights(run.directory, start.sha256);
    return std::move(start.network);
  };
  auto fit = std::make_unique<Fit>(FitSpec{.network = inputs.network(),
                                           .dataset = inputs.dataset,
                                           .settings = run.settings,
                                           .batches = batches,
                                           .directory = run.directory,
                                           .stop = run.call.stop,
                                           .starting_network = starting_network,
                                           .clock = &run.clock,
                                           .ranks = run.call.ranks},
                                   run.progress);
  if (run.resumes || run.takes_probe()) fit->resume(read_checkpoint(run.directory.last()));
  return fit;
}

void note_resumed(const Run& run, const TrainState& state, const std::string& epochs_note) {
  run.progress.note(fmt::format("continuing in epoch {} after step {}", state.epoch + 1, state.steps));
  if (!epochs_note.empty()) run.progress.note(epochs_note);
  if (was_tested(run.directory))
    run.progress.note("the run was finished and tested before; at its end the test images are read once more");
}

/// False when it was stopped.
bool train_or_save(const Run& run, Fit& fit) {
  if (run.settings.max_steps != 0 || run.resumes) return fit.run();
  fit.save();
  fit.finish_saving();
  run.progress.note("no steps asked for: the initial model is " + run.directory.last().string());
  return true;
}

RunResult interrupted_result(const Fit& fit) {
  RunResult result;
  fill(result, fit.state(), fit.monitor());
  result.was_interrupted = true;
  return result;
}

Json summary_head(const TrainSettings& s, const Network& network, Fit& fit) {
  const TrainState& state = fit.state();
  Json j;
  j["strategy"] = s.strategy;
  j["architecture"] = network.info().architecture;
  j["weights"] = s.weights;
  j["data"] = s.data;
  j["seed"] = s.seed;
  j["class_names"] = network.info().class_names;
  j["epochs"] = state.epoch;
  j["steps"] = state.steps;
  j["activations"] = to_string(network.context().activation_type());
  if (network.context().activation_type() == DType::f16) j["skipped_steps"] = fit.skipped_steps();
  j["stopped_early"] = state.stopped_early;
  j["best_epoch"] = state.best_epoch;
  j["best_is_of_earlier_stage"] = fit.best_is_of_earlier_stage();
  const Json best = std::isfinite(state.best_value) ? Json(state.best_value) : Json();
  j["monitor"] = fit.monitor().name;
  j["best_val_score"] = best;
  j["best_val_macro_accuracy"] = fit.monitor().name == "macro_accuracy" ? best : Json();
  // A change would have been an error; without a comparison nothing is known.
  j["frozen"] = {{"tensors", state.frozen_tensors}, {"comparisons", state.frozen_checks}, {"unchanged", nullptr}};
  if (state.frozen_checks > 0) j["frozen"]["unchanged"] = true;
  j["train_seconds"] = state.train_seconds + state.epoch_seconds;
  return j;
}

/// Of the best weights, if an epoch was completed.
RunResult test_and_write(Run& run, const RunInputs& inputs, SplitBatches& batches, Fit& fit) {
  const Network& network = inputs.network();
  RunResult result;
  fill(result, fit.state(), fit.monitor());
  Json summary = summary_head(run.settings, network, fit);
  if (summary["best_is_of_earlier_stage"])
    run.progress.note(
        fmt::format("the best epoch, {} of {}, came before the last stage: what is tested owes nothing to that stage "
                    "(of equal epochs the first is the best)",
                    fit.state().best_epoch, run.settings.epochs));
  summary["leaks"] = Json::parse(leaks_summary(inputs.leaks, run.settings));
  if (fit.state().best_epoch > 0) {
    const RunClock::Part testing = run.part("test");
    fit.load_best();
    if (batches.has_features()) batches.keep_features_of(FrozenProof::take(network.parameters()).digest());
    const auto predictions = measure(network, inputs.dataset, batches, run.call, run.progress, result, summary);
    if (summary["best_val_macro_accuracy"].is_null() && summary.contains("val"))
      summary["best_val_macro_accuracy"] = summary["val"]["macro_accuracy"];
    fit.finish_saving();  // predictions are those of weights that are there
    if (!predictions) {
      result.was_interrupted = true;
      return result;
    }
    if (run.call.ranks.is_first()) run.directory.write("predictions.csv", *predictions);
  }
  fit.finish_saving();
  result.seconds = run.clock.seconds();
  summary["seconds"] = result.seconds;
  result.summary_json = summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";  // paths may be anything
  if (run.call.ranks.is_first()) run.directory.write("summary.json", result.summary_json);
  return result;
}

}  // namespace

RunResult train(Context& context, const TrainSettings& settings, const RunCall& call, ProgressSink& progress) {
  check(settings);
  Run run{.context = context,
          .settings = settings,
          .call = call,
          .progress = progress,
          .directory = RunDirectory(settings.output)};
  check_processes(call.ranks.count(), settings, context.backend().device());
  if (run.call.ranks.is_first()) run.lock.take(run.directory);
  run.resumes = has_checkpoint_to_resume(settings);
  if (!run.resumes) check_output_place(settings);
  if (const auto finished = finished_without_checkpoint(settings, call.config_toml)) return *finished;
  if (settings.resume && !run.resumes) progress.note("nothing to resume in " + settings.output + ": starting");
  if (!call.images) check_without_images(settings);

  const RunInputs inputs = open_inputs(run);
  check_plan(run, inputs.network());
  check_monitor(monitor_of(settings.monitor, inputs.dataset.is_multi_label()), inputs.dataset);
  check_same_run_of_all(run, inputs);  // now all have seen the directory as it was
  const std::string epochs_note = prepare_directory(run, inputs);
  run.call.ranks.wait_for_all();
  if (run.takes_probe()) load_weights(inputs.network(), read_model_file(run.directory.last()).weights);
  SplitBatches batches({.network = inputs.network(),
                        .dataset = inputs.dataset,
                        .settings = settings,
                        .transform = transform_of(inputs.network().info()),
                        .folder = run.directory.path(),
                        .ranks = call.ranks});
  if (batches.count(Split::val) == 0)
    progress.note(
        "no validation images: the last epoch's weights are kept as the best, and nothing stops training early");
  const std::unique_ptr<Fit> fit = make_fit(run, inputs, batches);
  run.call.ranks.wait_for_all();  // best.h5 is the checkpoint's
  if (run.resumes) {
    if (fit->is_done())
      if (const auto finished = finished_result(run.directory, fit->state())) return *finished;
    note_resumed(run, fit->state(), epochs_note);
  }
  const bool is_complete = train_or_save(run, *fit);
  if (run.call.ranks.is_first()) record_plans(run.directory, context.backend());
  return is_complete ? test_and_write(run, inputs, batches, *fit) : interrupted_result(*fit);
}

}  // namespace graft
