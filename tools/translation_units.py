#!/usr/bin/env python3
"""Prints what a build (argument 1) compiles for the sources below a folder (argument 2): files, or batches of them where it was
configured with SLUICE_UNITY; then the sources, as git knows them, that it compiles none of. Behind each stand the checks that the
.clang-tidy of its folder adds to the root's, as a batch, which lies elsewhere, would miss them."""

import json
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parent.parent
build, folder = pathlib.Path(sys.argv[1]), root / sys.argv[2]
listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", f"{sys.argv[2]}/*.cpp"],
                        cwd=root, check=True, capture_output=True, text=True).stdout.split()
missing = {root / name for name in listed}


def checks(source):
    """The line `Checks:` of each .clang-tidy between the root and the source; "" if there is none."""
    folders = [parent for parent in source.parents if root in parent.parents]
    texts = [(parent / ".clang-tidy").read_text() for parent in reversed(folders) if (parent / ".clang-tidy").exists()]
    return ",".join(found for text in texts for found in re.findall(r"^Checks: (\S+)$", text, re.MULTILINE))


units = {}  # → a source of it: those of a batch lie in one folder, or below it
for entry in json.loads((build / "compile_commands.json").read_text()):
    unit = pathlib.Path(entry["file"])
    sources = [unit]
    if unit.parent.name == "Unity":
        sources = [pathlib.Path(name) for name in re.findall(r'#include "(.*)"', unit.read_text())]
    if any(folder in source.parents for source in sources) and unit not in units:
        units[unit] = sources[0]
    missing.difference_update(sources)
in_order = sorted(units, key=lambda unit: unit.parent.name != "Unity")  # what takes longest first
for unit in in_order:
    print(f"{unit} ,{checks(units[unit])}")
for source in sorted(missing):
    print(f"{source} ,{checks(source)}")
