// What the verbs of `graft study` share: their options and the folder they mean.
#pragma once

#include <filesystem>
#include <string>

#include "apps/command.h"
#include "apps/study_file.h"
#include "apps/study_progress.h"
#include "strategies/study/directory.h"

namespace graft {

struct StudyOptions {
  std::string file;    // FILE.toml
  std::string output;  // -o; empty: the file's name without .toml, in the present folder
  bool is_json = false, is_quiet = false;
};

/// FILE.toml, -o, --json and --quiet.
void add_study_options(Command& verb, StudyOptions& options);

/// Errors (UsageError): no file was given.
StudyDirectory directory_of(const StudyOptions& options);

/// The same where a study that has been run is only looked at: its folder may be given as well, or the study.toml in
/// it.
StudyDirectory existing_directory(const StudyOptions& options);

/// Makes the folder if it is not there. Errors: it is a file, or holds something else than a study.
void claim_study_folder(const StudyDirectory& directory);

/// What both `graft study run` and `graft demo` do with a study that is checked and whose folder is claimed: prepare
/// it, then train until all is finished or the program is told to stop. `jobs`: as divide_machine(). `threads`: of all
/// together; 0: all cores. Errors: those of prepare_study() and run_study().
struct StudyCall {
  std::int64_t jobs = 0, threads = 0;
  bool overwrites = false;
};
StudyOutcome run_study_file(const StudyFile& file, const StudyDirectory& directory, const StudyCall& call,
                            StudyDisplay& display);

void add_study_plan_verb(Command& study);
void add_study_run_verb(Command& study);
void add_study_status_verb(Command& study);
void add_study_report_verb(Command& study);

}  // namespace graft
