#!/bin/sh
# Installs what is missing of the Debian packages that the named parts need: build, test, arm64.
# As root or through sudo; otherwise prints the one command to run and fails. Elsewhere than on Debian it names the
# missing programs and libraries.
set -eu

build="g++ cmake ninja-build nlohmann-json3-dev libcli11-dev libfmt-dev libxxhash-dev"
test="clang-19 libclang-rt-19-dev clang-format-19 clang-tidy-19 libgtest-dev libgmock-dev libbenchmark-dev python3 python3-venv"
arm64="g++-aarch64-linux-gnu qemu-user-static libgtest-dev"

packages=""
with_tests=false
with_arm64=false
for part in "$@"; do
  case $part in
    build) packages="$packages $build" ;;
    test) packages="$packages $test"; with_tests=true ;;
    arm64) packages="$packages $arm64"; with_arm64=true ;;
    *) echo "usage: $0 [build] [test] [arm64]" >&2; exit 2 ;;
  esac
done

need_program() {  # need_program NAME DESCRIPTION
  command -v "$1" >/dev/null || missing="$missing
  $2"
}

need_header() {  # need_header HEADER DESCRIPTION
  echo "#include <$1>" | c++ -std=c++20 -E -x c++ - >/dev/null 2>&1 || missing="$missing
  $2"
}

check_by_hand() {
  missing=""
  need_program c++ "GCC 12 or Clang 14, or newer (c++)"
  need_program cmake "CMake 3.25 or newer"
  need_program ninja "Ninja"
  need_header nlohmann/json.hpp "the library nlohmann-json, 3.11 or newer"
  need_header CLI/CLI.hpp "the library CLI11, 2.1 or newer"
  need_header fmt/format.h "the library fmt, 9 or newer"
  need_header xxhash.h "the library xxHash, 0.8 or newer"
  if $with_tests; then
    need_header gmock/gmock.h "the library GoogleTest with GoogleMock, 1.12 or newer"
    need_header benchmark/benchmark.h "the library Google Benchmark, 1.7 or newer"
    need_program clang++-19 "Clang 19 with its sanitizer runtimes (clang++-19)"
    need_program clang-format-19 "clang-format 19 (clang-format-19)"
    need_program clang-tidy-19 "clang-tidy 19 (clang-tidy-19)"
    need_program python3 "Python 3.9 or newer"
  fi
  if $with_arm64; then
    need_program aarch64-linux-gnu-g++ "GCC 12 or newer for 64-bit ARM (aarch64-linux-gnu-g++)"
    need_program qemu-aarch64-static "qemu's user mode for 64-bit ARM (qemu-aarch64-static)"
  fi
  [ -n "$missing" ] || exit 0
  echo "This is not a Debian system. Please install:$missing" >&2
  exit 1
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then check_by_hand; fi

missing=""
for package in $packages; do
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
