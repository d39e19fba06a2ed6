#!/usr/bin/env python3
"""Checks the dependency direction: a folder of src/ includes only itself and folders to its left in

    base → model → program → oracle | cpu | cuda → engine → cli | server        (ptx: base only)

and within oracle only the adapter (backend.*) may see program, its maths sees base and model alone.
Usage: layering_test.py SOURCE_ROOT
"""

import pathlib
import re
import sys
import tempfile
import unittest

BELOW_BACKENDS = {"base", "model", "program"}
ALLOWED = {
    "base": set(),
    "model": {"base"},
    "program": {"base", "model"},
    "oracle": BELOW_BACKENDS,
    "cpu": BELOW_BACKENDS,
    "cuda": BELOW_BACKENDS,
    "ptx": {"base"},
    "engine": BELOW_BACKENDS | {"oracle", "cpu", "cuda"},
    "cli": BELOW_BACKENDS | {"oracle", "cpu", "cuda", "engine"},
    "server": BELOW_BACKENDS | {"oracle", "cpu", "cuda", "engine"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
SOURCES = {".cpp", ".h", ".cu", ".cuh"}


def violations(src: pathlib.Path) -> list[str]:
    found = []
    for path in sorted(p for p in src.rglob("*") if p.suffix in SOURCES):
        folder = path.relative_to(src).parts[0]
        if folder not in ALLOWED:
            found.append(f"{path}: the folder {folder} has no place in the dependency order")
            continue
        allowed = ALLOWED[folder] | {folder}
        if folder == "oracle" and not path.stem.startswith("backend"):
            allowed = allowed - {"program"}
        for include in INCLUDE.findall(path.read_text()):
            target = include.split("/")[0]
            if "/" not in include or target not in allowed:
                found.append(f'{path}: must not include "{include}"')
    return found


class Layering(unittest.TestCase):
    root = pathlib.Path(".")

    def test_every_include_points_left(self):
        src = self.root / "src"
        self.assertTrue(any(src.rglob("*.cpp")), "no sources found")
        self.assertEqual(violations(src), [])

    def test_a_wrong_include_is_seen(self):
        wrong = [("base/a.h", "model/config.h"), ("model/a.cpp", "oracle/oracle.h"), ("engine/a.h", "cli/run.h"),
                 ("oracle/oracle.h", "program/backend.h"), ("ptx/a.h", "model/config.h"), ("odd/a.h", "base/error.h"),
                 ("cpu/a.h", "oracle/oracle.h"), ("base/a.h", "neighbour.h")]
        for name, include in wrong:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / name
                path.parent.mkdir()
                path.write_text(f'#include <vector>\n#include "{include}"\n')
                self.assertEqual(len(violations(pathlib.Path(folder))), 1, (name, include))


if __name__ == "__main__":
    Layering.root = pathlib.Path(sys.argv.pop(1))
    unittest.main()
