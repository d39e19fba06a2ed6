#!/bin/sh
# Runs tools/golden.py with the given arguments in a virtual environment of its own, .venv-golden in the checkout,
# made from tools/golden-requirements.txt when it is missing or the requirements have changed.
set -eu
cd "$(dirname "$0")/.."

venv=.venv-golden
wanted=tools/golden-requirements.txt
if ! cmp -s "$wanted" "$venv/installed.txt"; then
  ${PYTHON:-python3} -m venv --clear "$venv"
  # torch's CPU build first, where its index can be reached: PyPI's brings gigabytes of CUDA along.
  "$venv/bin/pip" install --quiet --retries 0 --no-deps --index-url https://download.pytorch.org/whl/cpu \
    "$(grep '^torch==' "$wanted")" || echo "golden.sh: no CPU build of torch to be had, taking the default one" >&2
  "$venv/bin/pip" install --quiet -r "$wanted"
  cp "$wanted" "$venv/installed.txt"
fi
exec "$venv/bin/python" tools/golden.py "$@"
