#!/bin/bash
# clang-tidy over our sources: tidy.sh BUILD_FOLDER [quick]. `quick` leaves out the tests and the checks that take
# longest, so that every test run can afford it.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
folders=(src tests)
checks=()
if [ "${2:-}" = quick ]; then
  folders=(src)
  checks=(--checks=-clang-analyzer-*,-bugprone-unchecked-optional-access,-performance-unnecessary-value-param)
fi
git ls-files --cached --others --exclude-standard "${folders[@]/%//*.cpp}" |
  xargs -P "${JOBS:-$(nproc)}" -n 4 clang-tidy-19 -p "$folder" --quiet --warnings-as-errors='*' "${checks[@]}" \
    2> >(grep -vE 'warnings? (generated|treated)|^Suppressed|^Use -header-filter' >&2)
