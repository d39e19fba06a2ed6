#!/bin/sh
# Asks the bundled model a few questions and streams its answers: demo.sh PROGRAM
set -eu
program=$1

ask() {
  printf '\n> %s\n' "$1"
  "$program" run -p "$1" 2>/tmp/sluice-demo.$$ || { cat /tmp/sluice-demo.$$ >&2; exit 1; }
  statistics=$(tail -n 1 /tmp/sluice-demo.$$)
}
trap 'rm -f /tmp/sluice-demo.$$' EXIT

ask "What is 17 + 25?"
ask "Sort the numbers: 52 17 88 31"
ask "Remember: The fox has red. The lamp has blue. The coin has green. What does the lamp have?"
ask "Tell me a story."
printf '\n(%s)\n' "$statistics"
