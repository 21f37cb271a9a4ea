#!/usr/bin/env bash
# The stages of gpu_check.sh, which calls this with its GPU_CHECK_* variables and ends a stage at its limit.
#   gpu_stages.sh list        lines of: name, limit in seconds, title; the most telling first
#   gpu_stages.sh run NAME    exits with 0 (passed), 77 (the machine refuses; the last line says why) or anything else
# A stage leaves lines of the table of goals in NAME.rows and other findings in NAME.md, written as they are found.
set -uo pipefail

list() {
  cat <<'END'
device 60 Device
ops 300 Every op case against the reference
networks 300 Networks beside the CPU, both against the reference
training 420 Training ResNet-50: loss curve beside the CPU's
determinism 150 The same training twice: the same weights
paths 180 The same training by other ways of its data: the same weights
ceilings 90 Matrix rate and copy bandwidth
plans 480 cuDNN's plans, chosen before anything is timed
compile 480 torch.compile's kernels, compiled before anything is timed
train-resnet50 300 Training ResNet-50, batch 256
train-densenet121 420 Training DenseNet-121, batch 256
train-vgg19 240 Training VGG-19, batch 128
infer-resnet50 240 Inference ResNet-50, batch 256
infer-densenet121 300 Inference DenseNet-121, batch 256
infer-vgg19 240 Inference VGG-19, batch 256
latency 150 Inference, batch 1
update 150 Optimizer step with Auto-RGN's rates
small-batch 420 Training at batch 8 and 16
probe 300 Linear probe of 20 epochs
boundary 240 Frozen up to layer3, kept features
start 240 Process start to first step
deterministic 240 Cost of the deterministic mode
memcheck 240 compute-sanitizer memcheck on the op cases
racecheck 240 compute-sanitizer racecheck on the op cases
training-densenet121 420 Training DenseNet-121: loss curve beside the CPU's
training-vgg19 420 Training VGG-19: loss curve beside the CPU's
all-resnet50 470 Training ResNet-50, every configuration of PyTorch
all-densenet121 470 Training DenseNet-121, every configuration of PyTorch
all-vgg19 470 Training VGG-19, every configuration of PyTorch
all-latency 470 Inference, batch 1, the configuration that takes PyTorch longest to compile
demo 300 graft demo
cpu-curves 3000 The CPU's loss curves, for another machine
END
}

# graft's programs see the libraries found for them; PyTorch must not.
ours() {
  local path=${GRAFT_LIBRARY_PATH-}
  path+=${LD_LIBRARY_PATH:+${path:+:}$LD_LIBRARY_PATH}
  LD_LIBRARY_PATH=$path "$@"
}

# tests <program> <filter> [launcher...]: passes only when at least one test ran and none was skipped.
tests() {
  local program=$bin/$1 filter=$2; shift 2
  [[ -x $program ]] || { echo "$program is not in this folder"; return 77; }
  local out=$state/$stage.tests result=0
  ours "$@" "$program" --gtest_filter="$filter" --gtest_brief=0 2>&1 | tee "$out" || result=$?
  local passed
  passed=$(sed -nE 's/^\[  PASSED  \] ([0-9]+) tests?.*/\1/p' "$out")
  echo "- $(grep -c '^\[       OK \]' "$out") tests passed of $filter" >>"$state/$stage.md"
  ((result == 0)) || return "$result"
  if grep -q '\[  SKIPPED \]' "$out"; then echo "tests were skipped on a machine with a GPU"; return 1; fi
  ((${passed:-0} > 0)) || { echo "no test matched $filter"; return 1; }
  echo "$passed tests passed"
}

device() {
  ours "$bin/graft" devices
  ours "$bin/graft" devices --json | grep -q "\"$GPU_CHECK_DEVICE\",\"usable\":true" ||
    { ours "$bin/graft" devices | grep -m1 "^${GPU_CHECK_DEVICE%%:*} "; return 1; }
  ours "$bin/graft" devices | grep -m1 "^$GPU_CHECK_DEVICE " | sed 's/^/- /' >"$state/$stage.md"  # with the cuDNN in use
}

