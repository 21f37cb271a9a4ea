// graft train as a function: opens data and model, prepares the run directory, fits, restores the best weights, tests,
// and writes the results.
#include <fmt/format.h>

#include <chrono>
#include <future>
#include <nlohmann/json.hpp>

#include "data/csv.h"
#include "data/files.h"
#include "kernels/dry_backend.h"
#include "models/network_io.h"
#include "strategies/batches/images_ahead.h"
#include "strategies/batches/leak_check.h"
#include "strategies/training/evaluation.h"
#include "strategies/training/fit.h"
#include "strategies/training/probe_stage.h"
#include "strategies/training/resume_check.h"
#include "strategies/training/starting_model.h"

namespace graft {
namespace {

using Json = nlohmann::ordered_json;

void add_predictions(std::string& csv, const Predictions& predictions, const Dataset& dataset) {
  const std::vector<std::int32_t> predicted = predicted_classes(predictions.probabilities, predictions.classes);
  for (std::int64_t i = 0; i < predictions.n(); ++i) {
    const Sample& sample = dataset.samples()[std::size_t(predictions.samples[std::size_t(i)])];
    std::vector<std::string> fields{sample.path, std::string(to_string(sample.split)),
                                    dataset.class_names()[std::size_t(sample.label)],
                                    dataset.class_names()[std::size_t(predicted[std::size_t(i)])]};
    for (std::int64_t c = 0; c < predictions.classes; ++c)
      fields.push_back(fmt::format("{:.9g}", predictions.probabilities[std::size_t(i * predictions.classes + c)]));
    csv += csv_line(fields);
  }
}

/// Validation and test with the network's present weights: the contents of predictions.csv and the parts of
/// summary.json. Nothing when `stop` was raised.
std::optional<std::string> measure(const Network& network, const Dataset& dataset, SplitBatches& batches,
                                   const RunCall& call, ProgressSink& progress, RunResult& result, Json& summary) {
  std::vector<std::string> header{"path", "split", "label", "predicted"};
  for (const std::string& name : dataset.class_names()) header.push_back("p_" + name);
  std::string csv = csv_line(header);
  for (Split split : {Split::val, Split::test}) {
    const std::int64_t count = batches.count(split);
    if (count == 0) continue;
    const Predictions predictions = predict_batches(
        network, batches.evaluation(split),
        {.name = to_string(split), .count = count, .stop = call.stop, .rows = batches.rows()}, progress);
    if (predictions.n() < count) return {};
    const EvaluationResult scores = evaluate_predictions(predictions, dataset.class_names(), to_string(split));
    summary[std::string(to_string(split))] = Json::parse(to_json(scores));
    add_predictions(csv, predictions, dataset);
    if (split == Split::test) {
      result.has_test = true;
      result.test = scores;
    }
  }
  return csv;
}

void fill(RunResult& result, const TrainState& state) {
  result.epochs = state.epoch;
  result.steps = state.steps;
  result.best_epoch = state.best_epoch;
  result.best_val_macro_accuracy = state.best_value;
}

/// The result of a run that summary.json describes already.
RunResult finished_result(const RunDirectory& directory, const TrainState& state,
                          const std::vector<std::string>& class_names) {
  RunResult result;
  result.was_finished_before = true;
  fill(result, state);
  result.summary_json = read_text(directory.file("summary.json"));
  const Json summary = Json::parse(result.summary_json, nullptr, false);
  if (summary.is_discarded() || !summary.contains("test") || summary["test"].is_null()) return result;
  const Json& t = summary["test"];
  const auto number = [&](const char* key) {
    return t.contains(key) && t[key].is_number() ? t[key].get<double>() : std::numeric_limits<double>::quiet_NaN();
  };
  result.has_test = true;
  Metrics& m = result.test;
  m = {.n = t.value("n", std::int64_t{0}),
       .loss = number("loss"),
       .accuracy = number("accuracy"),
       .macro_accuracy = number("macro_accuracy"),
       .macro_f1 = number("macro_f1"),
       .kappa = number("kappa"),
       .auc = number("auc"),
       .average_precision = number("average_precision"),
       .weighted_f1 = number("weighted_f1"),
       .sensitivity = number("sensitivity"),
       .specificity = number("specificity"),
       .brier = number("brier"),
       .calibration_error = number("calibration_error"),
       .confusion = t.value("confusion", std::vector<std::vector<std::int64_t>>{})};
  result.test.class_names = class_names;
  result.test.split = "test";
  return result;
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

RunDirectory::Existing existing_of(const TrainSettings& s) {
  using Existing = RunDirectory::Existing;
  return s.overwrite ? Existing::overwrite : s.resume ? Existing::resume : Existing::refuse;
}

bool has_checkpoint_to_resume(const TrainSettings& s) { return s.resume && RunDirectory(s.output).has("last.h5"); }

/// What needs no image fails before all are decoded: a run directory in use, weights that cannot be used, fewer epochs
/// than the strategy needs.
void check_without_images(const TrainSettings& settings) {
  RunDirectory(settings.output).check(existing_of(settings));
  if (has_checkpoint_to_resume(settings)) return;
  Context context(std::make_unique<DryBackend>(Device{DeviceKind::reference}, BackendOptions{}));
  const std::unique_ptr<Network> network = make_network(context, starting_info(settings));
  TrainSettings unfrozen = settings;
  unfrozen.freeze_channels.clear();  // the head's depend on the number of classes
  plan_epoch(*make_strategy(unfrozen), unfrozen, {0, settings.epochs, network->parameters(), network->blocks()});
}

/// What a run that goes on with another number of epochs is not; empty if the number is the same.
std::string other_epochs_note(const RunDirectory& directory, const RunCall& call) {
  if (!directory.has("config.toml")) return {};
  const auto before = keys_of(read_text(directory.file("config.toml"))), now = keys_of(call.config_toml);
  const auto was = before.find("train.epochs"), is = now.find("train.epochs");
  if (was == before.end() || is == now.end() || was->second == is->second) return {};
  return fmt::format(
      "train.epochs was {} and is now {}: where the schedule or stages depend on it, the result is not that of a run "
      "of {} epochs from its start",
      was->second, is->second, is->second);
}

bool was_tested(const RunDirectory& directory) {
  if (!directory.has("summary.json")) return false;
  const Json summary = Json::parse(read_text(directory.file("summary.json")), nullptr, false);
  return summary.is_object() && summary.contains("test");
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
  j["best_val_macro_accuracy"] = state.best_value;
  // A change would have been an error; without a comparison nothing is known.
  j["frozen"] = {{"tensors", state.frozen_tensors}, {"comparisons", state.frozen_checks}, {"unchanged", nullptr}};
  if (state.frozen_checks > 0) j["frozen"]["unchanged"] = true;
  j["train_seconds"] = state.train_seconds + state.epoch_seconds;
  return j;
}

}  // namespace

ImagesAhead::ImagesAhead(const TrainSettings& settings) {
  check_without_images(settings);
  images_ =
      std::async(std::launch::async, [this, settings] { return open_dataset(settings, settings.leak_check, &stop_); });
}

RunResult train(Context& context, const TrainSettings& settings, const RunCall& call, ProgressSink& progress) {
  check(settings);
  RunClock clock;
  const auto part = [&](const char* name) { return RunClock::Part(clock, name); };
  const RunDirectory directory(settings.output);
  const bool resumes = has_checkpoint_to_resume(settings);
  if (settings.resume && !resumes) progress.note("nothing to resume in " + settings.output + ": starting");
  if (!call.images) check_without_images(settings);

  const Dataset dataset = [&] {
    const RunClock::Part images = part("images");
    return call.images ? call.images->take() : open_dataset(settings, settings.leak_check);
  }();
  for (const std::string& line : dataset.notes()) progress.note(line);
  for (const BadImage& bad : dataset.skipped()) progress.note("skipped " + bad.path + ": " + bad.reason);
  const std::optional<LeakageReport> leaks = [&] {
    const RunClock::Part images = part("images");
    return check_leaks(dataset, settings, progress);
  }();
  StartingModel model = [&] {
    const RunClock::Part opening = part("model");
    return resumes ? resumed_model(context, directory.last())
                   : starting_model(context, settings, dataset.class_names());
  }();
  if (settings.dropout >= 0) model.network->set_dropout(settings.dropout);
  for (const std::string& line : model.notes) progress.note(line);
  Network& network = *model.network;

  // A run that cannot be planned fails before it writes anything.
  resolved_graph(settings, context.backend());
  if (!resumes)
    plan_epoch(*make_strategy(settings), settings, {0, settings.epochs, network.parameters(), network.blocks()});

  const std::string environment = environment_json({.device_description = context.backend().description(),
                                                    .command_line = call.command_line,
                                                    .model = settings.weights,
                                                    .model_sha256 = model.sha256,
                                                    .seed = settings.seed});
  const ProbeStageSpec probe{settings, call.config_toml, environment, dataset, network};
  const bool takes_probe = !resumes && !settings.probe_from.empty();
  if (takes_probe) check_probe_stage(probe);

  directory.prepare(existing_of(settings));
  std::string epochs_note;
  if (resumes) {
    epochs_note = other_epochs_note(directory, call);
    check_same_run(directory, call.config_toml, dataset.split_csv());
    keep_plans(directory, context.backend(), progress);
  } else {
    directory.write("environment.json", environment);
  }
  directory.write("config.toml", call.config_toml);
  directory.write("split.csv", dataset.split_csv());
  if (leaks && !leaks->is_clean()) directory.write("leaks.csv", leaks_csv(*leaks));
  if (takes_probe) {
    progress.note(take_probe_stage(probe, directory));
    load_weights(network, read_model_file(directory.last()).weights);
  }

  SplitBatches batches({network, dataset, settings, transform_of(network.info()), directory.path()});
  const auto starting_network = [&] {
    StartingModel start = starting_model(context, settings, dataset.class_names());
    if (resumes) check_same_weights(directory, start.sha256);
    return std::move(start.network);
  };
  Fit fit({network, dataset, settings, batches, directory, call.stop, starting_network, &clock}, progress);
  if (resumes || takes_probe) fit.resume(read_checkpoint(directory.last()));
  if (resumes) {
    if (fit.is_done() && directory.has("summary.json"))
      return finished_result(directory, fit.state(), dataset.class_names());
    progress.note(fmt::format("continuing in epoch {} after step {}", fit.state().epoch + 1, fit.state().steps));
    if (!epochs_note.empty()) progress.note(epochs_note);
    if (was_tested(directory))
      progress.note("the run was finished and tested before; at its end the test images are read once more");
  }

  RunResult result;
  if (settings.max_steps == 0 && !resumes) {
    fit.save();
    fit.finish_saving();
    progress.note("no steps asked for: the initial model is " + directory.last().string());
  } else if (!fit.run()) {
    record_plans(directory, context.backend());
    fill(result, fit.state());
    result.was_interrupted = true;
    return result;
  }
  record_plans(directory, context.backend());
  fill(result, fit.state());
  Json summary = summary_head(settings, network, fit);
  if (summary["best_is_of_earlier_stage"])
    progress.note(
        fmt::format("the best epoch, {} of {}, came before the last stage: what is tested owes nothing to that stage "
                    "(of equal epochs the first is the best)",
                    fit.state().best_epoch, settings.epochs));
  summary["leaks"] = Json::parse(leaks_summary(leaks, settings));
  if (fit.state().best_epoch > 0) {
    const RunClock::Part testing = part("test");
    fit.load_best();
    if (batches.has_features()) batches.keep_features_of(FrozenProof::take(network.parameters()).digest());
    const auto predictions = measure(network, dataset, batches, call, progress, result, summary);
    fit.finish_saving();  // predictions are those of weights that are there
    if (!predictions) {
      result.was_interrupted = true;
      return result;
    }
    directory.write("predictions.csv", *predictions);
  }
  fit.finish_saving();
  result.seconds = clock.seconds();
  summary["seconds"] = result.seconds;
  result.summary_json = summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";  // paths may be anything
  directory.write("summary.json", result.summary_json);
  return result;
}

}  // namespace graft
