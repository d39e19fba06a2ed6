#!/bin/bash
# The portable code on 64-bit ARM: cross-compiles it with Debian's compiler and runs, under qemu, the tests whose outcome the
# processor may change: kernels, whole models, dispatch, the sampler. qemu's memory is as strongly ordered as that of the
# machine below, so what weaker ordering may do is tests/cpu/protocol_test.cpp's matter.
#
# Where the compiler or qemu can't be had it says so and passes, except with CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}

if [ "$(uname -m)" = aarch64 ]; then
  echo "arm64: skipped, this machine is one: its own tests ran the same code"
  exit 0
fi
if ! tools/install_dependencies.sh arm64; then
  echo "arm64: skipped, there is no cross-compiler or no qemu"
  if [ "${CI:-}" = true ]; then exit 1; fi
  exit 0
fi

cmake --preset arm64 -DSLUICE_TESTS=ON -DSLUICE_UNITY=ON >/dev/null
cmake --build --preset arm64 -j "$jobs" --target test_portable
# Left out: what takes minutes under qemu and differs from the rest in size only, and what compares with instructions of x86.
left_out='DoNotDependOnTheNumberOfWorkers|DoNotDependOnNeighbours|AreCloseToTheOracle|AFewOfAllRowsOfALargeHead|EmulatedTablesHaveTheProcessorsBits'
ctest --test-dir build-arm64 -R '^portable\.' -E "$left_out" -j "$jobs" --output-on-failure --no-tests=error --progress \
  --output-junit ctest.xml
if [ "${CI:-}" = true ]; then python3 tools/no_skips.py build-arm64/ctest.xml; fi