sanitizer() {  # sanitizer <tool of compute-sanitizer>
  local tool probe
  tool=$(command -v compute-sanitizer || echo "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer")
  [[ -x $tool ]] || { echo "compute-sanitizer is not installed"; return 77; }
  [[ -x $bin/graft_tests_kernels ]] || { echo "$bin/graft_tests_kernels is not in this folder"; return 77; }
  if ! probe=$(ours "$tool" "$bin/graft_tests_kernels" --gtest_filter="$suite/OpCases.*relu*" 2>&1); then
    if ! grep -q 'ERROR SUMMARY: [1-9]' <<<"$probe"; then
      echo "$probe"
      echo "compute-sanitizer does not run here: $(grep -im1 -E 'error|denied|unable|not supported' <<<"$probe")"
      return 77
    fi
  fi
  # The vendors' kernels are not ours to judge, but those that unfold images for them are, and those that take their place.
  # Of the unfolding ones one uses shared memory, which is what racecheck looks at, and forward convolutions start it; beside
  # gradients' engines racecheck itself crashes.
  tests graft_tests_kernels "$suite/OpCases.*-*/conv*:*/linear*" "$tool" --tool "$1" --error-exitcode 9 || return
  local unfolding="$suite/OpCases.*7x7_stride2*bf16:$suite/OpCases.*3x3_of_an_image*bf16"
  local growth="$suite/OpCases.*3x3_to_32*bf16:$suite/OpCases.*3x3_to_32*f16"
  if [[ $1 == racecheck ]]; then
    unfolding="$suite/OpCases.*/conv_7x7_stride2*bf16:$suite/OpCases.*/conv_3x3_of_an_image*bf16"
    growth+="-*conv_weight_grad_3x3_to_32_widest*"
  fi
  tests graft_tests_kernels "$unfolding:$growth" "$tool" --tool "$1" --kernel-regex kns=graft --error-exitcode 9
}

need_python() {
  command -v "$GPU_CHECK_PYTHON" >/dev/null || { echo "there is no $GPU_CHECK_PYTHON; --python names one"; return 77; }
}

# The images to train on, where nobody brought any: the ones that graft draws.
images() {
  if [[ -n $GPU_CHECK_DATA ]]; then echo "$GPU_CHECK_DATA"; return; fi
  [[ -d $state/demo-images/source/train ]] || ours "$bin/graft" demo --images-only -o "$state/demo-images" >&2 || return 1
  echo "$state/demo-images/source"
}

# Exits with 2 when the device does not offer the precision.
# train_run <name> <device> <precision> <steps> <arch> [settings]: a run from one seed, with plain SGD, whose steps show a
# gradient of wrong size (Adam's would not).
train_run() {
  local name=$1 where=$2 precision=$3 steps=$4 arch=$5 data start existing
  shift 5
  data=$(images) || return 1
  start=(--from-scratch --arch "$arch")
  if [[ -n $GPU_CHECK_WEIGHTS && $arch == resnet50 ]]; then start=(--weights "$GPU_CHECK_WEIGHTS"); fi
  existing=(--overwrite)
  if [[ " $* " == *" --resume "* ]]; then existing=(); fi
  ours "$bin/graft" train "$data" "${start[@]}" --size "$curve_size" --batch "$curve_batch" --max-steps "$steps" --epochs 1000 \
    --optimizer sgd --lr 0.001 --schedule constant --patience 0 --seed 7 --device "$where" --precision "$precision" \
    --no-leak-check ${existing[@]+"${existing[@]}"} -o "$state/runs/$name" "$@"
}

