#!/bin/bash
# What is too slow for every test run: both compilers without a warning, and the whole of clang-tidy.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/check_format.sh
for preset in gcc clang; do
  cmake --preset $preset -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >/dev/null
  cmake --build --preset $preset -j "${JOBS:-$(nproc)}"
done
tools/tidy.sh build-clang
