#!/usr/bin/env bash
# The machinery of scripts/gpu_check.sh on stages made up here: one that passes, one that the machine refuses, one that
# fails, one that hangs with children, and how a second run goes on. No GPU, no PyTorch, no build.
#   gpu_check_test.sh SOURCE_DIR
set -uo pipefail
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

check() {  # check <what> <command...>
  local what=$1; shift
  if "$@"; then return; fi
  echo "FAILED: $what"
  failures=$((failures + 1))
}
has() { grep -qF -- "$2" "$1" || { echo "  no '$2' in:"; sed 's/^/  /' "$1"; return 1; }; }
lacks() { ! grep -qF -- "$2" "$1"; }
equal() { [[ $1 == "$2" ]] || { echo "  '$1' is not '$2'"; return 1; }; }

mkdir -p "$work/bundle/bin"
printf '#!/bin/sh\necho "graft 0.0 of a test"\n' >"$work/bundle/bin/graft"
cat >"$work/stages" <<'END'
#!/usr/bin/env bash
state=$GPU_CHECK_STATE
case $1 in
  list)
    if [[ -n ${PAIR-} ]]; then printf '%s\n' 'device 9 Device' 'train-a 9 One of two' 'good 9 What passes' 'latency 9 The other'; exit; fi
    printf '%s\n' 'device 9 Device' 'good 9 What passes' 'refused 9 What is refused' 'broken 9 What fails' 'hanging 2 What hangs' 'late 9 After all' ;;
  run)
    echo "$2" >>"$state/../calls"
    case $2 in
      device) [[ ! -e $state/../no-device ]] || { echo "no GPU here"; exit 1; } ;;
      good) echo '| G0 | a row |' >"$state/good.rows"; echo 'a finding' >"$state/good.md" ;;
      refused) echo 'noise'; echo 'the driver says no'; exit 77 ;;
      broken) [[ -e $state/../mended ]] || { echo 'it broke'; exit 3; } ;;
      hanging)
        [[ ! -e $state/../mended ]] || { echo '| G0 | a whole row |' >"$state/hanging.rows"; exit 0; }
        [[ -e $state/../mute ]] || echo '| G0 | half a row |' >"$state/hanging.rows"
        sleep 61.5 &
        echo 'waiting'
        trap '' TERM
        while :; do sleep 61.5; done ;;
      late) ;;
      train-a | latency)  # each waits for the other
        touch "$state/$2.here"
        for _ in {1..80}; do [[ -e $state/train-a.here && -e $state/latency.here ]] && break; sleep 0.1; done
        [[ -e $state/train-a.here && -e $state/latency.here ]] || { echo 'alone'; exit 1; }
        [[ $2 != latency || ! -e $state/../no-latency ]] || { echo 'too slow'; exit 1; }
        echo "| G0 | $2 took turns in $(basename "$GPU_CHECK_TURNS") |" >"$state/$2.rows" ;;
    esac ;;
esac
END
chmod +x "$work/stages" "$work/bundle/bin/graft"

result=0
gpu_check() {
  result=0
  "$source/scripts/gpu_check.sh" --bundle "$work/bundle" --stages "$work/stages" --state "$work/state" --rehearse \
    --python no-such-python --results "$work/report.md" "$@" >"$work/out" 2>&1 || result=$?
}

echo "== the first run"
gpu_check  # ends at all only because the hanging stage is ended
check "a failed stage makes the run fail" equal "$result" 1
check "passed" has "$work/report.md" "| What passes | passed |"
check "skipped with its reason" has "$work/report.md" '| What is refused | skipped | the driver says no |'
check "failed with its last line" has "$work/report.md" '| What fails | FAILED | it broke |'
check "cut, with its last line" has "$work/report.md" '| What hangs | CUT | after '
check "what the cut stage had is kept" has "$work/report.md" '| G0 | half a row |'
check "rows are in the table" has "$work/report.md" '| G0 | a row |'
check "findings are there" has "$work/report.md" 'a finding'
check "stages after a failure run" has "$work/report.md" '| After all | passed |'
check "versions are there" has "$work/report.md" 'graft 0.0 of a test'
check "no half report is left" equal "$(compgen -G "$work/*.partial")" ""
check "no child of the hanging stage lives" equal "$(pgrep -fc "sleep 61[.]5")" 0

echo "== the second run goes on where the first stopped"
touch "$work/mended"; : >"$work/calls"
gpu_check
check "all has passed" equal "$result" 0
check "only what had not passed ran" equal "$(xargs <"$work/calls")" "refused broken hanging"
check "rows of earlier stages stay" has "$work/report.md" '| G0 | a row |'
check "rows of the cut try are gone" lacks "$work/report.md" 'half a row'

echo "== a later try that is cut before it has anything"
rm "$work/mended"; touch "$work/mute"
gpu_check --again --only hanging
check "it is told" has "$work/report.md" '| What hangs | CUT | after '
check "the rows of the earlier try stay" has "$work/report.md" '| G0 | a whole row |'
rm "$work/mute"; touch "$work/mended"

echo "== other binaries, one stage"
echo '# changed' >>"$work/bundle/bin/graft"; : >"$work/calls"
gpu_check --only good
check "a stage runs again with other binaries" equal "$(xargs <"$work/calls")" "good"
check "what others have measured is gone" lacks "$work/report.md" '| G0 | a whole row |'
check "with its state" lacks "$work/report.md" '| After all |'
check "but was put aside" has "$(ls "$work"/state/earlier-*/hanging.rows)" '| G0 | a whole row |'

