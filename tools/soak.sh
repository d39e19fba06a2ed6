#!/bin/bash
# The release tests again and again, each time with fresh random inputs, for so many minutes: soak.sh MINUTES. Before that what is
# too long for the tests, of the CUDA kernels on the PTX machine: thousands of launches, held-out questions, a token of the full shape.
set -euo pipefail
cd "$(dirname "$0")/.."
export SLUICE_TEST_SEED=fresh

# Launches of the kernels alone and of the backend, until there are as many: each with a seed, a model, a grid and rows of its own.
launches() {  # launches NUMBER
  local report=build/soak.launches n=0
  while [ $n -lt "$1" ]; do
    rm -f $report
    # One of the tests wants a report of its own.
    SLUICE_PTX_REPORT=$report build/tests/test_cuda --gtest_brief=1 \
      --gtest_filter='*Decode*:*MixedSteps*:CudaBackend.*:-*ReadsEachWeightOnce*' >build/soak.log &&
      build/tests/test_cuda_mixed --gtest_brief=1 >>build/soak.log || { cat build/soak.log; return 1; }
    # Without kernels all tests skip.
    [ -f $report ] || { echo "no launches: CUDA isn't built in"; return 0; }
    n=$((n + $(wc -l <$report)))
  done
  rm -f $report
  echo "$n launches of the CUDA kernels without a finding"
}

cmake --preset release -DSLUICE_TESTS=ON -DSLUICE_TESTS_ELSEWHERE= >/dev/null
cmake --build --preset release -j "${JOBS:-$(nproc)}"
launches "${LAUNCHES:-3000}"
if build/sluice --version | grep -q emulated; then
  tools/full_shape.py build/sluice
  SLUICE_PTX_GPU=tiny SLUICE_PTX_SEED=$RANDOM tools/ask_heldout.py build/sluice --device emulated --each 10
fi
end=$((SECONDS + 60 * $1))
rounds=0
while [ $SECONDS -lt $end ]; do
  ctest --test-dir build -j "${JOBS:-$(nproc)}" --output-on-failure --no-tests=error >build/soak.log || {
    cat build/soak.log
    exit 1
  }
  rounds=$((rounds + 1))
done
echo "$rounds rounds without a failure"
