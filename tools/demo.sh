#!/bin/sh
# Asks the bundled model a few questions and streams its answers: demo.sh PROGRAM
set -eu
program=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

ask() {
  printf '\n> %s\n' "$1"
  "$program" run -p "$1" 2>"$log" || { cat "$log" >&2; exit 1; }
}

ask "What is 17 + 25?"
ask "Sort the numbers: 52 17 88 31"
ask "Remember: The fox is red. The lamp is blue. The coin is green. What is the lamp?"
ask "Tell me a story."
printf '\n(%s)\n' "$(tail -n 1 "$log")"
