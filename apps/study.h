// What the verbs of `graft study` share: their options and the folder they mean.
#pragma once

#include <filesystem>
#include <string>

#include "apps/command.h"
#include "strategies/study/study_directory.h"

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

/// Makes the folder if it is not there. Errors: it is a file, or holds something else than a study.
void claim_study_folder(const StudyDirectory& directory);

void add_study_plan_verb(Command& study);
void add_study_run_verb(Command& study);
void add_study_status_verb(Command& study);

}  // namespace graft
