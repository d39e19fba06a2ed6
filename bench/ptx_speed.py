#!/usr/bin/env python3
"""How fast the PTX machine runs: ptx_speed.py [REPETITIONS], default 5. Compiles ptx_speed.cu and a ring of the stress tests with nvcc
(tools/get_nvcc.sh) and runs them with build/sluice-ptx. Prints thread instructions per second of the process's processor time: median,
least and most."""

import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPEED, PIPELINE = "bench/ptx_speed.cu", "tests/ptx/stress/pipeline.cu"
CASES = [
    ("bf16 matrix times vector, 8 blocks", SPEED, "matrix_vector", "--grid 8 --block 128 --shared 8192 --arg zeros:bf16[10240x2048] "
     "--arg zeros:f32[2048] --arg zeros:f32[10240] --arg s32:10240 --arg s32:2048"),
    ("fp32 matrix times vector through rings of cp.async, 8 blocks", PIPELINE, "matrix_vector_ring", "--grid 8 --block 128 "
     "--arg zeros:f32[2048x4096] --arg zeros:f32[4096] --arg zeros:f32[2048] --arg u32:2048 --arg u32:4096"),
    ("bf16 matrix product by mma, 4 blocks", SPEED, "matrix_product", "--grid 2,2 --block 128 --arg zeros:bf16[128x4096] "
     "--arg zeros:bf16[128x4096] --arg zeros:f32[128x128] --arg s32:128 --arg s32:4096"),
    ("bf16 matrix product by mma, 64 blocks", SPEED, "matrix_product", "--grid 8,8 --block 128 --arg zeros:bf16[512x2048] "
     "--arg zeros:bf16[512x2048] --arg zeros:f32[512x512] --arg s32:512 --arg s32:2048"),
]


def run(ptx, kernel, arguments, checks):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([ROOT / "build/sluice-ptx", "run", ptx, "--kernel", kernel, checks, *arguments.split()],
                          capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"(\d+) thread instructions", done.stdout)
    if done.returncode != 0 or not found:
        sys.exit(done.stdout + done.stderr)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(found[1]), int(found[1]) / seconds / 1e6


def main():
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    nvcc = subprocess.run([ROOT / "tools/get_nvcc.sh"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    print("| kernel | million thread instructions | checks | M/s of processor time: median (range) |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        compiled = {source: pathlib.Path(folder) / f"{pathlib.Path(source).stem}.ptx" for source in (SPEED, PIPELINE)}
        for source, ptx in compiled.items():
            subprocess.run([nvcc, "-ptx", "-lineinfo", "-std=c++20", "-arch=compute_80", "-o", ptx, ROOT / source], check=True)
        for title, source, kernel, arguments in CASES:
            for checks in ("--no-checks", "--checks"):
                runs = [run(compiled[source], kernel, arguments, checks) for _ in range(repetitions)]
                speeds = [speed for _, speed in runs]
                print(f"| {title} | {runs[0][0] / 1e6:.0f} | {'off' if 'no' in checks else 'on'} | "
                      f"{statistics.median(speeds):.0f} ({min(speeds):.0f} to {max(speeds):.0f}) |", flush=True)


if __name__ == "__main__":
    main()