# cpu_run <name> <arch> <threads>: a run to hold the device's against. It may have been made before, on another machine: one
# of the same program, settings and images is taken as it is.
cpu_run() {
  local run=$state/runs/$1 data key
  data=$(images) || return 1
  key=$({ cat "$bin/graft" ${GPU_CHECK_WEIGHTS:+"$GPU_CHECK_WEIGHTS"}; declare -f train_run
    echo "$2 $curve_size $curve_batch $curve_steps"
    if [[ -d $data ]]; then cd "$data" && find -L . -type f -exec sha256sum {} + | LC_ALL=C sort; else cat "$data"; fi; } | sha256sum)
  if [[ -s $run/steps.csv && $(cat "$run/curve_of" 2>/dev/null) == "$key" ]]; then echo "$1 was there"; return; fi
  rm -f "$run/curve_of"
  train_run "$1" cpu f32 "$curve_steps" "$2" --threads "$3" || return
  echo "$key" >"$run/curve_of"
}
# Other threads and narrower instructions: sums in another order, in another memory format.
other_cpu_run() { DNNL_MAX_CPU_ISA=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 cpu_run "$@"; }

# What later stages need of the CPU alone. A machine without a GPU can do it, for another to take over with --state.
cpu_curves() {
  local arch
  images >/dev/null || return 1
  for arch in resnet50 densenet121 vgg19; do
    cpu_run "$arch-cpu" "$arch" "$quarter" || return 1
    other_cpu_run "$arch-cpu-2" "$arch" "$half" || return 1
  done
}

# training <arch>: the device's curve against CPU runs that differ from each other in rounding alone. All run at once.
training() {
  local arch=$1 precision run result=0 cpu_runs=()
  need_python || return
  images >/dev/null || return 1
  local cpus=(--cpu "$state/runs/$arch-cpu/steps.csv" --cpu "$state/runs/$arch-cpu-2/steps.csv")
  cpu_run "$arch-cpu" "$arch" "$quarter" >"$state/$stage.cpu.log" 2>&1 &
  cpu_runs+=($!)
  other_cpu_run "$arch-cpu-2" "$arch" "$half" >"$state/$stage.cpu-2.log" 2>&1 &
  cpu_runs+=($!)
  train_run "$arch-device" "$GPU_CHECK_DEVICE" f32 "$curve_steps" "$arch" --threads "$quarter" || result=1
  for run in "${cpu_runs[@]}"; do wait "$run" || result=1; done
  if ((result)); then tail -n 5 "$state/$stage".cpu*.log; echo "a run failed"; return 1; fi
  "$GPU_CHECK_PYTHON" "$source/bench/compare_curves.py" --device "$state/runs/$arch-device/steps.csv" "${cpus[@]}" \
    --title "$arch" --md "$state/$stage.md" || result=1
  for precision in $other_precisions; do
    train_run "$arch-$precision" "$GPU_CHECK_DEVICE" "$precision" "$curve_steps" "$arch" 2>"$state/$stage.err"
    case $? in
      0) ;;
      2) echo "- $arch in $precision: not run: $(tail -1 "$state/$stage.err")" | tee -a "$state/$stage.md"; continue ;;
      *) cat "$state/$stage.err"; return 1 ;;
    esac
    "$GPU_CHECK_PYTHON" "$source/bench/compare_curves.py" --device "$state/runs/$arch-$precision/steps.csv" "${cpus[@]}" \
      --precision "$precision" --title "$arch" --md "$state/$stage.md" || result=1
  done
  if ((result)); then echo "a curve does not agree with the CPU's"; fi
  return $result
}

weights_hash() { ours "$bin/graft" weights inspect "$1" --json | sed -nE 's/.*"values_sha256":"([0-9a-f]{64})".*/\1/p'; }

