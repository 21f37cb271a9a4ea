#include "apps/program.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>

#include "apps/command.h"
#include "apps/interrupt.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "kernels/build_info.h"
#include "kernels/out_of_memory.h"
#include "kernels/ranks.h"

namespace graft {
namespace {

enum ExitCode { kDone = 0, kFailed = 1, kUsage = 2 };

std::string version_text() {
  const BuildInfo& build = build_info();
  const std::string cuda = build.cuda_absent_reason.empty()
                               ? fmt::format("{} for {}", build.cuda_version, build.cuda_archs)
                               : fmt::format("none: {}", build.cuda_absent_reason);
  return fmt::format("graft {}\ncompiler {} (-march={} {})\noneDNN {}\nHDF5 {}\nCUDA {}\ncuDNN {}", build.version,
                     build.compiler, build.march, build.compile_flags, build.onednn_version, build.hdf5_version, cuda,
                     build.cudnn_version.empty() ? "none" : build.cudnn_version);
}

void add_verbs(Command& program) {
  add_train_verb(program);
  add_find_lr_verb(program);
  add_plan_memory_verb(program);
  add_internals_verb(program);
  add_profile_verb(program);
  add_evaluate_verb(program);
  add_predict_verb(program);
  add_explain_verb(program);
  add_export_verb(program);
  Command weights = program.verb("weights", "Import and inspect weight files");
  add_weights_import_verb(weights);
  add_weights_inspect_verb(weights);
  Command data = program.verb("data", "Inspect image sets");
  add_data_inspect_verb(data);
  Command study = program.verb("study", "Compare strategies: plan, run and follow many trainings");
  add_study_verbs(study);
  add_strategies_verb(program);
  add_devices_verb(program);
  add_demo_verb(program);
  program.example(
      "  graft weights import resnet50-0676ba61.pth -o resnet50.h5 --arch resnet50\n"
      "  graft train images/ --weights resnet50.h5 --strategy full -o runs/first\n"
      "  graft predict runs/first photo.jpg\n");
}

/// Of processes that were started together most meet what is wrong: the first says so and ends the others, unless they
/// have not come together yet. What is wrong with the command line it says for all.
void let_first_rank_speak(int exit_code) {
  if (started_rank().rank == 0) return;
  if (exit_code == kUsage && !has_joined_ranks()) std::exit(exit_code);
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

/// One line `graft: error: …`. What an error lists below its first line (names of tensors, files) comes before it.
int report(const std::string& message, int exit_code) {
  let_first_rank_speak(exit_code);
  const std::size_t end = message.find('\n');
  if (end != std::string::npos) {
    const std::size_t last = message.find_last_not_of('\n');
    print_note(message.substr(end + 1, last - end));
  }
  std::fflush(stdout);
  print_note(emphasised("graft: error:", Emphasis::red, stderr) + " " + message.substr(0, end));
  return exit_code;
}

}  // namespace

int run_program(int argc, const char* const* argv) {
  handle_signals();
  try {
    const ParsedCommand command = parse_command_line(argc, argv, version_text(), add_verbs);
    if (command.action) return command.action();
    print_result(command.text);
    return kDone;
  } catch (const OtherRankFailed&) {
    std::this_thread::sleep_for(std::chrono::seconds(2));  // that one says why before the launcher ends it
    return kFailed;
  } catch (const UsageError& error) {
    return report(error.what(), kUsage);
  } catch (const Error& error) {
    return report(error.what(), kFailed);
  } catch (const std::bad_alloc&) {
    return report(host_out_of_memory_text("use a smaller --batch or --size, or fewer images at a time"), kFailed);
  } catch (const std::exception& error) {
    return report(fmt::format("unexpected: {}", error.what()), kFailed);
  }
}

}  // namespace graft
