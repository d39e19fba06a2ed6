#!/bin/bash
# All tests. Times per part go to the end; the last words are ctest's for the release build.
# With CI=true a test that was skipped is a failure, unless it is labelled as needing what CI never has.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}
times=()

part() {  # part NAME COMMAND...: runs it and notes how long it took
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  "$@"
  times+=("$name $((SECONDS - start))s")
}

build() {  # build PRESET [cmake --build options]
  cmake --preset "$1" -DSLUICE_TESTS=ON -DSLUICE_UNITY=ON >/dev/null
  cmake --build --preset "$1" -j "$jobs" "${@:2}"
}

run_tests() {  # run_tests FOLDER [ctest options]
  local folder=$1 log
  shift
  log=$folder/ctest.xml
  ctest --test-dir "$folder" -j "$jobs" --output-on-failure --no-tests=error --progress \
    --output-junit ctest.xml "$@"
  if [ "${CI:-}" = true ]; then python3 tools/no_skips.py "$log"; fi
}

# Of PATH or PyPI. Without one there are no CUDA kernels, and the tests that need them say so.
part "nvcc" sh -c 'tools/get_nvcc.sh || echo "the CUDA kernels are left out"'
part "format" tools/check_format.sh
# Machine code for one GPU is enough to judge it (tools/cuda_report.py); the tests execute the PTX.
# What hardly depends on the optimiser, and isn't shortened for sanitizers, is built and run with them alone.
cmake --preset release -DSLUICE_CUDA_SASS=86 -DSLUICE_TESTS_ELSEWHERE='model;engine;fuzz' >/dev/null
part "release build" build release
part "asan + ubsan build" build asan
part "asan + ubsan tests" run_tests build-asan -LE slow
# Only what has threads: the workers, and the readers of files that others change meanwhile.
part "tsan build" build tsan --target test_base test_cpu test_engine
part "tsan tests" run_tests build-tsan -LE slow -R '^(base|cpu|engine)\.' -E '^cpu\.symbols'
part "arm64" tools/arm64.sh
part "clang-tidy" tools/tidy.sh build-asan quick
echo "== release tests (before them: $(IFS=,; echo "${times[*]}"))"
run_tests build
python3 tools/check_all_ran.py build build-asan
