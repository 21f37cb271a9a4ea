#!/usr/bin/env bash
# Checks and times graft on a machine with a GPU and its driver, in stages, the most telling first: every op case, the
# three networks beside the CPU, training curves, determinism, benchmarks in turn with PyTorch, then compute-sanitizer.
#   scripts/gpu_check.sh                builds in build/cuda first; in an unpacked bundle it takes that
#   ... --bundle DIR      a prepared folder with bin/ and lib/ (scripts/make_bundle.sh makes one)
#   ... --data DIR        images to train on; without it the images of `graft demo`
#   ... --weights FILE.h5 pre-trained ResNet-50 to start curves from; without it random weights
#   ... --python PROGRAM  a Python with PyTorch and torchvision; default python3
#   ... --no-torch        times graft alone even where there is PyTorch
#   ... --minutes N       ends by then (30): a stage that begins late is cut there. Building is not counted
#   ... --only A,B        these stages alone;  --list names them
#   ... --together        benchmarks with much to load start at once, load side by side and take turns at being timed:
#                         quicker, where the GPU has memory for all
#   ... --again           repeats stages that have passed with these programs, GPU and libraries
#   ... --state DIR       where stages leave logs and results; default gpu_check/ beside bin/
#   ... --results FILE    the report; default bench/results/<gpu>.md
#   ... --archive FILE    keeps in FILE.tar.gz, say, after every stage what another machine needs to go on: results, curves,
#                         plans, but not what it must find out by itself. Where the state is empty, it goes on from there
#   ... --rehearse        the same on the CPU with small sizes, for machines without a GPU: proves the script, not the GPU
#   ... --stages SCRIPT   other stages than scripts/gpu_stages.sh
# A stage that passed is remembered with its results, so that an interrupted run goes on where it stopped; on another
# GPU, or with other programs or libraries, everything begins anew, and what was there is put aside. A stage ends after
# its limit and is then reported as cut, with what it had, or with what an earlier try had. What the machine refuses is
# reported as skipped, never as passed. The report is rewritten after every stage. Exits non-zero when a stage failed or
# was cut.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd) || exit

usage() { echo "gpu_check: $1; see the first lines of $0" >&2; exit 2; }

bundle="" again=no together=no only="" list=no minutes=30 state="" results="" archive="" stages=$here/scripts/gpu_stages.sh
export GPU_CHECK_DATA="" GPU_CHECK_WEIGHTS="" GPU_CHECK_PYTHON=python3 GPU_CHECK_TORCH=yes GPU_CHECK_REHEARSE=no GPU_CHECK_DEVICE=cuda:0
command=gpu_check.sh
for argument in "$@"; do  # folders of one machine mean nothing elsewhere
  if [[ $argument == */* ]]; then argument=${argument##*/}; fi
  command+=" $argument"
done
while (($#)); do
  case $1 in
    --again) again=yes ;;
    --together) together=yes ;;
    --list) list=yes ;;
    --no-torch) GPU_CHECK_TORCH=no ;;
    --rehearse) GPU_CHECK_REHEARSE=yes GPU_CHECK_DEVICE=cpu ;;
    --bundle | --data | --weights | --python | --minutes | --only | --state | --results | --archive | --stages)
      [[ -n ${2:-} ]] || usage "$1 needs a value"
      case $1 in
        --bundle) bundle=$2 ;;
        --data) GPU_CHECK_DATA=$(realpath -e "$2" 2>/dev/null) || usage "no data at $2" ;;
        --weights) GPU_CHECK_WEIGHTS=$(realpath -e "$2" 2>/dev/null) || usage "no weights at $2" ;;
        --python) GPU_CHECK_PYTHON=$2 ;;
        --minutes) [[ $2 =~ ^[1-9][0-9]*$ ]] || usage "--minutes needs a whole number, got '$2'"; minutes=$2 ;;
        --only) only=$2 ;;
        --state) state=$2 ;;
        --results) results=$2 ;;
        --archive) archive=$(realpath -m "$2") ;;
        --stages) stages=$(realpath -e "$2" 2>/dev/null) || usage "no stages at $2" ;;
      esac
      shift ;;
    *) usage "unknown argument '$1'" ;;
  esac
  shift
done

