#include "apps/study.h"

#include "apps/verbs.h"

namespace graft {

void add_study_options(Command& verb, StudyOptions& options) {
  verb.argument("FILE", "The study's file, TOML", options.file);
  verb.option(
      {.flag = "-o,--output", .group = "Files", .help = "folder of the study; the default is FILE without .toml"},
      options.output);
  verb.output_options(options.is_json, options.is_quiet);
}

StudyDirectory directory_of(const StudyOptions& options) {
  if (options.file.empty())
    throw UsageError("study: no file given; name the study's file, as in graft study plan study.toml");
  const std::filesystem::path file(options.file);
  std::error_code error;
  if (std::filesystem::is_directory(file, error))
    throw UsageError("study: " + options.file + " is a folder; name the study's file, such as study.toml" +
                     (options.output.empty() ? ", and add -o " + options.file + " if the study lies there" : ""));
  if (!options.output.empty()) return StudyDirectory(options.output);
  if (file.extension() != ".toml")
    throw UsageError("study: " + options.file + " does not end in .toml; name the study's file, such as study.toml");
  return StudyDirectory(file.stem());
}

StudyDirectory existing_directory(const StudyOptions& options) {
  namespace fs = std::filesystem;
  if (!options.output.empty() || options.file.empty()) return directory_of(options);
  std::error_code error;
  const fs::path file = fs::absolute(options.file);
  const StudyDirectory named(file), around(file.parent_path());
  if (fs::exists(named.spec(), error)) return named;
  if (file.filename() == "study.toml" && fs::exists(around.spec(), error)) return around;
  return directory_of(options);
}

void claim_study_folder(const StudyDirectory& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path& folder = directory.path();
  const std::string name = folder.string();
  if (fs::exists(folder, error) && !fs::is_directory(folder, error))
    throw Error("study: " + name + " is a file; choose another -o");
  const bool is_study =
      fs::exists(directory.lock(), error) || fs::exists(directory.spec(), error) || fs::exists(directory.plan(), error);
  if (!is_study && fs::exists(folder, error) && !fs::is_empty(folder, error))
    throw Error("study: " + name + " holds something else than a study; choose another -o");
  fs::create_directories(folder, error);
  if (error) throw Error("study: cannot create " + name + ": " + error.message() + "; choose a writable -o");
}

void add_study_verbs(Command& study) {
  add_study_plan_verb(study);
  add_study_run_verb(study);
  add_study_status_verb(study);
  add_study_report_verb(study);
}

}  // namespace graft