determinism() {
  local precision name first second
  for precision in f32 $other_precisions; do
    for name in again-1 again-2; do
      train_run "$name" "$GPU_CHECK_DEVICE" "$precision" "$repeat_steps" resnet50 --threads "$threads" 2>"$state/$stage.err"
      case $? in
        0) ;;
        2) echo "- $precision: not run: $(tail -1 "$state/$stage.err")" | tee -a "$state/$stage.md"; continue 2 ;;
        *) cat "$state/$stage.err"; return 1 ;;
      esac
    done
    first=$(weights_hash "$state/runs/again-1/last.h5")
    second=$(weights_hash "$state/runs/again-2/last.h5")
    [[ -n $first ]] || { echo "no hash of $state/runs/again-1/last.h5"; return 1; }
    if [[ $first != "$second" ]] || ! cmp "$state/runs/again-1/steps.csv" "$state/runs/again-2/steps.csv"; then
      echo "$precision: two runs of $repeat_steps steps differ: weights $first and $second"
      return 1
    fi
    if ! train_run eager "$GPU_CHECK_DEVICE" "$precision" "$repeat_steps" resnet50 --threads "$threads" --graph off \
      2>"$state/$stage.err"; then
      cat "$state/$stage.err"
      return 1
    fi
    if [[ $first != "$(weights_hash "$state/runs/eager/last.h5")" ]]; then
      echo "$precision: $repeat_steps steps called one by one give other weights than replayed ones"
      return 1
    fi
    echo "- $precision: two runs of $repeat_steps steps of ResNet-50, and one without captured steps, give the same weights, SHA-256 $first" | tee -a "$state/$stage.md"
  done
  return 0
}

