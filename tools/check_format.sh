#!/bin/sh
# Fails if a source file of ours is not as clang-format would write it.
set -eu
cd "$(dirname "$0")/.."
git ls-files --cached --others --exclude-standard '*.cpp' '*.h' | xargs clang-format-19 --dry-run -Werror
