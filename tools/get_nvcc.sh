#!/bin/bash
# Prints the path of an nvcc 13: the one in PATH if it is 13.0 or newer, otherwise one from PyPI's wheels (105 MB to fetch,
# 300 MB on disk), installed into a virtual environment, build/nvcc, the first time. SLUICE_NVCC=pypi passes over PATH. If
# neither works, the reason is the last line of stderr, and the exit code 1.
set -euo pipefail
cd "$(dirname "$0")/.."

# All five are pinned: nvcc alone would bring a newer NVVM, whose PTX its ptxas rejects.
wheels="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
nvidia-cuda-cccl==13.0.85"

fail() {
  echo "no nvcc 13: $1" >&2
  exit 1
}

in_path=$(command -v nvcc || true)
if [ -n "$in_path" ] && [ "${SLUICE_NVCC:-}" != pypi ]; then
  release=$("$in_path" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\..*/\1/p' || true)
  if [ -n "$release" ] && [ "$release" -ge 13 ]; then
    echo "$in_path"
    exit 0
  fi
fi

command -v g++ >/dev/null || fail "it needs g++"
python=$(command -v python3) || fail "none in PATH, and fetching one needs python3"
venv=$PWD/build/nvcc
mkdir -p build
exec 9>build/nvcc.lock
flock 9  # tests run side by side
if [ "$(cat "$venv/installed.txt" 2>/dev/null)" != "$wheels" ]; then
  echo "Fetching nvcc 13.0 from PyPI into build/nvcc (105 MB)" >&2
  "$python" -m venv --clear "$venv" >&2 || fail "none in PATH, and python3 can't make a virtual environment (Debian: python3-venv)"
  # shellcheck disable=SC2086  # a list of words
  "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 1 --no-deps $wheels >&2 ||
    fail "none in PATH, and PyPI's wheels can't be installed"
  echo "$wheels" >"$venv/installed.txt"
fi
found=$(find "$venv" -path '*/nvidia/cu13/bin/nvcc')
[ -x "$found" ] || fail "PyPI's wheels hold none"
echo "$found"
