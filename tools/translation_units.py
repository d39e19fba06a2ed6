#!/usr/bin/env python3
"""Prints what a build (argument 1) compiles for the sources below a folder (argument 2): files, or batches of them where it was
configured with SLUICE_UNITY; then the sources, as git knows them, that it compiles none of."""

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
units = []
for entry in json.loads((build / "compile_commands.json").read_text()):
    unit = pathlib.Path(entry["file"])
    sources = [unit]
    if unit.parent.name == "Unity":
        sources = [pathlib.Path(name) for name in re.findall(r'#include "(.*)"', unit.read_text())]
    if any(folder in source.parents for source in sources) and unit not in units:
        units.append(unit)
    missing.difference_update(sources)
print(*sorted(units, key=lambda unit: unit.parent.name != "Unity"), *sorted(missing), sep="\n")  # what takes longest first