# few_images <updates>: of each class so many that a pass over them takes about that; several passes show what stays.
few_images() {
  local data few=$state/few-images class split file count
  data=$(images) || return 1
  if [[ ! -d $data/train ]]; then echo "$data"; return; fi  # then as it is
  rm -rf "$few"
  count=$(find -L "$data/train" -mindepth 1 -maxdepth 1 -type d | wc -l)
  count=$(($1 * curve_batch / (count > 0 ? count : 1)))
  for split in train val test; do
    for class in "$data/$split"/*/; do
      [[ -d $class ]] || continue
      mkdir -p "$few/$split/$(basename "$class")" || return
      find -L "$class" -type f | LC_ALL=C sort | head -n "$((count > 0 ? count : 1))" | while read -r file; do
        ln -s "$(realpath "$file")" "$few/$split/$(basename "$class")/"
      done
    done
  done
  echo "$few"
}

# path_run <name> <steps> [settings]: a run of `paths`
path_run() {
  train_run "paths-$1" "$GPU_CHECK_DEVICE" "$path_precision" "$2" resnet50 --threads "$threads" "${@:3}" \
    2>"$state/$stage.err" && return
  cat "$state/$stage.err"
  return 1
}

# The same training in another way, each pair with the same weights in the end: where images and features lie, uploads, and
# a checkpoint in the middle. In two and a half passes over few images.
paths() {
  local path_precision=f32 steps=$((2 * repeat_steps)) first second pair hashes
  if [[ " $other_precisions " == *" bf16 "* && $GPU_CHECK_REHEARSE == no ]]; then path_precision=bf16; fi
  GPU_CHECK_DATA=$(few_images $((steps * 2 / 5))) || return 1
  path_run default "$steps" || return 1
  path_run uploads "$steps" --device-image-cache-mb 0 || return 1
  path_run resumed "$((steps / 2))" || return 1
  path_run resumed "$steps" --resume || return 1
  path_run crops "$steps" --augment standard || return 1
  path_run crops-uploads "$steps" --augment standard --device-image-cache-mb 0 || return 1
  for pair in probe probe-uploads; do
    path_run "$pair" "$steps" --strategy linear-probe $([[ $pair == probe ]] || echo --device-image-cache-mb 0) || return 1
    grep -q 'is computed once and kept' "$state/$stage.err" || { echo "$pair: no features were kept"; return 1; }
  done
  while read -r first second pair; do
    hashes=("$(weights_hash "$state/runs/paths-$first/last.h5")" "$(weights_hash "$state/runs/paths-$second/last.h5")")
    [[ -n ${hashes[0]} ]] || { echo "no hash of $state/runs/paths-$first/last.h5"; return 1; }
    if [[ ${hashes[0]} != "${hashes[1]}" ]] || ! cmp "$state/runs/paths-$first/steps.csv" "$state/runs/paths-$second/steps.csv"; then
      echo "$path_precision, $steps steps: $pair give other weights"
      return 1
    fi
    echo "- $path_precision, $steps steps: $pair give the same weights" | tee -a "$state/$stage.md"
  done <<'END'
default uploads images that stay on the device and images sent batch by batch
default resumed a run of its own and one that stopped halfway
crops crops-uploads random crops of images that stay and of images that are sent
probe probe-uploads kept features on the device and in the host's memory
END
}

goals() {  # goals <stage of bench/gpu_goals.py> [arguments]
  need_python || return
  local extra=()
  if [[ $GPU_CHECK_REHEARSE == yes ]]; then extra+=(--rehearse); fi
  if [[ $GPU_CHECK_TORCH == no ]]; then extra+=(--alone); fi
  if [[ -n ${GPU_CHECK_TURNS-} ]]; then extra+=(--turns "$GPU_CHECK_TURNS"); fi
  "$GPU_CHECK_PYTHON" "$source/bench/gpu_goals.py" "$@" --bin "$bin" --device "$GPU_CHECK_DEVICE" --state "$state" \
    --rows "$state/$stage.rows" --md "$state/$stage.md" ${extra[@]+"${extra[@]}"}
}

with_images() {  # with_images <stage>: that needs a folder of images
  local data
  data=$(images) || return 1
  goals "$@" --data "$data"
}

demo() {
  if [[ $GPU_CHECK_REHEARSE == yes ]]; then echo "takes minutes on a CPU; scripts/quickstart.sh runs it"; return 77; fi
  rm -rf "$state/demo"
  ours "$bin/graft" demo --device "$GPU_CHECK_DEVICE" -o "$state/demo"
}

run() {
  stage=$1 bin=$GPU_CHECK_ROOT/bin state=$GPU_CHECK_STATE source=$GPU_CHECK_SOURCE
  suite=Cuda ops='Cuda*/*' networks='Cuda*/*' curve_size=96 curve_batch=16 curve_steps=100 repeat_steps=30
  threads=0  # all
  quarter=$((($(nproc) + 3) / 4)) half=$(($(nproc) / 2))
  ((half > quarter)) || half=$((quarter + 1))
  other_precisions="bf16 $(ours "$bin/graft" train --help 2>/dev/null | grep -owE 'fp16|f16' | head -1)"
  if [[ $GPU_CHECK_REHEARSE == yes ]]; then
    suite=Cpu ops='Cpu*/*-*bf16*' networks='*Parity*' curve_size=32 curve_batch=4 curve_steps=10 repeat_steps=2 threads=1
    other_precisions=f16  # which no CPU has: so few images say nothing of a curve in 16 bits
  fi
  # What PyTorch compiles in one stage, later ones find, and the plans that graft chooses.
  export TORCHINDUCTOR_CACHE_DIR=$state/inductor TRITON_CACHE_DIR=$state/triton TORCHINDUCTOR_FX_GRAPH_CACHE=1 XDG_CACHE_HOME=$state/cache
  case $stage in
    device) device ;;
    ops) tests graft_tests_kernels "$ops" ;;
    networks) tests graft_tests_models "$networks" ;;
    cpu-curves) cpu_curves ;;
    training) training resnet50 ;;
    training-*) training "${stage#training-}" ;;
    determinism) determinism ;;
    paths) paths ;;
    memcheck | racecheck) sanitizer "$stage" ;;
    probe | boundary) with_images "$stage" ;;
    train-*) goals train --arch "${stage#train-}" ;;
    all-latency) goals latency --all ;;
    all-*) goals train --arch "${stage#all-}" --all ;;
    infer-*) goals infer --arch "${stage#infer-}" ;;
    ceilings | plans | compile | latency | update | small-batch | start | deterministic) goals "$stage" ;;
    demo) demo ;;
    *) echo "no stage '$stage'"; return 2 ;;
  esac
}

case ${1-} in
  list) list ;;
  run) run "${2:?gpu_stages: run needs a stage}" ;;
  *) echo "gpu_stages: list, or run NAME" >&2; exit 2 ;;
esac
