#!/usr/bin/env bash
# Installs what graft is built from, on Debian and Ubuntu. Does nothing when everything is there.
#   scripts/install_deps.sh          compiler, CMake and libraries
#   scripts/install_deps.sh --cuda   also the cudnn-frontend headers (the CUDA Toolkit and cuDNN come from NVIDIA)
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config
  libdnnl-dev libhdf5-dev libjpeg-dev libtiff-dev zlib1g-dev libssl-dev libzip-dev libstb-dev
  libdcmtk-dev libmpich-dev mpich
  libfmt-dev nlohmann-json3-dev libcli11-dev libtomlplusplus-dev
  libgtest-dev libbenchmark-dev
)
cudnn_frontend_version=1.32.0
cudnn_frontend_dir=${GRAFT_CUDNN_FRONTEND_DIR:-$HOME/.cache/graft/cudnn-frontend}

cuda=no
for argument in "$@"; do
  case $argument in
    --cuda) cuda=yes ;;
    *) echo "install_deps: unknown argument '$argument'; use no argument or --cuda" >&2; exit 2 ;;
  esac
done

install_packages() {
  local missing=() package
  for package in "$@"; do
    if [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) != "install ok installed" ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then return; fi

  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || { echo "install_deps: run as root or install sudo: apt-get install ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "install_deps: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

if ! command -v apt-get >/dev/null; then
  echo "install_deps: no apt-get here; install the equivalents of these Debian packages: ${packages[*]}" >&2
  exit 1
fi
install_packages "${packages[@]}"

if [[ $cuda == yes && ! -f $cudnn_frontend_dir/include/cudnn_frontend.h ]]; then
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3 python3-pip
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  echo "install_deps: fetching the cudnn-frontend $cudnn_frontend_version headers"
  python3 -m pip download --quiet --no-deps --dest "$work" "nvidia-cudnn-frontend==$cudnn_frontend_version"
  python3 -m zipfile -e "$work"/*.whl "$work/wheel"
  mkdir -p "$cudnn_frontend_dir"
  rm -rf "$cudnn_frontend_dir/include"
  mv "$work/wheel/include" "$cudnn_frontend_dir/include"
fi
echo "install_deps: everything is installed"
