"""What speed.py measured, as markdown: rates side by side, and each target of docs/speed.md beside what was reached."""

import os
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path

FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
ROW_LIMITS = {2: 1.08, 4: 1.18, 8: 1.45, 16: 2.0}  # a step's time, of that with one row


@dataclass
class Measured:
    """A case's runs, in tokens per second, in the order of the rounds."""

    rates: dict[str, list[float]] = field(default_factory=dict)  # program → rates
    details: list[dict] = field(default_factory=list)  # sluice's results, as its JSON gives them
    problems: dict[str, str] = field(default_factory=dict)  # program → why it has no more runs

    def add(self, program: str, rate: float) -> None:
        self.rates.setdefault(program, []).append(rate)

    def ratios(self, program: str) -> list[float]:
        """sluice ÷ program, round by round."""
        return [ours / theirs for ours, theirs in zip(self.rates.get("sluice", []), self.rates.get(program, []))]

    def of_floor(self) -> list[float]:
        """Of the cache's floor where the weights fit into it."""
        return [d.get("cache_floor_fraction", d["floor_fraction"]) for d in self.details]

    def op_share(self, op: str) -> list[float]:
        return [d["op_share"][op] for d in self.details]


@dataclass
class Target:
    what: str
    wanted: str
    values: list[float]  # reached, a value for each round
    reached: bool
    unit: str = ""


def at_least(what: str, values: list[float], limit: float, unit: str = "") -> Target:
    return Target(what, f"≥ {number(limit, unit)}", values, statistics.median(values) >= limit, unit)


def at_most(what: str, values: list[float], limit: float, unit: str = "") -> Target:
    return Target(what, f"≤ {number(limit, unit)}", values, statistics.median(values) <= limit, unit)


def targets(found: dict[str, Measured], has_amx: bool) -> list[Target]:
    """Of docs/speed.md, those that the cases of this run can tell."""
    ik, result = "ik_llama.cpp", []
    found = {case: measured for case, measured in found.items() if "sluice" in measured.rates}
    if "decode" in found:
        result.append(at_least("decode, 1 row: of the floor", found["decode"].of_floor(), 0.92, "%"))
        if ik in found["decode"].rates:
            result.append(at_least(f"decode, 1 row: of {ik}", found["decode"].ratios(ik), 1.05, "×"))
    one = found.get("1 row")
    for rows, limit in ROW_LIMITS.items():
        many = found.get(f"{rows} rows")
        if one and many:
            times = [rows / n * first for first, n in zip(one.rates["sluice"], many.rates["sluice"])]
            result.append(at_most(f"decode, {rows} rows: step time, of 1 row's", times, limit, "×"))
    if "prefill 512" in found:
        short = found["prefill 512"]
        result.append(at_least("prefill 512: of the floor", short.of_floor(), 0.80, "%"))
        peers = [p for p in short.rates if p != "sluice"]
        if peers:
            fastest = max(peers, key=lambda p: statistics.median(short.rates[p]))
            limit = 4.0 if has_amx else 1.05
            result.append(at_least(f"prefill 512: of the faster peer, {fastest}", short.ratios(fastest), limit, "×"))
    if "prefill 8192" in found and "prefill 512 beside it" in found:
        short = statistics.median(found["prefill 512 beside it"].rates["sluice"])
        values = [rate / short for rate in found["prefill 8192"].rates["sluice"]]
        result.append(at_least("prefill 8192: of prefill 512", values, 0.75, "%"))
    if "5 MB model" in found:
        tiny = found["5 MB model"]
        if ik in tiny.rates:
            result.append(at_least(f"5 MB model, decode: of {ik}", tiny.ratios(ik), 3.0, "×"))
        result.append(at_most("5 MB model, decode: dispatch and waits, of the step", tiny.op_share("wait"), 0.25, "%"))
    if "bundled model" in found:
        demo = found["bundled model"]
        eager = [p for p in demo.rates if p.startswith("eager")]
        if eager:
            fastest = max(eager, key=lambda p: statistics.median(demo.rates[p]))
            result.append(at_least(f"bundled model, decode: of transformers, {fastest}", demo.ratios(fastest), 25.0, "×"))
    return result


def number(value: float, unit: str = "") -> str:
    if unit == "%":
        return f"{100 * value:.1f} %"
    digits = 3 if value < 2 else 2 if value < 10 else 1 if value < 1000 else 0
    return f"{value:,.{digits}f}" + (f" {unit}" if unit else "")


