#!/bin/bash
# clang-tidy over our sources: tidy.sh BUILD_FOLDER [quick]. `quick` leaves out the tests and the checks that take
# longest, so that every test run can afford it.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
folders=(src tests)
same='^$'
checks=-bugprone-suspicious-include
if [ "${2:-}" = quick ]; then
  folders=(src)
  same='/src/ptx/forms_avx(2|512)\.cpp '  # the text of forms_portable.cpp, for other options
  checks+=,-clang-analyzer-*,-bugprone-unchecked-optional-access,-performance-unnecessary-value-param
fi
# A build with SLUICE_UNITY has batches of files, which read their headers once; what is included from them counts as ours.
units=
for name in "${folders[@]}"; do
  units+=$(python3 tools/translation_units.py "$folder" "$name")$'\n'
done
export folder checks
grep -vE "$same" <<<"$units" | xargs -P "${JOBS:-$(nproc)}" -n 2 sh -c \
    'clang-tidy-19 -p "$folder" --quiet --warnings-as-errors="*" --header-filter="/(src|tests)/.*\.(h|cpp)$" "--checks=$checks$2" "$1"' - \
    2> >(grep -vE 'warnings? (generated|treated)|^Suppressed|^Use -header-filter' >&2)
