#!/bin/bash
# Tries the CUDA backend on this machine's GPU: device, tests, answers, speed. Prints, and writes to results.txt, what to send back.
#
#   ./run.sh [DEVICE]                        DEVICE: cuda (default), cuda:1, or emulated for a rehearsal without a GPU
#   sudo POWER_LIMITS=150,250 ./run.sh       measures under these limits, too; the former one comes back
set -uo pipefail
cd "$(dirname "$0")"
export LD_LIBRARY_PATH=$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
device=${1:-cuda}
driver=libcuda.so.1
[ "$device" != emulated ] || driver=$PWD/bin/ptx/libcuda.so.1
failed=0

part() {  # part NAME COMMAND...
  echo "== $1"
  shift
  "$@"
  local code=$?
  echo "-- exit code $code"
  [ $code -eq 0 ] || failed=1
}

usable() {  # one token; what stands in the way is one line
  bin/sluice run --device "$device" --temp 0 -n 1 -p Hi >/dev/null
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

speed() {  # under power limits, too, where the GPU's may be set
  local rows=1,2,4,8 prompt=512 steps=128 reps=5
  [ "$device" != emulated ] || { rows=1,2 prompt=16 steps=4 reps=1; }
  bin/sluice bench --device "$device" -p $prompt -n $steps --rows $rows --reps $reps || return 1
  bin/sluice bench --device "$device" -p $prompt -n $steps --rows $rows --reps $reps --json || return 1
  [ "$device" != emulated ] || return 0
  bin/sluice bench --device "$device" --shape qwen3.5-0.8b || return 1
  if [ "$(id -u)" = 0 ] && [ -n "${POWER_LIMITS:-}" ]; then
    bin/sluice bench --device "$device" --shape qwen3.5-0.8b --power-limits "$POWER_LIMITS" || return 1
  fi
}

instructions() {  # thousands of one-instruction kernels, each on the PTX machine and on the GPU, against what the ISA says
  SLUICE_PTX_CHECKS=off SLUICE_TEST_DRIVER=$driver bin/test_ptx --gtest_filter='PtxInstruction.Of*GivesWhatTheIsaSays'
}

tests() {
  # What judges the PTX machine itself, or hangs on its time, stays with it.
  SLUICE_TEST_DRIVER=$driver SLUICE_KERNELS=$PWD/kernels "$@" bin/test_cuda \
    --gtest_filter='CudaBackend.*:*MixedSteps*:*Decode*:-CudaBackend.AWait*:CudaBackend.GivesUp*:*DoesNotFit*:*ReadsEachWeightOnce*'
}

{
  part "program" bin/sluice --version
  if command -v nvidia-smi >/dev/null; then part "driver" nvidia-smi; fi
  part "devices" bin/sluice devices
  part "a token" usable
  if [ $failed -ne 0 ]; then
    echo "== done: nothing else was tried, since $device can't be used here (see above)"
    exit 1
  fi
  part "answers" same_answers
  part "instructions" instructions
  part "tests" tests
  if [ "$device" != emulated ] && command -v compute-sanitizer >/dev/null; then
    part "compute-sanitizer" tests compute-sanitizer --error-exitcode 1
  fi
  part "speed" speed
  echo "== done: $([ $failed -eq 0 ] && echo all good || echo something failed)"
  exit $failed
} 2>&1 | tee results.txt
exit "${PIPESTATUS[0]}"
