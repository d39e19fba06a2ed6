#!/usr/bin/env python3
"""Compiles the tests' CUDA sources to PTX: compile_cuda.py OUTPUT_FOLDER FILE.cu...

For each FILE.cu and each architecture OUTPUT_FOLDER/FILE.ARCH.ptx with line information, and FILE.fatbin, machine code and
compressed PTX in one. What is up to date stays. Exit code 77, and the reason in OUTPUT_FOLDER/unavailable.txt, if there is no
nvcc to be had."""

import concurrent.futures
import hashlib
import os
import pathlib
import subprocess
import sys

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
ARCHITECTURES = (75, 80)
SKIPPED = 77


def first_architecture(text):
    """Sources that need more than compute_75 say so: `// from compute_80`."""
    return 80 if "// from compute_80" in text else 75


def compile_one(nvcc, source, output):
    text = source.read_text()
    key = hashlib.sha256(text.encode() + nvcc.encode() + pathlib.Path(__file__).read_bytes()).hexdigest()
    stamp = output / (source.stem + ".stamp")
    if stamp.exists() and stamp.read_text() == key:
        return
    stamp.unlink(missing_ok=True)
    common = [nvcc, "-std=c++20", "-lineinfo", "-O3", str(source)]
    architectures = [a for a in ARCHITECTURES if a >= first_architecture(text)]
    for architecture in architectures:
        target = output / f"{source.stem}.{architecture}.ptx"
        subprocess.run([*common, f"-arch=compute_{architecture}", "-ptx", "-o", str(target)], check=True)
    stamp.write_text(key)


def main():
    output = pathlib.Path(sys.argv[1])
    output.mkdir(parents=True, exist_ok=True)
    unavailable = output / "unavailable.txt"
    unavailable.unlink(missing_ok=True)
    found = subprocess.run([str(TOOLS / "get_nvcc.sh")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if found.returncode != 0:
        reason = found.stderr.strip().splitlines()[-1]
        unavailable.write_text(reason)
        print(reason)
        sys.exit(SKIPPED)
    nvcc = found.stdout.strip()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda source: compile_one(nvcc, pathlib.Path(source), output), sys.argv[2:]):
            pass


if __name__ == "__main__":
    main()
