// The `graft` program without its main(): the list of verbs, and what becomes of errors, signals and broken pipes. Each
// verb is a file of its own (verbs.h).
#pragma once

namespace graft {

/// Parses, runs and prints. Returns the exit code: 0 done, 1 the work failed, 2 usage, 130 interrupted.
int run_program(int argc, const char* const* argv);

}  // namespace graft
