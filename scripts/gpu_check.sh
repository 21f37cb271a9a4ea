#!/usr/bin/env bash
# Checks graft on a machine with a GPU: every op case, the three networks beside the CPU, compute-sanitizer, the program.
#   scripts/gpu_check.sh                builds in build/cuda first
#   scripts/gpu_check.sh --bundle DIR   takes a prepared folder with bin/ (and lib/ for libraries this machine lacks)
#   ... --again                         repeats stages that have passed with these binaries
# Each stage that passed is remembered in gpu_check/ beside bin/, so an interrupted run goes on where it stopped. What
# the machine refuses is reported as skipped, never as passed. Exits non-zero when a stage failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

bundle="" again=no
while (($#)); do
  case $1 in
    --bundle) bundle=${2:?gpu_check: --bundle needs a folder}; shift ;;
    --again) again=yes ;;
    *) echo "gpu_check: unknown argument '$1'; use --bundle DIR or --again" >&2; exit 2 ;;
  esac
  shift
done

root=build/cuda
if [[ -n $bundle ]]; then
  root=$bundle
  [[ -x $root/bin/graft_tests_kernels ]] || { echo "gpu_check: $root/bin holds no graft_tests_kernels" >&2; exit 2; }
else
  if ! { cmake --preset cuda -Wno-dev && cmake --build --preset cuda -j "$(nproc)"; }; then
    echo "gpu_check: the build FAILED" >&2
    exit 1
  fi
fi
root=$(cd "$root" && pwd)
state=$root/gpu_check
mkdir -p "$state"

# Libraries: the bundle's own, then the toolkit's, then those that Python packages brought (PyTorch's cuDNN and cuBLAS).
library_path=""
add_libraries() { [[ -d $1 ]] && library_path+="${library_path:+:}$1"; }
add_libraries "$root/lib"
if ! ldconfig -p | grep -q 'libcudnn\.so\.9'; then
  for folder in "${CUDA_HOME:-/usr/local/cuda}"/lib64 $(python3 - <<'PYTHON' 2>/dev/null
import glob, site, sys
for packages in site.getsitepackages() + [site.getusersitepackages()]:
    print(*sorted(glob.glob(packages + "/nvidia/*/lib")), sep="\n")
PYTHON
  ); do add_libraries "$folder"; done
fi
export LD_LIBRARY_PATH=$library_path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

binaries=$(cat "$root"/bin/graft "$root"/bin/graft_tests_* "$root"/bin/graft_cuda.so 2>/dev/null | sha256sum | cut -c1-16)
declare -a report
failed=no
note() { report+=("$(printf '%-9s %-12s %s' "$1" "$2" "$3")"); echo "gpu_check: $2: $1${3:+ ($3)}"; }

# stage <name> <command...>: runs once per set of binaries; the log is gpu_check/<name>.log.
# The command exits with 0 when it passed and with 77 when the machine refuses it; its last line then says why.
stage() {
  local name=$1 log=$state/$1.log; shift
  if [[ $again == no && $(cat "$state/$name.passed" 2>/dev/null) == "$binaries" ]]; then
    note passed "$name" "earlier, see $log"; return
  fi
  local begin=$SECONDS result=0
  "$@" >"$log" 2>&1 || result=$?
  case $result in
    0) echo "$binaries" >"$state/$name.passed"; note passed "$name" "$((SECONDS - begin)) s" ;;
    77) note skipped "$name" "$(tail -1 "$log")" ;;
    *) failed=yes; note FAILED "$name" "see $log"; tail -30 "$log" ;;
  esac
}

# tests <program> <filter> [launcher...]: passes only when at least one test ran and none was skipped.
tests() {
  local program=$root/bin/$1 filter=$2; shift 2
  [[ -x $program ]] || { echo "$program is not in this folder"; return 77; }
  local out=$state/.out result=0
  "$@" "$program" --gtest_filter="$filter" --gtest_brief=0 2>&1 | tee "$out" || result=$?
  ((result == 0)) || return "$result"
  if grep -q '\[  SKIPPED \]' "$out"; then echo "tests were skipped on a machine with a GPU"; return 1; fi
  grep -Eq '\[  PASSED  \] [1-9]' "$out" || { echo "no test matched $filter"; return 1; }
}

device() {
  command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  "$root/bin/graft" devices
  "$root/bin/graft" devices --json | grep -q '"cuda:0","usable":true'
}

sanitizer() {
  local tool
  tool=$(command -v compute-sanitizer || echo "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer")
  [[ -x $tool ]] || { echo "compute-sanitizer is not installed"; return 77; }
  local probe
  if ! probe=$("$tool" "$root/bin/graft_tests_kernels" --gtest_filter='Cuda/OpCases.*Relu*' 2>&1); then
    if ! grep -q 'ERROR SUMMARY: [1-9]' <<<"$probe"; then
      echo "$probe"
      echo "compute-sanitizer does not run here: $(grep -im1 -E 'error|denied|unable|not supported' <<<"$probe")"
      return 77
    fi
  fi
  tests graft_tests_kernels 'Cuda/OpCases.*' "$tool" --tool "$1" --error-exitcode 9
}

demo() {
  rm -rf "$state/demo"
  "$root/bin/graft" demo --device cuda:0 -o "$state/demo"
}

stage device device
if [[ $failed == yes ]]; then
  echo "gpu_check: no GPU can be used here, see above; nothing was checked" >&2
  exit 1
fi
stage ops tests graft_tests_kernels 'Cuda/*'
stage networks tests graft_tests_models 'Cuda/*'
stage memcheck sanitizer memcheck
stage racecheck sanitizer racecheck
stage demo demo

echo
printf '%s\n' "${report[@]}"
if [[ $failed == yes ]]; then echo "gpu_check: FAILED"; exit 1; fi
echo "gpu_check: all that this machine allows has passed"
