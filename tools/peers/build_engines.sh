#!/bin/sh
# Builds the benchmark programs of llama.cpp and ik_llama.cpp for speed.py, with all that this processor has:
#   tools/peers/build_engines.sh OUT LLAMA_CPP_SOURCE IK_LLAMA_CPP_SOURCE
# makes OUT/llama.cpp and OUT/ik_llama.cpp, with llama-bench, llama-batched-bench and version.txt in each. An empty name
# of a source tree leaves that one out.
set -eu
out=$1 jobs=${JOBS:-$(nproc)}

build() { # NAME SOURCE CMAKE-OPTIONS...
  name=$1 source=$2
  shift 2
  tree=$out/$name/build
  cmake -S "$source" -B "$tree" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DGGML_OPENMP=ON \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF "$@" >/dev/null
  nice -n 5 ninja -C "$tree" -j "$jobs" llama-bench llama-batched-bench
  cp "$tree/bin/llama-bench" "$tree/bin/llama-batched-bench" "$out/$name/"
  # Empty in an unpacked archive; VERSION then says what it is.
  commit=$(git -C "$source" describe --always --dirty 2>/dev/null || true)
  printf '%s %s, %s, %s\n' "$name" "${VERSION:-${commit:-unknown}}" "$(${CXX:-c++} --version | head -n 1)" \
    "GGML_NATIVE, OpenMP $*" >"$out/$name/version.txt"
}

mkdir -p "$out"
if [ -n "$2" ]; then
  VERSION=${LLAMA_CPP_VERSION:-} build llama.cpp "$2" -DGGML_LLAMAFILE=ON -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_MTMD=OFF
fi
if [ -n "$3" ]; then
  VERSION=${IK_LLAMA_CPP_VERSION:-} build ik_llama.cpp "$3" -DGGML_IQK_FA_ALL_QUANTS=OFF
fi
