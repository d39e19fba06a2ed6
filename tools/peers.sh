#!/bin/sh
# Compares a built sluice with other programs and libraries (docs/peers.md), in a virtual environment of its own,
# .venv-peers in the checkout, made from tools/peers/requirements.txt when it is missing or the requirements have changed.
# build/sluice is compared. LLAMA_CPP names a source tree of llama.cpp with a build in its build/.
set -eu
cd "$(dirname "$0")/.."

venv=.venv-peers
wanted=tools/peers/requirements.txt
if ! cmp -s "$wanted" "$venv/installed.txt"; then
  ${PYTHON:-python3} -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet -r "$wanted"
  cp "$wanted" "$venv/installed.txt"
fi
exec "$venv/bin/python" tools/peers/run.py "$@"
