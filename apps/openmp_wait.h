// How long OpenMP's threads spin at a barrier before they sleep.
#pragma once

namespace graft {

/// libgomp spins for milliseconds by default, which on shared cores makes a program several times slower: the thread that
/// is waited for cannot run. It reads its environment once, before main, so this sets GOMP_SPINCOUNT and starts the
/// program again in its place. Does nothing where the user has set GOMP_SPINCOUNT or OMP_WAIT_POLICY, or if that fails.
void limit_openmp_spinning(char** argv);

}  // namespace graft
