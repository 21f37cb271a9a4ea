#!/usr/bin/env bash
# Installs what is missing, builds with warnings as errors (and CUDA where it is found), runs every test, then the
# sanitized tests. Prints what was skipped and why. Exits non-zero when anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)
log=$(mktemp)
files=
trap 'rm -rf "$log" "$files"' EXIT

# Tests write gigabytes of model files and remove them at once: in memory, where a good part of it is free and programs
# that tests write there may run.
has_room_in_memory() {
  local free room limit
  free=$(awk '/^MemAvailable:/ { print int($2 / 2^20) }' /proc/meminfo) || return
  room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1) || return
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
  ((free >= 16 && room >= 8 << 20)) && [[ $limit == max || $limit -ge $((16 << 30)) ]]
}
if has_room_in_memory && files=$(mktemp -d /dev/shm/graft-tests-XXXXXX); then
  if ! { cp "$(command -v true)" "$files/program" && "$files/program"; }; then
    rm -rf "$files"
    files=
  fi
fi

scripts/install_deps.sh
if command -v nvcc >/dev/null || [[ -x /usr/local/cuda/bin/nvcc ]]; then
  scripts/install_deps.sh --cuda || echo "test: no cudnn-frontend headers; the build goes on without CUDA"
fi

# summary <build folder>: how many cases ran, and for each entry what was skipped and why, so that a skip never looks like a
# pass.
summary() {
  awk '
    /^[0-9]+\/[0-9]+ Testing: / { name = $3 }
    /^\[       OK \] / { passed++ }
    /: Skipped$/ { getline reason; if (!skipped[name ": " reason]++) order[++reasons] = name ": " reason; count++ }
    END {
      for (i = 1; i <= reasons; i++) print "  skipped " order[i] (skipped[order[i]] > 1 ? " (" skipped[order[i]] " cases)" : "")
      print "test: " passed + 0 " cases passed and " count + 0 " skipped in " folder
    }
  ' folder="$1" "$1/Testing/Temporary/LastTest.log"
}

# build_and_test <preset>: `set -e` is off in here, since the caller asks for the result.
build_and_test() {
  echo "test: building and testing '$1'"
  cmake --preset "$1" -Wno-dev | tee "$log" || return
  cmake --build --preset "$1" -j "$jobs" || return
  local result=0
  TMPDIR=${files:-${TMPDIR:-/tmp}} ctest --preset "$1" -j "$jobs" --no-tests=error || result=$?
  summary "build/$1"
  sed -n 's/^-- graft: /test: /p' "$log"  # CUDA, or why there is none
  return "$result"
}

result=0
build_and_test asan || result=1
build_and_test ci || result=1
((result == 0)) || echo "test: FAILED, see above" >&2
exit "$result"
