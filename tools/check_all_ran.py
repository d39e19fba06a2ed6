#!/usr/bin/env python3
"""Fails if a test that ctest knows in one of the build folders (the arguments) ran in none of them, by their ctest.xml."""

import json
import pathlib
import subprocess
import sys
import xml.etree.ElementTree


def plain(name):
    """Parameters are printed behind the name, some as addresses."""
    return name.split("  # ")[0].strip()


known, ran = {}, set()
for folder in sys.argv[1:]:
    shown = subprocess.run(["ctest", "--test-dir", folder, "--show-only=json-v1"], check=True, capture_output=True,
                           text=True).stdout
    for test in json.loads(shown)["tests"]:
        known.setdefault(plain(test["name"]), folder)
    for case in xml.etree.ElementTree.parse(pathlib.Path(folder, "ctest.xml")).getroot().iter("testcase"):
        if case.get("status") in ("run", "fail") or case.find("skipped") is not None:
            ran.add(plain(case.get("name", "")))
for name in sorted(known.keys() - ran):
    print(f"{name} of {known[name]} ran in no build", file=sys.stderr)
sys.exit(1 if known.keys() - ran else 0)
