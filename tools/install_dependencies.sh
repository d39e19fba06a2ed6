#!/bin/sh
# Installs what is missing of the Debian packages that the named parts need: build, test.
# As root or through sudo; otherwise prints the one command to run and fails. Elsewhere lists the libraries.
set -eu

build="g++ cmake ninja-build nlohmann-json3-dev libcli11-dev libfmt-dev"
test="clang-19 libclang-rt-19-dev clang-format-19 clang-tidy-19 libgtest-dev libgmock-dev libbenchmark-dev python3"

wanted=""
for part in "$@"; do
  case $part in
    build) wanted="$wanted $build" ;;
    test) wanted="$wanted $test" ;;
    *) echo "usage: $0 [build] [test]" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  missing=""
  for tool in cmake ninja c++; do command -v $tool >/dev/null || missing="$missing $tool"; done
  if [ -n "$missing" ]; then
    cat >&2 <<END
Missing:$missing. This is not a Debian system, so please install by hand:
  CMake 3.25+, Ninja, GCC 12+ or Clang 14+; the libraries nlohmann-json 3.11+, CLI11 2.1+, fmt 9+
  for the tests also GoogleTest 1.12+, Google Benchmark 1.7+, clang 19 with its sanitizer runtimes,
  clang-format 19, clang-tidy 19, Python 3.9+
END
    exit 1
  fi
  exit 0  # CMake names the library that it can't find
fi

missing=""
for package in $wanted; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=""
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
  as_root="sudo"
else
  echo "Some packages are missing. Run this, then try again:" >&2
  echo "  sudo apt-get update && sudo apt-get install --no-install-recommends$missing" >&2
  exit 1
fi
echo "Installing$missing" >&2
$as_root apt-get update -qq
# shellcheck disable=SC2086  # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
