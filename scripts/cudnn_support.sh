#!/usr/bin/env bash
# Writes bench/results/cudnn-support.md: which graphs of the networks cuDNN accepts for an H100, at several batches and
# sizes. Fails, and writes nothing, where one that graft runs is refused. Needs the CUDA Toolkit and cuDNN, no GPU; takes some
# minutes.
#   scripts/cudnn_support.sh [BUILD_FOLDER]     build/ci, configured before
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/ci}
[[ -f $build/CMakeCache.txt ]] || { echo "cudnn_support: $build is not configured; run cmake --preset ci" >&2; exit 2; }
cmake --build "$build" --target graft_cudnn_support
out=bench/results/cudnn-support.md
{
  echo "# What cuDNN offers the networks on an H100"
  echo
  echo "Asked of its heuristics without a GPU by \`scripts/cudnn_support.sh\`; every distinct graph of the sixteen networks, training"
  echo "and inference, once. Only plans that give the same bits every time count. For ResNet-50, DenseNet-121 and VGG-19 the tests"
  echo "\`cudnn_support.*\` hold the rows without a star at batch 16, 224 px. In f32 engines that are compiled at run time are out, since"
  echo "they may multiply in TF32; where that leaves a graph refused, graft runs the convolution alone and the rest in kernels of its own."
  echo
  "$build/bin/graft_cudnn_support" 1 224 16 224 256 224 1 64 16 64 256 64
} >"$out.part"
mv "$out.part" "$out"
echo "cudnn_support: wrote $out"
