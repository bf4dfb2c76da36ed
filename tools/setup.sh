#!/usr/bin/env bash
# Fill .venv from requirements.lock and make sure that cameras can be rendered. Idempotent; a stamp makes it quick.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "setup: $*" >&2
  exit 1
}

key() { # the lock, the project's metadata and the place: a moved virtual environment does not work
  { cat requirements.lock requirements-cuda.lock pyproject.toml tools/setup.sh && pwd; } | sha256sum | cut -d ' ' -f 1
}

find_python() {
  local name
  for name in ${PYTHON:-python3.11 python3.12 python3}; do
    if "$name" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "needs Python 3.11 or 3.12, tried ${PYTHON:-python3.11 python3.12 python3}; install one (Debian 12: apt-get install python3.11 python3.11-venv) or name it: make setup PYTHON=/path/to/python3.11"
}

make_venv() {
  local python=$1
  if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$python" -m venv --clear .venv
  elif "$python" -c 'import pip, venv' 2>/dev/null; then
    # Debian keeps ensurepip in python3.11-venv, but pip can install itself into another environment.
    "$python" -m venv --clear --without-pip .venv
    "$python" -m pip --python .venv/bin/python install --quiet pip
  else
    fail "$python cannot make a virtual environment; run: apt-get install -y python3.11-venv"
  fi
}

install_system_packages() { # EGL with a software driver, and what OpenCV's library wants
  local packages=(libegl1 libegl-mesa0 libgl1-mesa-dri libgl1 libglib2.0-0)
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    .venv/bin/python tools/check_gl.py 2>/dev/null && echo "setup: without ${packages[*]} robosuite does not work" && return
    fail "cannot render cameras; run as root: apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
  fi
  echo "setup: installing ${packages[*]} to render cameras with"
  apt-get update -qq || fail "apt-get update failed, and cameras need ${packages[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  .venv/bin/python tools/check_gl.py || fail "OpenGL is installed and still renders nothing; see the message above"
}

install() {
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}

stamp=.venv/.setup-stamp
wanted=$(key)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
start=$SECONDS
python=$(find_python)
# A .venv that cannot run, or whose scripts name another folder, is made anew; a half-filled one is continued.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1 || ! grep -qsF "$PWD/.venv" .venv/bin/activate; then
  echo "setup: making .venv with $("$python" --version)"
  make_venv "$python"
fi
echo "setup: installing requirements.lock (about 1 GB, minutes the first time)"
# pip takes PyPI's build of torch, which wants 3 GB of NVIDIA's libraries, where it may: ask for the CPU build first.
sed -n '/^torch==/,/[^\\]$/p' requirements.lock | sed 's/^torch==[^ ]*/&+cpu/' >.venv/torch-cpu.txt
install --no-deps --only-binary :all: --require-hashes -r .venv/torch-cpu.txt 2>/dev/null || true
install --no-deps --only-binary :all: --require-hashes -r requirements.lock
install --no-deps --no-build-isolation --editable .
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
  echo "setup: the index has the CUDA build of torch: installing requirements-cuda.lock too (3 GB more)"
  install --no-deps --only-binary :all: --require-hashes -r requirements-cuda.lock
  .venv/bin/python -c 'import torch' || fail "torch is installed and cannot be imported; see the message above"
fi
{ .venv/bin/python tools/check_gl.py && .venv/bin/python -c 'import cv2'; } 2>/dev/null || install_system_packages
echo "$wanted" >"$stamp"
echo "setup: ready after $((SECONDS - start)) s"
