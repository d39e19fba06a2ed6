#!/bin/bash
# Makes build/sluice-gpu.tar.gz, what a machine with an NVIDIA driver and nothing else needs to try the CUDA backend: at most 60 MB.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}
SLUICE_NVCC=$(tools/get_nvcc.sh)
cmake --preset release -DSLUICE_TESTS=ON -DSLUICE_CUDA=ON -DSLUICE_CUDA_SASS=ALL -DSLUICE_NVCC="$SLUICE_NVCC" >/dev/null
cmake --build --preset release -j "$jobs" --target sluice sluice-ptx sluice_ptx_driver test_cuda test_ptx

bundle=build/sluice-gpu
rm -rf "$bundle"
mkdir -p "$bundle/bin/ptx" "$bundle/kernels" "$bundle/lib" "$bundle/models"
cp build/sluice build/sluice-ptx build/tests/test_cuda build/tests/test_ptx "$bundle/bin/"
cp -L build/ptx/libcuda.so.1 "$bundle/bin/ptx/"
cp build/cuda/kernels.75.ptx build/cuda/kernels.80.ptx "$bundle/kernels/"
cp -r models/demo "$bundle/models/"
strip "$bundle"/bin/sluice* "$bundle"/bin/test_*
# Libraries that a bare system may lack; libc and its kin must be its own.
ldd "$bundle"/bin/sluice* "$bundle"/bin/test_* | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u |
  grep -vE '/(libc|libm|libdl|libpthread|librt|ld-linux.*)\.so' | xargs -I{} cp -L {} "$bundle/lib/"
install -m 755 tools/gpu_bundle_run.sh "$bundle/run.sh"
tar -C build -czf build/sluice-gpu.tar.gz sluice-gpu
bytes=$(stat -c %s build/sluice-gpu.tar.gz)
echo "build/sluice-gpu.tar.gz: $((bytes / 1000000)) MB"
[ "$bytes" -le 60000000 ] || { echo "more than 60 MB" >&2; exit 1; }
