// graft profile: where the time of a step goes, as a table, and as a page and a trace for a browser.
#include <fmt/format.h>

#include "apps/interrupt.h"
#include "apps/profile_page.h"
#include "apps/profile_table.h"
#include "apps/profile_trace.h"
#include "apps/progress_display.h"
#include "apps/session.h"
#include "apps/settings_options.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "data/files.h"

namespace graft {
namespace {

struct ProfileOptions {
  SettingsOptions settings;
  ProfileSpec spec;
  ProfileTableSpec table;
  std::string data, folder, sort = "time";
  bool is_quiet = false, is_json = false;
};

void write_files(const std::filesystem::path& folder, const Profile& profile) {
  write_atomically(folder / "profile.html", profile_page(profile));
  write_atomically(folder / "profile.csv", profile_csv(profile));
  write_atomically(folder / "calls.csv", profile_calls_csv(profile));
  write_atomically(folder / "trace.json", profile_trace(profile));
}

int run_profile(ProfileOptions& options) {
  if (!options.data.empty()) options.settings.set_flag("train.data", options.data);
  TrainSettings settings = options.settings.resolve();
  if (!settings.weights.empty() && options.settings.is_given("train.arch"))
    throw UsageError("profile: --weights and --arch exclude each other; give one");
  options.table.is_by_time = options.sort == "time";
  StopLater stop;
  options.spec.stop = &stop.flag();
  StepProfiler profiler;
  Session session = open_session(settings, &profiler);
  ProgressDisplay progress(options.is_quiet, session.heading);
  // On a device of their own: what the limits need would count as the step's peak memory.
  const auto limits = [&] { return measure_limits(*open_session(settings).context); };
  const std::optional<Profile> profile =
      profile_steps(*session.context, profiler, settings, options.spec, limits, progress);
  if (!profile) return kExitInterrupted;
  print_result(options.is_json ? profile_json(*profile) : profile_table(*profile, options.table));
  if (options.folder.empty()) return 0;
  write_files(options.folder, *profile);  // after the result, which is seen even where nothing can be written
  if (!options.is_quiet)
    print_note(fmt::format("{0}/: profile.html, trace.json, profile.csv, calls.csv", options.folder));
  return 0;
}

}  // namespace

void add_profile_verb(Command& program) {
  Command verb = program.verb("profile", "Show where the time of a training or inference step goes");
  auto options = std::make_shared<ProfileOptions>();
  ProfileSpec& spec = options->spec;
  verb.argument("[DATA]", "Folder with train/ val/ test/, CSV, or MedMNIST .npz; without it images are noise",
                options->data);
  verb.option({.flag = "--steps", .group = "Profile", .help = "steps with every call timed", .min = 1, .max = 1000},
              spec.steps);
  verb.option({.flag = "--warmup", .group = "Profile", .help = "steps before", .min = 0, .max = 1000}, spec.warmup);
  verb.option(
      {.flag = "--epoch", .group = "Profile", .help = "of the strategy: what trains may depend on it", .min = 1},
      spec.epoch);
  verb.option({.flag = "--infer,--inference", .group = "Profile", .help = "forward passes in evaluation mode"},
              spec.is_inference);
  verb.option({.flag = "--sort", .group = "Output", .help = "order of the layers", .choices = {"time", "network"}},
              options->sort);
  verb.option({.flag = "--top", .group = "Output", .help = "layers shown, those that take longest; 0 is all", .min = 0},
              options->table.top);
  verb.option(
      {.flag = "-o,--output", .group = "Output", .help = "folder for profile.html, trace.json and two CSV files"},
      options->folder);
  // Steps are run one by one and nothing is kept.
  options->settings.add_all_but(
      verb, {"train.max_steps", "train.patience", "train.monitor", "train.output", "train.record_every",
             "train.tensorboard", "train.resume", "train.overwrite", "train.from_scratch", "train.schedule",
             "train.warmup_epochs", "train.feature_cache", "train.feature_cache_dir", "train.feature_cache_mb"});
  verb.output_options(options->is_json, options->is_quiet);
  verb.example(
      "  graft profile --arch resnet50 --strategy full --batch 16 -o profile/\n"
      "  graft profile images/ --weights resnet50.h5 --strategy linear-probe --batch 32 --steps 5");
  verb.run([options] { return run_profile(*options); });
}

}  // namespace graft
