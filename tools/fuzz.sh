#!/bin/bash
# Looks for inputs that end in anything but an error message: fuzz.sh MINUTES [TARGET...], so many minutes for each target
# of tests/fuzz. What it learns stays in build-fuzz/corpus; an input that breaks something lands in build-fuzz/broken,
# and the exit code is 1. An input may take 2 s (SECONDS_EACH); a busy machine wants more.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-2}
[[ $minutes =~ ^[1-9][0-9]*$ ]] || { echo "usage: $0 MINUTES [TARGET...], from 1 minute" >&2; exit 2; }
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(safetensors gguf tokenizer_json config_json chat_messages ptx fat_binary)
jobs=${JOBS:-$(nproc)}

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "$jobs" --target fuzzers
mkdir -p build-fuzz/broken

fuzz_one() {  # fuzz_one TARGET SECONDS
  local target=$1 log=build-fuzz/$1.log options=()
  mkdir -p "build-fuzz/corpus/$target"
  [ ! -f "tests/fuzz/$target.dict" ] || options+=("-dict=tests/fuzz/$target.dict")
  # Freed memory that the sanitizer holds back counts, too: not its usual 256 MB of it.
  if ASAN_OPTIONS=quarantine_size_mb=32 "build-fuzz/tests/fuzz/fuzz_$target" -max_total_time="$2" -timeout="${SECONDS_EACH:-2}" \
    -rss_limit_mb=512 -malloc_limit_mb=256 -max_len=24000 -len_control=0 -print_final_stats=1 "${options[@]}" \
    "-artifact_prefix=build-fuzz/broken/$target-" "build-fuzz/corpus/$target" "tests/fuzz/seeds/$target" \
    >"$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, nothing broke"
  else
    echo "$target: BROKEN; the end of $log:" >&2
    tail -n 40 "$log" >&2
    return 1
  fi
}
export -f fuzz_one

# shellcheck disable=SC2016  # expanded by the inner shell
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I TARGET bash -c 'fuzz_one "$0" "$1"' TARGET $((60 * minutes)) || {
  echo "Inputs that break something: $(find build-fuzz/broken -type f -newer build-fuzz/build.ninja | sort | tr '\n' ' ')" >&2
  echo "Repeat one with build-fuzz/tests/fuzz/fuzz_TARGET FILE; once mended, it belongs into tests/fuzz/seeds/TARGET" >&2
  exit 1
}
