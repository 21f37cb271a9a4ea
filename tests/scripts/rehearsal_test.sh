#!/usr/bin/env bash
# The quick stages of scripts/gpu_check.sh on the CPU, with the programs of a build and without PyTorch: commands, parsing,
# curves, hashes and tables are those that a GPU will see.
#   rehearsal_test.sh SOURCE_DIR BUILD_DIR
set -uo pipefail
source=$1 build=$2
command -v python3 >/dev/null || { echo "there is no python3"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$source/scripts/gpu_check.sh" --bundle "$build" --rehearse --no-torch --state "$work/state" --results "$work/report.md" \
  --only device,training,determinism,paths,memcheck,ceilings,plans,compile,update,train-resnet50,latency,deterministic
result=$?
cat "$work/report.md"
((result == 0)) || { tail -n 30 "$work"/state/*.log; exit 1; }

failures=0
has() { grep -qE -- "$1" "$work/report.md" || { echo "FAILED: the report has no line like: $1"; failures=1; }; }
has '^\| Device \| passed'
has '^\| Training ResNet-50: loss curve beside the CPU.s \| passed'
has '^\| The same training twice: the same weights \| passed'
has '^\| cuDNN.s plans, chosen before anything is timed \| passed'
has '^- train ResNet-50, batch 2, f32, sums in any order: [0-9.]+ s to start'
has '^\| torch.compile.s kernels, compiled before anything is timed \| skipped \| not wanted '
has '^- cpu '
has '^\| G18 \| cost of the deterministic mode, training ResNet-50, batch 2, 32 px \| [0-9]+/s, f32 .* \| time [0-9.]+ '
has '^- resnet50: 10 steps in f32: first loss .* Agrees\.$'
has '^- resnet50 in f16: not run: '
has '^- f32: two runs of 2 steps of ResNet-50, and one without captured steps, give the same weights, SHA-256 [0-9a-f]{64}$'
for pair in 'images that stay' 'a run of its own' 'random crops' 'kept features'; do
  has "^- f32, 4 steps: $pair .* give the same weights$"
done
has '^- bounds below take [0-9.e+-]+ TFLOP/s'
has '^\| G11 \| Auto-RGN step, DenseNet-121 \| [0-9.]+ ms \| none '
has '^\| G1 \| training ResNet-50, batch 2, 32 px \| [0-9]+/s, f32 \| none .* \| rehearsed \|$'
has '^\| G6 \| latency ResNet-50, batch 1, 32 px \| [0-9.]+ ms, f32 '
exit $failures
