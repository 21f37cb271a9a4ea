#!/usr/bin/env bash
# Packs what a machine with nothing but a GPU and its driver needs to run scripts/gpu_check.sh: programs, tests,
# benchmarks, the CUDA module, and the libraries they use, without glibc, the driver, cuDNN, cuBLAS and NVRTC, which come
# with that machine or its PyTorch. Then unpacks it and runs it with those libraries alone.
#   scripts/make_bundle.sh             builds in build/bundle first (preset `bundle`: CUDA is needed to build, no GPU)
#   ... --build DIR                    takes a build that was configured with GRAFT_BUNDLE=ON
#   ... --data DIR                     adds images to train on, as data/
#   ... --weights FILE.h5              adds a pre-trained ResNet-50, as weights.h5
#   ... -o FILE                        the archive; default build/graft-bundle.tar.gz
# Fails when the archive is larger than 60 MB or does not run. On the other machine:
#   tar xzf graft-bundle.tar.gz && graft-bundle/scripts/gpu_check.sh
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
most_bytes=60000000

fail() { echo "make_bundle: $1" >&2; exit 1; }

build="" data="" weights="" archive=$source/build/graft-bundle.tar.gz
while (($#)); do
  case $1 in
    --build | --data | --weights | -o)
      [[ -n ${2:-} ]] || { echo "make_bundle: $1 needs a value" >&2; exit 2; }
      case $1 in --build) build=$2 ;; --data) data=$2 ;; --weights) weights=$2 ;; -o) archive=$2 ;; esac
      shift ;;
    *) echo "make_bundle: unknown argument '$1'; use --build, --data, --weights or -o" >&2; exit 2 ;;
  esac
  shift
done
[[ -z $data || -e $data ]] || fail "no data at $data"
[[ -z $weights || -f $weights ]] || fail "no weights at $weights"

if [[ -z $build ]]; then
  build=$source/build/bundle
  cmake -S "$source" --preset bundle -Wno-dev >/dev/null || fail "it cannot be configured; scripts/install_deps.sh --cuda?"
  cmake --build "$build" --target graft_bundle -j "$(nproc)"
fi
[[ -f $build/bundle_programs ]] || fail "$build is no build of graft"
grep -q '^GRAFT_BUNDLE:BOOL=ON' "$build/CMakeCache.txt" || fail "$build was configured without -DGRAFT_BUNDLE=ON"

work=$(mktemp -d)
partial=""
trap 'rm -rf "$work" $partial' EXIT
bundle=$work/graft-bundle
mkdir -p "$bundle"/{bin,lib/compiler,scripts,bench/results}

while read -r program; do
  [[ -e $program ]] || fail "$program is not built; cmake --build $build --target graft_bundle"
  strip -o "$bundle/bin/$(basename "$program")" "$program"
done <"$build/bundle_programs"
[[ -e $bundle/bin/graft_cuda.so ]] || echo "make_bundle: this build has no CUDA module: good for a rehearsal, not for a GPU" >&2

# Kinds of libraries, by name. glibc must be the machine's own. libstdc++ is taken from lib/compiler only where the
# machine has none or an older one, since cuDNN in the same process may need a newer one than ours.
glibc='^(ld-linux.*|libc|libm|libdl|libpthread|librt|libresolv|libutil|libanl|libmvec|libnss_.*)\.so'
machine='^(libcuda|libcudnn.*|libcublas.*|libnvrtc.*|libnvJitLink)\.so'
compiler='^(libstdc\+\+|libgcc_s)\.so'

needed() { find "$1" -type f \( -perm -u+x -o -name '*.so*' \) -exec ldd {} + 2>/dev/null | awk '$2 == "=>" {print $1, $3}' | sort -u; }

while read -r name path; do
  if [[ $name =~ $glibc || $name =~ $machine ]]; then continue; fi
  [[ -f $path ]] || fail "$name, which the programs need, is not on this machine"
  to=$bundle/lib
  if [[ $name =~ $compiler ]]; then to=$bundle/lib/compiler; fi
  strip --strip-unneeded -o "$to/$name" "$path" 2>/dev/null || cp -L "$path" "$to/$name"
done < <(needed "$bundle/bin")

cp "$source"/scripts/gpu_{check,stages}.sh "$bundle/scripts/"
cp "$source"/bench/*.py "$bundle/bench/"
cp "$source/LICENSE" "$bundle/"
cp "$source/scripts/bundle_readme.txt" "$bundle/README.txt"
if [[ -n $data ]]; then cp -rL "$data" "$bundle/data"; fi
if [[ -n $weights ]]; then cp -L "$weights" "$bundle/weights.h5"; fi

mkdir -p "$(dirname "$archive")"
partial=$(mktemp "$archive.XXXX")
tar -C "$work" --owner=0 --group=0 -cf - graft-bundle | gzip -9 >"$partial"
bytes=$(stat -c %s "$partial")
if ((bytes > most_bytes)); then
  du -a "$bundle" | sort -rn | head -15 >&2
  fail "the archive has $((bytes / 1000000)) MB, more than $((most_bytes / 1000000))"
fi

# From here on as on the other machine.
rm -rf "$bundle"
tar -C "$work" -xzf "$partial"
unset LD_LIBRARY_PATH
while read -r name path; do
  if [[ $name =~ $glibc || $name =~ $machine || $name =~ $compiler || $path == "$bundle"/* ]]; then continue; fi
  fail "$name would come from $path, not from the bundle"
done < <(needed "$bundle/bin")

# A root that holds glibc and the bundle, nothing else.
root=$work/root
mkdir -p "$root/tmp" "$root/dev"
cp -r "$bundle" "$root/graft-bundle"
for program in "$bundle"/bin/*; do
  ldd "$program" 2>/dev/null | grep -oE '/[^ ]+' | sort -u
done | sort -u | while read -r path; do
  if [[ $(basename "$path") =~ $glibc ]]; then mkdir -p "$root$(dirname "$path")" && cp -L "$path" "$root$path"; fi
done
into_root=(chroot "$root")
if ((EUID != 0)); then into_root=(unshare --map-root-user chroot "$root"); fi
in_root() {
  local program=/graft-bundle/bin/$1; shift
  "${into_root[@]}" "$program" "$@"
}
# That root has no /proc, from which the loader knows where a program lies.
export LD_ORIGIN_PATH=/graft-bundle/bin LD_LIBRARY_PATH=/graft-bundle/lib/compiler OMP_WAIT_POLICY=passive
if in_root graft --version >"$work/version" 2>&1; then
  in_root graft devices >"$work/devices" 2>&1 || { cat "$work/devices" >&2; fail "graft devices failed"; }
  in_root graft_tests_kernels --gtest_filter='Cpu/OpCases.*relu*' >"$work/test" 2>&1 || { tail -20 "$work/test" >&2; fail "an op test failed"; }
  grep -qE '\[  PASSED  \] [1-9]' "$work/test" || fail "no op test ran"
  cat "$work/devices"
  echo "make_bundle: with glibc and the bundle alone: graft devices, $(sed -nE 's/^\[  PASSED  \] ([0-9]+).*/\1/p' "$work/test") op tests on the CPU"
elif grep -q 'Operation not permitted' "$work/version"; then
  echo "make_bundle: not tried in a root of its own: $(tail -1 "$work/version")"
  unset LD_LIBRARY_PATH LD_ORIGIN_PATH
  "$bundle/bin/graft" devices
else
  cat "$work/version" >&2
  fail "the unpacked programs do not start"
fi

chmod 644 "$partial"
mv "$partial" "$archive"
echo "make_bundle: $archive, $((bytes / 1000000)) MB"
