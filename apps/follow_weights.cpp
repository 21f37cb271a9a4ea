#include "apps/follow_weights.h"

#include <fmt/format.h>

#include "strategies/training/run_directory.h"
#include "strategies/training/starting_model.h"

namespace graft {

std::string follow_weights(TrainSettings& settings, const SettingsOptions& given) {
  if (settings.weights.empty()) return {};
  const RunDirectory run(settings.output);
  const bool resumes = has_checkpoint_to_resume(settings);
  const std::string held = (resumes ? read_model_info(run.last()) : starting_info(settings)).architecture;
  const std::string named = settings.arch;
  if (named != held && given.is_given_on_command_line("train.arch"))
    throw UsageError(fmt::format("train.arch: {} holds a {}, not a {}; leave --arch out",
                                 resumes ? run.last().string() : settings.weights, held, named));
  if (resumes) return {};
  settings.arch = held;
  if (named == held || named == TrainSettings{}.arch || !given.is_given("train.arch")) return {};
  return fmt::format("train.arch is {} in a file, but {} holds a {}, which is what trains", named, settings.weights,
                     held);
}

}  // namespace graft
