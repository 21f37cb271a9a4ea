#!/usr/bin/env bash
# `graft train` in two processes of MPI and in one: the same course of training; and what goes wrong is said once.
#   ranks_test.sh PROGRAM MPIEXEC NUMBER_FLAG
set -uo pipefail
program=$1 mpiexec=$2 flag=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 # Open MPI's reserve

# 48 x 48 pixels of the program's own bytes, another piece for each image.
image() {
  mkdir -p "$(dirname "$1")"
  { printf 'P6 48 48 255\n'; tail -c +$(($2 * 7000 + 100000)) "$program" | head -c 6912; } >"$1"
}
n=0
for class in a b; do
  for i in 1 2 3 4 5 6 7 8; do image "$work/images/train/$class/$i.ppm" $((n++)); done
  for i in 1 2 3; do image "$work/images/val/$class/$i.ppm" $((n++)); image "$work/images/test/$class/$i.ppm" $((n++)); done
done

failures=0
fail() { echo "FAILED: $*"; failures=1; }
train=("$program" train "$work/images" --from-scratch --arch resnet50 --size 48 --device reference --optimizer sgd --lr 1e-4
  --epochs 2 --patience 0 --allow-leaks all)

"${train[@]}" --batch 4 --accumulate 2 -o "$work/one" >"$work/one.log" 2>&1 || fail "one process: $(cat "$work/one.log")"
timeout 200 "$mpiexec" "$flag" 2 "${train[@]}" --batch 4 --accumulate 2 -o "$work/two" >"$work/two.log" 2>&1 ||
  fail "two processes: $(cat "$work/two.log")"
for file in steps.csv predictions.csv; do # numbers to a billionth
  paste -d, "$work/one/$file" "$work/two/$file" | awk -F, '
    { for (i = 1; i <= NF / 2; i++) {
        a = $i; b = $(i + NF / 2)
        if (a ~ /^[-0-9.e]+$/ ? (a - b) ^ 2 > 1e-18 * (1 + a * a) : a != b) { print FILENAME ": " $0; bad = 1 } } }
    END { exit bad || NR < 5 }' || fail "$file differs"
done
grep -q '^2 processes of [0-9]* threads* each' "$work/two.log" || fail "no line tells of two processes"
(($(grep -c '^run: ' "$work/two.log") == 1)) || fail "the results are not printed once: $(cat "$work/two.log")"
grep -q '"processes": 2' "$work/two/environment.json" || fail "environment.json tells of one process"

# What is wrong ends all of them, with one line of graft's.
refused() { # WORDS COMMAND...
  local words=$1
  shift
  timeout 60 "$@" >"$work/refused.log" 2>&1 && fail "no error: $*"
  (($(grep -c '^graft: error: ' "$work/refused.log") == 1)) || fail "not one error: $(cat "$work/refused.log")"
  grep -q "^graft: error: .*$words" "$work/refused.log" || fail "'$words' is missing: $(cat "$work/refused.log")"
}
two=("$mpiexec" "$flag" 2)
refused 'use --accumulate 2 with --batch 2' "${two[@]}" "${train[@]}" --batch 4 -o "$work/refused"
refused 'holds a run already' "${two[@]}" "${train[@]}" --batch 4 --accumulate 2 -o "$work/two"
refused 'does not exist' "${two[@]}" "$program" train "$work/none" --from-scratch --accumulate 2 -o "$work/refused"
refused 'unknown' "${two[@]}" "${train[@]}" --set train.epoch=3 -o "$work/refused"
refused 'precision' "${two[@]}" "${train[@]}" --batch 4 --accumulate 2 --device cpu --precision f16 -o "$work/refused"
refused 'one batch of an update moves' "${two[@]}" "${train[@]}" --batch 4 --accumulate 2 --strategy stoch-norm -o "$work/stoch"
# Two runs that were started together.
refused 'not the same' "${two[@]}" bash -c '"$@" --seed $((1 + ${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-0}}))' \
  run "${train[@]}" --batch 4 --accumulate 2 -o "$work/refused"
# Before they have come together, each says what it lacks.
timeout 60 "${two[@]}" env GRAFT_MPI_MODULE="$work/none.so" "${train[@]}" -o "$work/refused" >"$work/refused.log" 2>&1 &&
  fail "trains without its module"
grep -q '^graft: error: .*the MPI module was not found' "$work/refused.log" || fail "no module: $(cat "$work/refused.log")"
[[ ! -e $work/refused ]] || fail "a run that was refused left files"
exit $failures
