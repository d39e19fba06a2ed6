#!/usr/bin/env python3
"""What ptxas made of the CUDA kernels, and what of that must hold.

  cuda_report.py FOLDER            FOLDER: build/cuda, with kernels.ARCH.cubin and what ptxas said, kernels.ARCH.log
  cuda_report.py --check FOLDER    exit code 1 unless the limits below are kept; 77 if there is no machine code
  cuda_report.py --other FILE.cubin FILE.log FOLDER   the same figures of another program's kernels, beside ours
  cuda_report.py --luce THEIRS FOLDER                 of Luce's megakernel, compiled here for sm_86 as its setup.py does. THEIRS: the
                                                      folder megakernel of a checkout of github.com/Luce-Org/luce-megakernel

Registers, spills and fixed shared memory are ptxas's own words. Resident blocks are what the register file allows for the block size of
the kernel (one block for an SM is what decode is made for). The size of the code, of its largest loop, and how wide its loads of
global memory are, come from cuobjdump -sass (NVIDIA's, from PyPI into a virtual environment if PATH has none): a loop is what a
branch backwards encloses, and the functions that are called there."""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ["nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm"]
SKIPPED = 77
REGISTERS_OF_SM = 65536
THREADS = 288  # of a block, launch.h: kDecodeThreads
DECODE = "sluice_decode"
LOOP_BYTES = 64 << 10  # of decode's loop over a launch's tokens: docs/cuda.md says why
LUCE_THREADS = {"decode_kernel": 512, "lm_head_kernel": 256}
LUCE_FLAGS = ["-O3", "--use_fast_math", "-std=c++17", "-DNUM_BLOCKS=82", "-DBLOCK_SIZE=512", "-DLM_NUM_BLOCKS=512",
              "-DLM_BLOCK_SIZE=256", "-DTARGET_SM=86"]


def find_cuobjdump():
    found = shutil.which("cuobjdump")
    if found and shutil.which("nvdisasm"):
        return found
    folder = ROOT / "build" / "cuda-tools"
    pattern = "lib*/python3*/site-packages/nvidia/*/bin/cuobjdump"
    if not list(folder.glob(pattern)):
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", *PACKAGES],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return str(next(folder.glob(pattern)))


def ptxas_figures(log):
    """Of each kernel: registers, spill bytes, stack frame, static shared memory."""
    figures = {}
    kernel = None
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            kernel = figures.setdefault(match[1], {"registers": 0, "spills": 0, "stack": 0, "shared": 0})
        elif kernel is None:
            continue
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernel["stack"] = max(kernel["stack"], int(match[1]))
            kernel["spills"] = max(kernel["spills"], int(match[2]) + int(match[3]))
        elif match := re.search(r"Used (\d+) registers", line):
            kernel["registers"] = int(match[1])
            if shared := re.search(r"(\d+) bytes smem", line):
                kernel["shared"] = int(shared[1])
    return figures


def instructions(cubin, cuobjdump):
    """Of each function: (address, text) of every instruction."""
    environment_path = str(pathlib.Path(cuobjdump).parent)
    sass = subprocess.run([cuobjdump, "-sass", str(cubin)], check=True, stdout=subprocess.PIPE, text=True,
                          env={"PATH": f"{environment_path}:/usr/bin:/bin"}).stdout
    functions = {}
    current = None
    for line in sass.splitlines():
        if match := re.match(r"\s*Function : (\S+)", line):
            current = functions.setdefault(match[1], [])
        elif current is not None and (match := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?);", line)):
            current.append((int(match[1], 16), match[2]))
    return functions


def functions_of(code, step):
    """Where each function of the code begins and ends: the kernel, and behind it what it calls."""
    entries = {code[0][0]}
    for _, text in code:
        if match := re.search(r"\bCALL\b.*?0x([0-9a-f]+)", text):
            entries.add(int(match[1], 16))
    bounds = sorted(entries) + [code[-1][0] + step]
    return dict(zip(bounds, bounds[1:]))


def loop_bytes(code, step):
    """Of the largest loop, which is what a branch backwards encloses, and of the functions that are called in it, or by these."""
    begin = end = 0
    for address, text in code:
        # BRA may be predicated, and names its target in hexadecimal.
        if (match := re.search(r"\bBRA\b.*?0x([0-9a-f]+)", text)) and int(match[1], 16) < address:
            if address + step - int(match[1], 16) > end - begin:
                begin, end = int(match[1], 16), address + step
    functions = functions_of(code, step)
    reached, pending = set(), [(begin, end)]
    while pending:
        first, last = pending.pop()
        for address, text in code:
            if first <= address < last and (match := re.search(r"\bCALL\b.*?0x([0-9a-f]+)", text)):
                target = int(match[1], 16)
                if target not in reached and not begin <= target < end:
                    reached.add(target)
                    pending.append((target, functions[target]))
    return end - begin + sum(functions[it] - it for it in reached)


