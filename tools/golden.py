#!/usr/bin/env python3
"""Makes tests/golden from a seed, or checks that what is committed there is what the seed gives.

A case is a folder: config.json, model.safetensors, tokens.json with its prompts, and for prompt i
logits_i.npy, float32 [T, vocab]: transformers in fp32 (weights upcast), the whole prompt at once, eager
attention, one thread. bf16_errors.json: case by case, the relative rms error over all rows of transformers' own run in
bf16. tools/golden.sh runs this in a virtual environment of its own.

  golden.py            remakes tests/golden and prints the report
  golden.py --check    makes everything in a temporary folder; weights, configs and prompts must be the same
                       bytes, logits within a relative rms of 2e-5, errors within a quarter; exit code 1 if not
  golden.py --report   the report alone, about the committed files
"""

import argparse
import filecmp
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from golden import cases, checkpoint, report

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
BF16_ERRORS = "bf16_errors.json"
LOGITS_TOLERANCE = 2e-5  # relative rms: fp32 sums in another order on another CPU
BF16_TOLERANCE = 0.25  # of an error: the bf16 kernels of another CPU round elsewhere


def make(root: Path) -> None:
    import torch
    from golden import reference

    bf16_errors = {}
    for case in cases.CASES:
        folder = root / case.name
        checkpoint.write(case, folder)
        model = reference.load(folder)
        prompts = checkpoint.prompts(case)
        want = [reference.logits(model, tokens).astype("<f4") for tokens in prompts]
        for index, logits in enumerate(want):
            np.save(folder / f"logits_{index}.npy", logits)
        bf16_errors[case.name] = round(reference.error_in(torch.bfloat16, folder, prompts, want), 4)
    (root / BF16_ERRORS).write_text(json.dumps(bf16_errors, indent=0) + "\n")


def differences(made: Path, committed: Path) -> list[str]:
    """What differs between two golden folders, one line each."""
    from golden.reference import relative_rms

    def files(root: Path) -> set[Path]:
        return {path.relative_to(root) for path in root.rglob("*") if path.is_file()}

    found = [f"{path}: committed, but not made any more" for path in sorted(files(committed) - files(made))]
    found += [f"{path}: made, but not committed" for path in sorted(files(made) - files(committed))]
    for path in sorted(files(made) & files(committed)):
        if path.name == BF16_ERRORS:
            new, old = (json.loads((root / path).read_text()) for root in (made, committed))
            if new.keys() != old.keys():
                found.append(f"{path}: other cases")
            found += [f"{path}: {name} is {old[name]:.4f} committed, {new[name]:.4f} made"
                      for name in sorted(new.keys() & old.keys())
                      if abs(new[name] - old[name]) > BF16_TOLERANCE * old[name]]
            continue
        if path.suffix != ".npy":
            if not filecmp.cmp(made / path, committed / path, shallow=False):
                found.append(f"{path}: bytes differ")
            continue
        new, old = np.load(made / path), np.load(committed / path)
        if new.shape != old.shape or new.dtype != old.dtype:
            found.append(f"{path}: {old.dtype}{list(old.shape)} is committed, {new.dtype}{list(new.shape)} is made")
        else:  # every row by itself: one of many must not hide
            error = max(relative_rms(old[row], new[row]) for row in range(len(old)))
            if not error <= LOGITS_TOLERANCE:
                found.append(f"{path}: relative rms difference of a row {error:.2e}, allowed {LOGITS_TOLERANCE:.0e}")
    return found


def check() -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "golden"
        make(made)
        found = differences(made, GOLDEN)
    for line in found:
        print(f"golden: tests/golden/{line}", file=sys.stderr)
    if found:
        print(f"golden: {len(found)} differences; tools/golden.sh remakes tests/golden", file=sys.stderr)
        return 1
    print(f"golden: {len(cases.CASES)} cases are what seed {cases.SEED} gives")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare instead of write")
    what.add_argument("--report", action="store_true", help="print the report only")
    options = parser.parse_args()
    if options.check:
        return check()
    if not options.report:
        shutil.rmtree(GOLDEN, ignore_errors=True)
        make(GOLDEN)
    return report.print_report(GOLDEN)


if __name__ == "__main__":
    sys.exit(main())
