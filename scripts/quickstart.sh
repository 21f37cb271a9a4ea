#!/usr/bin/env bash
# From a fresh clone to a finished experiment: installs what is missing, builds, and runs `graft demo`.
# Arguments go to the demo, such as -o DIR.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_deps.sh
cmake --preset cpu -DGRAFT_GROUP_SOURCES=ON -DGRAFT_BUILD_TESTS=OFF -DGRAFT_BUILD_BENCH=OFF >/dev/null
cmake --build --preset cpu -j "$(nproc)"
echo
exec build/cpu/bin/graft demo "$@"