# What there is to do: lines of `name seconds title`.
plan=$("$stages" list) || usage "$stages lists no stages"
if [[ $list == yes ]]; then echo "$plan"; exit 0; fi
for name in ${only//,/ }; do
  grep -q "^$name " <<<"$plan" || usage "no stage '$name'; --list names them"
done

if [[ -z $bundle && -x $here/bin/graft ]]; then bundle=$here; fi
root=$here/build/cuda
if [[ -n $bundle ]]; then
  [[ -x $bundle/bin/graft ]] || usage "$bundle/bin holds no graft"
  root=$bundle
elif ! { cmake -S "$here" --preset cuda -Wno-dev && cmake --build "$root" -j "$(nproc)"; }; then
  echo "gpu_check: the build FAILED" >&2
  exit 1
fi
end=$((SECONDS + minutes * 60))
root=$(cd "$root" && pwd)
state=$(realpath -m "${state:-$root/gpu_check}")
mkdir -p "$state" || exit 1
if [[ -e $archive && ! -e $state/identity ]]; then
  tar -xzf "$archive" -C "$state" || usage "$archive is no archive that --archive has written"
fi
export GPU_CHECK_ROOT=$root GPU_CHECK_STATE=$state GPU_CHECK_SOURCE=$here

# Libraries for graft's programs alone: PyTorch brings its own and must not see these. A comparison is fair with one cuDNN
# and cuBLAS on both sides, so the module takes those of the Python packages, unless LD_LIBRARY_PATH names others. The
# toolkit and the bundle's libstdc++ serve for what is still missing.
export GRAFT_LIBRARY_PATH=""
with_libraries() {
  local path=$GRAFT_LIBRARY_PATH
  path+=${LD_LIBRARY_PATH:+${path:+:}$LD_LIBRARY_PATH}
  LD_LIBRARY_PATH=$path "$@"
}
lacking() { with_libraries ldd "$1" 2>&1 | grep -E 'not found' | sed -E "s/^\s*(\S+) => .*/\1/; s/.*version .(\S+)' not found.*/\1/" | sort -u; }
python_folders() {
  "$GPU_CHECK_PYTHON" - <<'PYTHON' 2>/dev/null
import glob, site, sys
for packages in site.getsitepackages() + [site.getusersitepackages()] + sys.path:
    if packages: print(*sorted(glob.glob(packages + "/nvidia/*/lib")), sep="\n")
PYTHON
}
other_folders() {
  echo "$root/lib/compiler"  # libstdc++ of the build, should the system's be older
  echo "${CUDA_HOME:-/usr/local/cuda}/lib64"
}
add_folders() {  # add_folders <libraries...>: those of standard input that hold one of them
  local folder library
  while read -r folder; do
    [[ -d $folder && :$GRAFT_LIBRARY_PATH: != *:$folder:* ]] || continue
    for library in "$@"; do
      if [[ -e $folder/$library || ($library == GLIBCXX* && $folder == */compiler) ]]; then
        GRAFT_LIBRARY_PATH+=${GRAFT_LIBRARY_PATH:+:}$folder
        break
      fi
    done
  done
}
named_by_user() {  # named_by_user <library>
  local folders folder
  IFS=: read -ra folders <<<"${LD_LIBRARY_PATH-}"
  for folder in ${folders[@]+"${folders[@]}"}; do [[ -e $folder/$1 ]] && return; done
  return 1
}
find_libraries() {
  local program library wanted=() lack
  if [[ -e $root/bin/graft_cuda.so ]]; then
    for library in $(ldd "$root/bin/graft_cuda.so" 2>/dev/null | awk '{print $1}'); do
      named_by_user "$library" || wanted+=("$library")
    done
    add_folders ${wanted[@]+"${wanted[@]}"} < <(python_folders)
  fi
  for program in "$root/bin/graft" "$root/bin/graft_cuda.so"; do
    [[ -e $program ]] || continue
    mapfile -t lack < <(lacking "$program")
    add_folders ${lack[@]+"${lack[@]}"} < <(other_folders; python_folders)
  done
}
find_libraries
still=""
for program in "$root/bin/graft" "$root/bin/graft_cuda.so"; do
  if [[ -e $program ]]; then still+=" $(lacking "$program" | xargs)"; fi
done
# libcudnn.so.9 carries its major version in its name: an older one counts as missing.
if [[ -n ${still// /} ]]; then
  echo "gpu_check: libraries that no folder here has:$still. They come with PyTorch's packages (nvidia-cudnn-cu13," \
    "nvidia-cublas, …), in these versions: an older cuDNN or another CUDA major will not do. --python names another Python" >&2
fi

gpu=$(command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
[[ $GPU_CHECK_REHEARSE == yes ]] && gpu=rehearsal
driver=$(command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)
# Another machine with such a GPU and the same libraries goes on where the first stopped, though paths differ. Results of
# other ones are put aside: they were paid for.
identity=$({ cat "$root"/bin/* "$here"/bench/*.py "$stages"; echo "$gpu ${driver%%.*}"
  with_libraries "$root/bin/graft" --version; } 2>/dev/null | sha256sum | cut -c1-16)
if [[ $(cat "$state/identity" 2>/dev/null) != "$identity" ]]; then
  earlier=$state/earlier-$(cat "$state/identity" 2>/dev/null)
  while read -r name _; do
    for kind in rows md status passed; do
      [[ -e $state/$name.$kind ]] && mkdir -p "$earlier" && mv -f "$state/$name.$kind" "$earlier"
    done
  done <<<"$plan"
  rm -f "$state/ceilings.json" "$state/torch-works" "$state/torch-versions"
  echo "$identity" >"$state/identity"
fi
slug=$(tr '[:upper:] ' '[:lower:]-' <<<"${gpu:-gpu}" | tr -cd 'a-z0-9-')
results=${results:-$here/bench/results/$slug.md}
[[ $GPU_CHECK_REHEARSE == yes && $results == "$here"/bench/results/* ]] && results=$state/rehearsal.md
mkdir -p "$(dirname "$results")" || exit 1

versions() {
  with_libraries "$root/bin/graft" --version 2>&1 | sed 's/^/- /'
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 | sed 's/^/- GPU /'
  fi
  echo "- $(uname -sr), $(nproc) CPUs, $(sed -n 's/^model name\s*: *//p;T;q' /proc/cpuinfo)"
  if [[ $GPU_CHECK_TORCH == yes ]]; then
    local answer
    if [[ -s $state/torch-versions ]]; then
      answer=$(cat "$state/torch-versions")  # asking takes PyTorch seconds
    else
      answer=$(timeout 90 "$GPU_CHECK_PYTHON" "$here/bench/torch_contender.py" versions --device "${GPU_CHECK_DEVICE%:*}" 2>&1) &&
        tail -1 <<<"$answer" >"$state/torch-versions"
    fi
    tail -1 <<<"$answer" | sed 's/^/- PyTorch: /'
  fi
}
versions >"$state/versions"

status_of() { head -1 "$state/$1.status" 2>/dev/null; }

# The report, from what the stages left: NAME.status (a word, then the reason), NAME.rows (lines of the table of goals),
# NAME.md (anything else). Written beside and renamed, so that a reader never sees half.
table_head='| goal | measured | graft | opponent | ratio per round | floor | goal | share of bound | |'
write_report() {
  local name title
  {
    echo "# ${gpu:-No GPU}"
    echo
    if [[ $GPU_CHECK_REHEARSE == yes ]]; then
      echo "A rehearsal on the CPU with small sizes: it shows that the script works. Its figures mean nothing."
      echo
    fi
    cat "$state/versions"
    echo
    echo "    scripts/$command"
    echo
    echo '| stage | result | |'
    echo '|---|---|---|'
    while read -r name _ title; do
      if [[ -e $state/$name.status ]]; then
        echo "| $title | $(status_of "$name" | sed -E 's/^(\S+) ?/\1 | /; s/\|$/| /') |"
      fi
    done <<<"$plan"
    if compgen -G "$state/*.rows" >/dev/null; then
      echo
      echo "$table_head"
      echo '|---|---|---|---|---|---|---|---|---|'
      while read -r name _; do cat "$state/$name.rows" 2>/dev/null; done <<<"$plan"
    fi
    while read -r name _; do
      if [[ -s $state/$name.md ]]; then echo; cat "$state/$name.md"; fi
    done <<<"$plan"
  } >"$results.partial" && mv "$results.partial" "$results"
  if [[ -n $archive ]]; then write_archive; fi
}
write_archive() {
  (
    shopt -s nullglob
    cd "$state" && mkdir -p "$(dirname "$archive")" &&
      tar -czf "$archive.partial" --exclude 'device.*' --exclude 'compile.*' identity *.{rows,md,status,passed,log} ceilings.jso* \
        earlier-*/* cache/graft/*plans* runs/*/{steps.csv,curve_of} && mv "$archive.partial" "$archive"
  ) || echo "gpu_check: $archive could not be written" >&2
}

# Asked to stop, it ends the stage that runs, which is then not remembered, and leaves the report as it is.
running=""
stop() {
  if [[ -n $running ]]; then kill $running 2>/dev/null; wait $running; fi  # one or several
  echo "gpu_check: stopped; run it again to go on" >&2
  exit 130
}
trap stop INT TERM

failed=no
note() {  # note <stage> <word> <reason>
  echo "$2${3:+ ${3//|//}}" >"$state/$1.status"
  echo "gpu_check: $1: $2${3:+ ($3)}"
  if [[ -z ${GPU_CHECK_TURNS-} ]]; then write_report; fi
}

stage() {  # stage <name> <limit in seconds>
  local name=$1 limit=$2 log=$state/$1.log begin=$SECONDS result=0 left=$((end - SECONDS)) kind
  if [[ $again == no && -e $state/$name.passed ]]; then
    echo "gpu_check: $name: passed earlier, see $log"
    return
  fi
  if ((left < 20)); then
    note "$name" not-run "the $minutes minutes are over; run again to go on"
    return
  fi
  ((limit < left)) || limit=$left
  rm -f "$state/$name".{status,passed}
  for kind in rows md; do mv -f "$state/$name.$kind" "$state/$name.$kind.before" 2>/dev/null; done
  echo "gpu_check: $name: at most $limit s"
  timeout --kill-after=5 "$limit" "$stages" run "$name" >"$log" 2>&1 &
  running=$!
  wait "$running" || result=$?
  running=""
  for kind in rows md; do
    if [[ $result =~ ^(124|137)$ && ! -e $state/$name.$kind ]]; then mv -f "$state/$name.$kind.before" "$state/$name.$kind" 2>/dev/null; fi
    rm -f "$state/$name.$kind.before"
  done
  case $result in
    0) touch "$state/$name.passed"; note "$name" passed "$((SECONDS - begin)) s" ;;
    77) note "$name" skipped "$(tail -1 "$log")" ;;
    124 | 137) failed=yes; note "$name" CUT "after $((SECONDS - begin)) s, what it had is kept; last line: $(tail -1 "$log")" ;;
    *) failed=yes; note "$name" FAILED "$(tail -1 "$log")"; tail -30 "$log" ;;
  esac
}

wanted() { [[ -z $only || ,$only, == *,$1,* ]]; }

# The benchmarks that load for long before they are timed, from wherever the first of them stands in the list. They share a
# lock: see Turns in bench/contenders.py. Each may take the time that is left, since it waits for the others.
is_benchmark() { [[ $1 =~ ^(train|infer)- || $1 =~ ^(latency|update|small-batch)$ ]]; }
stages_together() {
  local name pids=()
  while read -r name _; do
    if wanted "$name" && is_benchmark "$name"; then
      (
        export GPU_CHECK_TURNS=$state/turns
        trap stop INT TERM
        stage "$name" $((end - SECONDS))
      ) </dev/null &
      pids+=($!)
      running=${pids[*]}
    fi
  done <<<"$plan"
  for _ in "${pids[@]}"; do
    wait -n
    write_report
  done
  running=""
  while read -r name _; do
    if wanted "$name" && is_benchmark "$name" && [[ ! $(status_of "$name") =~ ^(passed|skipped) ]]; then failed=yes; fi
  done <<<"$plan"
  write_report
}

have_run=no  # the benchmarks, together
while read -r name limit _; do
  wanted "$name" || continue
  if [[ $name == cpu-curves && -z $only ]]; then continue; fi  # for another machine; here training stages make their own
  if [[ $together == yes ]] && is_benchmark "$name"; then
    if [[ $have_run == no ]]; then have_run=yes; stages_together; fi
    continue
  fi
  stage "$name" "$limit" </dev/null
  if [[ $name == device && $(status_of device) != passed* ]]; then
    echo "gpu_check: ${GPU_CHECK_DEVICE} cannot be used here, see $state/device.log; nothing was checked" >&2
    exit 1
  fi
done <<<"$plan"
write_report

echo
echo "gpu_check: report in $results"
if [[ $failed == yes ]]; then echo "gpu_check: FAILED"; exit 1; fi
echo "gpu_check: all that this machine allows has passed"