def spread(values: list[float], unit: str = "") -> str:
    """Median (least to most)."""
    if not values:
        return "–"
    if len(values) == 1:
        return number(values[0], unit)
    return f"{number(statistics.median(values), unit)} ({number(min(values), unit)} to {number(max(values), unit)})"


def rates_table(found: dict[str, Measured]) -> list[str]:
    """Cases with the same peers share a table."""
    lines, groups = [], {}
    every = dict.fromkeys(p for m in found.values() for p in [*m.rates, *m.problems] if p != "sluice")
    for case, measured in found.items():
        peers = tuple(p for p in every if p in measured.rates or p in measured.problems)
        groups.setdefault(peers, []).append(case)
    for peers, cases in groups.items():
        head = ["tok/s", "sluice", *peers, *(f"sluice ÷ {p}" for p in peers), "of the floor"]
        lines += ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for case in cases:
            m = found[case]
            cells = [case, spread(m.rates.get("sluice", []))]
            cells += [spread(m.rates.get(p, [])) + (" *broke*" if p in m.problems else "") for p in peers]
            cells += [spread(m.ratios(p), "×") for p in peers]
            cells.append(spread(m.of_floor(), "%"))
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def targets_table(goals: list[Target]) -> list[str]:
    lines = ["", "| target | wanted | reached | |", "|---|---|---|---|"]
    for goal in goals:
        lines.append(f"| {goal.what} | {goal.wanted} | {spread(goal.values, goal.unit)} | {'yes' if goal.reached else '**no**'} |")
    return lines


def machine() -> dict:
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in info.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    have = fields.get("flags", "").split()
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {"cpu": fields.get("model name", platform.processor()),
            "family": f"{fields.get('cpu family')}/{fields.get('model')}/{fields.get('stepping')}",
            "features": [feature for feature in FEATURES if feature in have],
            "processors": len(os.sched_getaffinity(0)),
            "cache": fields.get("cache size", ""),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "kernel": platform.release(),
            "huge_pages": huge.read_text(encoding="utf-8").strip() if huge.exists() else ""}


class ProcessorTime:
    """What else the machine did, from /proc/stat: time stolen by its host, and all time that was not idle."""

    def __init__(self):
        self.start, self.own_start = self.read(), os.times()

    @staticmethod
    def read() -> list[int]:
        with open("/proc/stat", encoding="utf-8") as file:
            return [int(word) for word in file.readline().split()[1:9]]

    def shares(self) -> dict[str, float]:
        """Of all processors' time since the start; what this program's children used is not `others`."""
        passed = [now - before for now, before in zip(self.read(), self.start)]
        own, before = os.times(), self.own_start
        ours = sum(own[:4]) - sum(before[:4])
        everything = max(1, sum(passed))
        busy = everything - passed[3] - passed[4] - passed[7]  # neither idle, nor waiting, nor stolen
        return {"stolen": passed[7] / everything,
                "others": max(0.0, busy - ours * os.sysconf("SC_CLK_TCK")) / everything}


def markdown(report: dict, found: dict[str, Measured]) -> str:
    box, probe = report["machine"], report["probe"]
    lines = [
        f"{box['cpu']} (family/model/stepping {box['family']}), {box['processors']} processors, "
        f"{' '.join(box['features'])}; {box['memory_gb']} GB; Linux {box['kernel']}, huge pages {box['huge_pages']}; "
        f"{report['threads']} threads. While measuring, {100 * box['stolen']:.1f} % of the processors' time was stolen by the "
        f"host and {100 * box['others']:.1f} % used by others.",
        "",
    ]
    if probe:
        peaks = ", ".join(f"{unit} {spread([v * 1000 for v in values])}" for unit, values in probe["peaks"].items())
        lines.append(f"`sluice bench` in these runs: reads {spread(probe['read_gb_s'])} GB/s ({probe['variant']}); "
                     f"peaks in GFLOP/s: {peaks}; ISA {probe['isa']}.")
    lines += ["", *(f"- {text}" for text in report["versions"])]
    lines += rates_table(found)
    lines += targets_table(targets(found, "amx_bf16" in box["features"]))
    broken = [f"- {case}, {program}: {why}" for case, m in found.items() for program, why in m.problems.items()]
    return "\n".join([*lines, *([""] if broken else []), *broken]) + "\n"
