#!/usr/bin/env python3
"""What a file compiled for one instruction set defines must be its own tables alone. An inline function among them (a weak
symbol) could be linked into code for another set, and would fault on a machine that lacks it.

Usage: symbols_test.py NM libsluice_cpu.a
"""

import re
import subprocess
import sys

PER_SET = re.compile(r"(kernels|probe)_\w+\.cpp\.o(bj)?:$")
TABLE = re.compile(r"sluice::cpu::k\w+$")


def main():
    nm, archive = sys.argv[1:]
    listing = subprocess.run([nm, "--demangle", "--defined-only", archive], check=True, capture_output=True, text=True)
    member = None
    n_members = n_tables = 0
    wrong = []
    for line in listing.stdout.splitlines():
        if line.endswith(":"):
            member = line if PER_SET.search(line) else None
            n_members += member is not None
            continue
        if member is None or not line:
            continue
        _, kind, name = line.split(maxsplit=2)
        if kind.islower() and kind not in "uvw":
            continue  # local
        if kind in "DRB" and TABLE.match(name):
            n_tables += 1
        elif "asan" not in name and "tsan" not in name and not name.startswith("DW.ref."):  # a pointer, no code
            wrong.append(f"{member} {kind} {name}")
    if n_members < 2 or n_tables < n_members / 2:
        sys.exit(f"{archive}: {n_members} files of kernels with {n_tables} tables: is this the right archive?")
    if wrong:
        sys.exit("\n".join(["symbols that other files could be linked to:", *wrong]))
    print(f"{n_members} files define {n_tables} tables and nothing else")


if __name__ == "__main__":
    main()
