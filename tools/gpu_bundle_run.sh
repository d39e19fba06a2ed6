#!/bin/bash
# Tries the CUDA backend on this machine's GPU: device, tests, answers. Prints, and writes to results.txt, what to send back.
set -uo pipefail
cd "$(dirname "$0")"
export LD_LIBRARY_PATH=$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
device=${1:-cuda}
failed=0

part() {  # part NAME COMMAND...
  echo "== $1"
  shift
  "$@"
  local code=$?
  echo "-- exit code $code"
  [ $code -eq 0 ] || failed=1
}

same_answers() {  # greedy answers of the GPU beside those of the CPU
  local question gpu cpu
  for question in "What is 17 + 25?" "Reverse the word planet." "Which day comes after Monday?"; do
    gpu=$(bin/sluice run --device "$device" --temp 0 -n 64 -p "$question" 2>/dev/null) || return 1
    cpu=$(bin/sluice run --device cpu --temp 0 -n 64 -p "$question" 2>/dev/null) || return 1
    echo "$question  $device: $gpu  cpu: $cpu"
    [ "$gpu" = "$cpu" ] || return 1
  done
}

speed() {
  local i
  for i in 1 2 3 4 5; do
    bin/sluice run --device "$device" --temp 0 -n 512 --raw -p "What is" 2>&1 >/dev/null | tail -n 1 || return 1
  done
}

tests() {
  # What judges the PTX machine itself stays with it.
  SLUICE_TEST_DRIVER=libcuda.so.1 "$@" bin/test_cuda --gtest_filter='CudaBackend.*:-*AWaitThatTakesTooLong*:*DoesNotFit*'
}

{
  part "program" bin/sluice --version
  if command -v nvidia-smi >/dev/null; then part "driver" nvidia-smi; fi
  part "devices" bin/sluice devices
  part "answers" same_answers
  if [ "$device" != emulated ]; then
    part "tests" tests
    if command -v compute-sanitizer >/dev/null; then part "compute-sanitizer" tests compute-sanitizer --error-exitcode 1; fi
  fi
  part "speed" speed
  echo "== done: $([ $failed -eq 0 ] && echo all good || echo something failed)"
  exit $failed
} 2>&1 | tee results.txt
exit "${PIPESTATUS[0]}"
