"""The settings that llama.cpp and ik_llama.cpp are timed with, and the search for better ones (compare.py --tune)."""

import json
import statistics
from pathlib import Path

from comparing.programs import Broken, Llama, Setting

CASES = ("decode", "prefill", "long", "rows", "tiny")
BASE = {"llama.cpp": "-fa on", "ik_llama.cpp": "-rtr 1 -fa 1"}
# What might make them faster on a CPU; each is kept where it does.
CHOICES = {
    "llama.cpp": [
        "-fa off",
        "-lm none",  # weights in anonymous memory instead of mapped pages
        "-lm none GLIBC_TUNABLES=glibc.malloc.hugetlb=1",  # and there in huge pages
        "OMP_WAIT_POLICY=active OMP_PROC_BIND=true",  # threads never sleep between graphs, and stay where they are
        "-ctk bf16 -ctv bf16",  # no conversion beside BF16 dot products
        "-ub 256", "-ub 1024", "-ub 2048",  # rows that go through a layer at once
    ],
    "ik_llama.cpp": [
        "-fa 0",
        "-rtr 0",  # weights as they lie in the file
        "GLIBC_TUNABLES=glibc.malloc.hugetlb=1",  # repacked weights in huge pages
        "OMP_WAIT_POLICY=active OMP_PROC_BIND=true",
        "-mqkv 1",  # Q, K and V as one product
        "-ctk bf16 -ctv bf16",
        "-ub 256", "-ub 1024", "-ub 2048",
    ],
}
WORTH = 1.01  # a choice is kept if it is this much faster


def settings_of(name: str, file: Path | None) -> dict[str, Setting]:
    found = json.loads(file.read_text(encoding="utf-8")).get(name, {}) if file else {}
    return {case: Setting.parse(found.get(case, BASE[name])) for case in CASES}


def tune(program: Llama, case: str, measure, pairs: int) -> None:
    """Leaves the fastest setting that it finds in program.settings[case]. `measure()` gives the rate with that setting."""
    def rate(setting: Setting) -> float:
        program.settings[case] = setting
        return measure()

    best = program.settings[case]
    for choice in CHOICES[program.name]:
        if choice.startswith("-ub") and case not in ("prefill", "long"):
            continue
        candidate = best.with_(choice)
        if candidate == best:
            continue
        try:
            ratio = statistics.median(rate(candidate) / rate(best) for _ in range(pairs))
        except (Broken, ZeroDivisionError) as broken:
            print(f"  {program.name}, {case}: {choice}: {broken}", flush=True)
            continue
        print(f"  {program.name}, {case}: {choice}: × {ratio:.3f}", flush=True)
        if ratio >= WORTH:
            best = candidate
    program.settings[case] = best


def write_settings(file: Path, programs: list[Llama]) -> None:
    found = {p.name: {case: str(setting) for case, setting in p.settings.items()} for p in programs}
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
