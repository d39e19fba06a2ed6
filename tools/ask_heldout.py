#!/usr/bin/env python3
"""Asks the program the bundled model's held-out questions and prints the share of right answers per family.

    tools/ask_heldout.py build/sluice [--file models/demo/heldout.jsonl]
    tools/ask_heldout.py build/sluice --device emulated --each 10    ten of each family, drawn anew: what the PTX machine has time for

An answer counts only if it is right to the letter. Exits with 1 if fewer than five families reach 90 %.
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--file", type=pathlib.Path, default=root / "models/demo/heldout.jsonl")
    parser.add_argument("--device", default=None, help="default: the program's own choice")
    parser.add_argument("--each", type=int, default=None, metavar="N", help="so many of each family; default: all")
    arguments = parser.parse_args()

    questions = [json.loads(line) for line in arguments.file.read_text().splitlines()]
    if arguments.each is not None:
        random.shuffle(questions)
        seen = collections.Counter()
        questions = [it for it in questions if seen.update([it["family"]]) or seen[it["family"]] <= arguments.each]
    command = [arguments.program, "run", "--seed", "1", *(["--device", arguments.device] if arguments.device else [])]
    right, asked = collections.Counter(), collections.Counter()
    for question in questions:
        said = subprocess.run([*command, "-p", question["prompt"]], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True).stdout
        asked[question["family"]] += 1
        right[question["family"]] += said.removesuffix("\n") == question["answer"]
    for family, n in asked.items():
        print(f"| {family} | {100 * right[family] / n:.1f} % | {right[family]} of {n} |")
    good = sum(right[family] >= 0.9 * n for family, n in asked.items())
    print(f"{good} of {len(asked)} families reach 90 %")
    return 0 if good >= 5 else 1


if __name__ == "__main__":
    sys.exit(main())