def code_figures(code):
    if len(code) < 2:
        return {"bytes": 0, "loop": 0, "loads": {}}
    step = code[1][0] - code[0][0]
    loads = {}
    for _, text in code:
        if match := re.search(r"\b(LDGSTS|LDG)\b(\.\S+)?", text):
            bits = re.search(r"\.(128|64|U16|S16|U8|S8)\b", match[2] or "")
            width = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}[bits[1]] if bits else 4
            key = f"{match[1]} {width} B"
            loads[key] = loads.get(key, 0) + 1
    return {"bytes": code[-1][0] + step, "loop": loop_bytes(code, step), "loads": loads}


def figures_of(cubin, log, cuobjdump):
    figures = ptxas_figures(log)
    for name, code in instructions(cubin, cuobjdump).items():
        if name in figures:
            figures[name] |= code_figures(code)
    return figures


def compile_luce(sources):
    """Its decode and head kernels: machine code, and what ptxas says."""
    nvcc = subprocess.run([ROOT / "tools" / "get_nvcc.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    folder = ROOT / "build" / "cuda-other"
    folder.mkdir(parents=True, exist_ok=True)
    cubin, log = folder / "luce.86.cubin", folder / "luce.86.log"
    done = subprocess.run([nvcc, *LUCE_FLAGS, "-arch=sm_86", "-cubin", "-Xptxas", "-v", sources / "kernel.cu", "-o", cubin],
                          stderr=subprocess.PIPE, text=True)
    log.write_text(done.stderr)
    if done.returncode != 0:
        sys.exit(f"{sources}/kernel.cu doesn't compile:\n{done.stderr}")
    return cubin, log


def plain_name(name):
    """decode_kernel of _Z13decode_kernelPK13..."""
    match = re.match(r"_Z(\d+)", name)
    return name[match.end():match.end() + int(match[1])] if match else name


def row(architecture, name, it, threads=THREADS):
    registers = -(-it["registers"] // 8) * 8
    resident = REGISTERS_OF_SM // (registers * threads) if registers else 0
    loads = ", ".join(f"{key} × {n}" for key, n in sorted(it.get("loads", {}).items()))
    return (f"| {architecture} | {name} | {it['registers']} | {it['spills']} | {it['stack']} | {it['shared']} | {resident} | "
            f"{it.get('bytes', 0) / 1024:.1f} | {it.get('loop', 0) / 1024:.1f} | {loads} |")


def problems(architecture, figures):
    """What must hold of decode: no spills; as many registers as its block may have; a small loop."""
    decode = figures.get(DECODE)
    if decode is None:
        return [f"{architecture}: there is no {DECODE}"]
    found = []
    if decode["spills"]:
        found.append(f"{architecture}: {DECODE} spills {decode['spills']} bytes")
    if decode["registers"] * THREADS > REGISTERS_OF_SM:
        found.append(f"{architecture}: {DECODE} has {decode['registers']} registers, a block of {THREADS} threads doesn't fit")
    if decode["loop"] > LOOP_BYTES:
        found.append(f"{architecture}: {DECODE}'s loop has {decode['loop']} bytes, more than {LOOP_BYTES}")
    if not any(key.endswith(" 16 B") for key in decode["loads"]):
        found.append(f"{architecture}: {DECODE} loads nothing 16 bytes wide")
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--other", nargs=2, type=pathlib.Path, metavar=("CUBIN", "LOG"), default=None)
    parser.add_argument("--luce", type=pathlib.Path, metavar="THEIRS", default=None)
    arguments = parser.parse_args()
    cubins = sorted(arguments.folder.glob("kernels.*.cubin"), key=lambda path: int(path.name.split(".")[1]))
    if not cubins:
        print(f"no machine code in {arguments.folder}: it is built with an nvcc, and SLUICE_CUDA_SASS that isn't empty")
        sys.exit(SKIPPED)
    try:
        cuobjdump = find_cuobjdump()
    except (subprocess.CalledProcessError, StopIteration, OSError) as error:
        print(f"no cuobjdump in PATH or from PyPI: {error}")
        sys.exit(SKIPPED)
    print("| architecture | kernel | registers | spilled bytes | stack | static shared | blocks by registers | code KB | largest loop KB "
          "| loads of global memory |\n|---|---|---|---|---|---|---|---|---|---|")
    failures = []
    for cubin in cubins:
        architecture = "sm_" + cubin.name.split(".")[1]
        figures = figures_of(cubin, cubin.with_suffix(".log").read_text(), cuobjdump)
        failures += problems(architecture, figures)
        for name, it in sorted(figures.items()):
            print(row(architecture, name, it))
    if arguments.other:
        cubin, log = arguments.other
        for name, it in sorted(figures_of(cubin, log.read_text(), cuobjdump).items()):
            print(row("other", plain_name(name), it))
    if arguments.luce:
        cubin, log = compile_luce(arguments.luce)
        for name, it in sorted(figures_of(cubin, log.read_text(), cuobjdump).items()):
            name = plain_name(name)
            print(row("sm_86", f"Luce {name}", it, LUCE_THREADS.get(name, THREADS)))
    if arguments.check:
        for failure in failures:
            print(failure, file=sys.stderr)
        sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
