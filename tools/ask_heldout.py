#!/usr/bin/env python3
"""Asks the program the bundled model's held-out questions and prints the share of right answers per family.

    tools/ask_heldout.py build/sluice [--file models/demo/heldout.jsonl]

An answer counts only if it is right to the letter. Exits with 1 if fewer than five families reach 90 %.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--file", type=pathlib.Path, default=root / "models/demo/heldout.jsonl")
    arguments = parser.parse_args()

    right, asked = collections.Counter(), collections.Counter()
    for line in arguments.file.read_text().splitlines():
        question = json.loads(line)
        said = subprocess.run([arguments.program, "run", "--seed", "1", "-p", question["prompt"]], check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        asked[question["family"]] += 1
        right[question["family"]] += said.removesuffix("\n") == question["answer"]
    for family, n in asked.items():
        print(f"| {family} | {100 * right[family] / n:.1f} % | {right[family]} of {n} |")
    good = sum(right[family] >= 0.9 * n for family, n in asked.items())
    print(f"{good} of {len(asked)} families reach 90 %")
    return 0 if good >= 5 else 1


if __name__ == "__main__":
    sys.exit(main())
