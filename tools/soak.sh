#!/bin/bash
# The release tests again and again, each time with fresh random inputs, for so many minutes: soak.sh MINUTES
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset release -DSLUICE_TESTS=ON -DSLUICE_TESTS_ELSEWHERE= >/dev/null
cmake --build --preset release -j "${JOBS:-$(nproc)}"
end=$((SECONDS + 60 * $1))
export SLUICE_TEST_SEED=fresh
rounds=0
while [ $SECONDS -lt $end ]; do
  ctest --test-dir build -j "${JOBS:-$(nproc)}" --output-on-failure --no-tests=error >build/soak.log || {
    cat build/soak.log
    exit 1
  }
  rounds=$((rounds + 1))
done
echo "$rounds rounds without a failure"