echo "== another machine goes on from an archive"
mkdir -p "$work/state/runs/a"; echo '1,0.5' >"$work/state/runs/a/steps.csv"
gpu_check --only late --archive "$work/kept/all.tar.gz"
rm -rf "$work/state"; : >"$work/calls"
gpu_check --only good,late,refused --archive "$work/kept/all.tar.gz"
check "what had passed does not run again" equal "$(xargs <"$work/calls")" "refused"
check "rows came with it" has "$work/report.md" '| G0 | a row |'
check "and curves" has "$work/state/runs/a/steps.csv" '1,0.5'
rm -rf "$work/state"; echo damaged >"$work/kept/all.tar.gz"
gpu_check --only good --archive "$work/kept/all.tar.gz"
check "a damaged one is refused" equal "$result" 2
check "by name" has "$work/out" 'all.tar.gz is no archive that --archive has written'

echo "== benchmarks together"
export PAIR=yes
gpu_check --together
check "both have passed" equal "$result" 0
check "in one report" has "$work/report.md" '| G0 | train-a took turns in turns |'
check "with the other" has "$work/report.md" '| G0 | latency took turns in turns |'
check "the rest runs as ever" has "$work/report.md" '| What passes | passed |'
touch "$work/no-latency"
gpu_check --together --again
check "one that fails makes the run fail" equal "$result" 1
check "and is told" has "$work/report.md" '| The other | FAILED | too slow |'
unset PAIR

echo "== stopped from outside"
rm "$work/mended"; : >"$work/calls"
"$source/scripts/gpu_check.sh" --bundle "$work/bundle" --stages "$work/stages" --state "$work/state" --rehearse --again \
  --python no-such-python --results "$work/report.md" --only good,hanging >"$work/out" 2>&1 &
pid=$!
for _ in {1..100}; do grep -q hanging "$work/calls" && break; sleep 0.1; done
kill "$pid"
wait "$pid"
check "it says that it stopped" equal "$?" 130
check "the report is whole" has "$work/report.md" '| What passes | passed |'

echo "== no device"
touch "$work/no-device"
gpu_check --again
check "without a device nothing else runs" equal "$result" 1
check "and it says so" has "$work/out" 'nothing was checked'

echo "== bad calls"
for arguments in "--only nosuch" "--minutes ten" "--data /nowhere" "--bundle" "--frobnicate"; do
  # shellcheck disable=SC2086
  gpu_check $arguments
  check "$arguments is a usage error" equal "$result" 2
  check "$arguments: one line" equal "$(wc -l <"$work/out")" 1
done

echo "== libraries: Python's before the system's, the user's before both"
mkdir -p "$work/tools" "$work/python/nvidia/cudnn/lib" "$work/python/nvidia/cublas/lib" "$work/python/nvidia/other/lib" "$work/own"
touch "$work/python/nvidia/cudnn/lib/libcudnn.so.9" "$work/python/nvidia/cublas/lib/libcublas.so.13" "$work/own/libcudnn.so.9"
touch "$work/bundle/bin/graft_cuda.so"
# Both are on the system.
printf '#!/bin/sh\necho "  libcudnn.so.9 => /usr/lib/libcudnn.so.9"\necho "  libcublas.so.13 => /usr/lib/libcublas.so.13"\n' >"$work/tools/ldd"
printf '#!/bin/sh\nls -d "%s"/nvidia/*/lib\n' "$work/python" >"$work/tools/packages"
printf '#!/bin/sh\n[ "$1" = list ] && echo "device 9 Device" || echo "$GRAFT_LIBRARY_PATH" >"%s/path"\n' "$work" >"$work/tools/stages"
chmod +x "$work"/tools/*
found() {
  PATH=$work/tools:$PATH LD_LIBRARY_PATH=$1 "$source/scripts/gpu_check.sh" --bundle "$work/bundle" --stages "$work/tools/stages" \
    --state "$work/state" --rehearse --again --no-torch --python "$work/tools/packages" --results "$work/report.md" >"$work/out" 2>&1
  sed "s#$work/python/nvidia/##g" "$work/path"
}
check "all of Python's that are needed" equal "$(found "")" "cublas/lib:cudnn/lib"
check "but those that LD_LIBRARY_PATH names" equal "$(found "$work/own")" "cublas/lib"

echo "== the order of the real stages"
order() { "$source/scripts/gpu_stages.sh" list | cut -d' ' -f1 | grep -nxE "$1" | cut -d: -f1; }
check "plans are chosen before anything that needs them is timed" test "$(order plans)" -lt "$(order train-resnet50)"
check "so is what PyTorch compiles" test "$(order compile)" -lt "$(order train-resnet50)"
check "compute-sanitizer comes after what is timed" test "$(order deterministic)" -lt "$(order memcheck)"

if ((failures)); then echo "$failures checks failed"; exit 1; fi
echo "all checks passed"
