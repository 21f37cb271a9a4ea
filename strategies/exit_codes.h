// How the program ends, as far as programs that start it ask.
#pragma once

namespace graft {

/// By SIGINT or SIGTERM, as shells number the former.
inline constexpr int kExitInterrupted = 130;

}  // namespace graft
