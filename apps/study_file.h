// The file of a study, TOML, as docs/study.md explains it. What it means is strategies/study/study.h's.
#pragma once

#include <string>

#include "strategies/study/study.h"

namespace graft {

struct StudyFile {
  StudySpec spec;    // paths absolute: in the file they are relative to it
  std::string text;  // as it was read
};

/// Types, keys and single values are checked here, with file, line and column; everything else by check_study().
/// Errors (UsageError): not TOML; an unknown key, with the nearest known one; a value of another type or out of range;
/// a setting that the study chooses itself. Error: unreadable file.
StudyFile read_study_file(const std::string& path);

}  // namespace graft
