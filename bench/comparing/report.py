"""What compare.py measured, as Markdown: rates side by side, and how each target stands."""

import os
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path

FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
ROW_LIMITS = {2: 1.08, 4: 1.18, 8: 1.45, 16: 2.0}  # a step's time, of that with one row


OURS = "Sluice"
FULL_HEAD = "Sluice, full head"  # where the screened one is the default
IK = "ik_llama.cpp"


def floor_of_all_weights(result: dict) -> float:
    """Tokens per second, of one of `sluice bench`'s results: what reading all weights allows, whatever its head read of them; of the
    cache's floor where they fit into it."""
    cache = "cache_" if "cache_floor_tok_s" in result else ""
    return result.get(f"{cache}full_head_floor_tok_s", result[f"{cache}floor_tok_s"])


@dataclass
class Measured:
    """A case's runs that nobody disturbed, in tokens per second."""

    rates: dict[str, dict[int, float]] = field(default_factory=dict)  # program → round → rate
    details: dict[str, dict[int, dict]] = field(default_factory=dict)  # of ours: the results as `sluice bench` gives them
    discarded: dict[str, int] = field(default_factory=dict)  # program → runs that others disturbed
    problems: dict[str, str] = field(default_factory=dict)  # program → why it has no more runs

    @staticmethod
    def from_json(fields: dict) -> "Measured":
        """Its own fields, as JSON keeps them: rounds as strings."""
        rounds = {name: {program: {int(n): value for n, value in runs.items()} for program, runs in fields[name].items()}
                  for name in ("rates", "details")}
        return Measured(**rounds, discarded=fields["discarded"], problems=fields["problems"])

    def add(self, program: str, number: int, rate: float) -> None:
        self.rates.setdefault(program, {})[number] = rate

    def values(self, program: str) -> list[float]:
        return list(self.rates.get(program, {}).values())

    def ratios(self, program: str, ours: str = OURS) -> list[float]:
        """ours ÷ program, in the rounds that both have."""
        first, second = self.rates.get(ours, {}), self.rates.get(program, {})
        return [rate / second[number] for number, rate in first.items() if number in second]

    def of_floor(self, program: str = OURS) -> list[float]:
        """Of the floor of all weights as they are stored; of ours, of what it really has to read."""
        if program in self.details:
            return [self.rates[program][n] / d.get("cache_floor_tok_s", d["floor_tok_s"]) for n, d in self.details[program].items()]
        floors = {number: floor_of_all_weights(d)
                  for number, d in (self.details.get(FULL_HEAD) or self.details.get(OURS, {})).items()}
        return [rate / floors[number] for number, rate in self.rates.get(program, {}).items() if number in floors]

    def bandwidth(self) -> list[float]:
        """GB/s, as measured within our runs."""
        return [d["read_gb_s"] for d in self.details.get(OURS, {}).values()]

    def op_share(self, op: str) -> list[float]:
        return [d["op_share"][op] for d in self.details[OURS].values()]


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


def decode_targets(case: str, measured: Measured) -> list[Target]:
    result = [at_least(f"{case}: of its floor", measured.of_floor(), 0.92, "%")]
    screened = any(d.get("head") == "screened" for d in measured.details[OURS].values())
    if measured.ratios(IK):
        result.append(at_least(f"{case}: of {IK}", measured.ratios(IK), 1.15 if screened else 1.05, "×"))
    if screened and measured.ratios(IK, FULL_HEAD):
        result.append(at_least(f"{case}, full head: of {IK}", measured.ratios(IK, FULL_HEAD), 1.05, "×"))
    return result


def prefill_targets(case: str, measured: Measured, has_amx: bool) -> list[Target]:
    result = [at_least(f"{case}: of the floor", measured.of_floor(), 0.80, "%")]
    gemms = [d["gemms_of_peak"] for d in measured.details[OURS].values() if "gemms_of_peak" in d]
    if gemms:
        result.append(at_least(f"{case}, products with weights alone: of the peak", gemms, 0.50 if has_amx else 0.85, "%"))
    peers = [p for p in measured.rates if p != OURS and measured.ratios(p)]
    if peers:
        fastest = max(peers, key=lambda p: statistics.median(measured.values(p)))
        limit = 4.0 if has_amx else 1.05
        result.append(at_least(f"{case}: of the fastest peer, {fastest}", measured.ratios(fastest), limit, "×"))
    return result


def targets(found: dict[str, Measured], has_amx: bool) -> list[Target]:
    """Those that the cases of this run can tell."""
    result = []
    found = {case: measured for case, measured in found.items() if measured.rates.get(OURS)}
    for case, measured in found.items():
        if case.startswith("decode"):
            result += decode_targets(case, measured)
        if case.startswith("prefill 512") and "beside" not in case:
            result += prefill_targets(case, measured, has_amx)
    for program, what in ((OURS, ""), (FULL_HEAD, ", full head")):
        one = found["1 row"].rates.get(program, {}) if "1 row" in found else {}
        for rows, limit in ROW_LIMITS.items():
            many = found[f"{rows} rows"].rates.get(program, {}) if f"{rows} rows" in found else {}
            times = [rows / rate * one[n] for n, rate in many.items() if n in one]
            if times:
                result.append(at_most(f"{rows} rows{what}: step time, of 1 row's", times, limit, "×"))
    if "prefill 8192" in found and "prefill 512 beside it" in found:
        short = statistics.median(found["prefill 512 beside it"].values(OURS))
        result.append(at_least("prefill 8192: of prefill 512", [r / short for r in found["prefill 8192"].values(OURS)], 0.75, "%"))
    if "5 MB model" in found:
        tiny = found["5 MB model"]
        if tiny.ratios(IK):
            result.append(at_least(f"5 MB model, decode: of {IK}", tiny.ratios(IK), 3.0, "×"))
        result.append(at_most("5 MB model, decode: dispatch and waits, of the step", tiny.op_share("wait"), 0.25, "%"))
    if "bundled model" in found:
        demo = found["bundled model"]
        eager = [p for p in demo.rates if "eager" in p and demo.ratios(p)]
        if eager:
            fastest = max(eager, key=lambda p: statistics.median(demo.values(p)))
            result.append(at_least(f"bundled model, decode: of {fastest}", demo.ratios(fastest), 25.0, "×"))
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


def rates_table(case: str, m: Measured) -> list[str]:
    ours = [p for p in (OURS, FULL_HEAD) if p in m.rates]
    peers = [p for p in dict.fromkeys([*m.rates, *m.problems]) if p not in ours]
    lines = [f"### {case}", "", "| | tok/s | Sluice ÷ it | of the floor | memory meanwhile, GB/s | rounds | discarded |",
             "|---|---|---|---|---|---|---|"]
    for program in [*ours, *peers]:
        cells = [program, spread(m.values(program)) + (" *broke*" if program in m.problems else ""),
                 "" if program == OURS else spread(m.ratios(program), "×"), spread(m.of_floor(program), "%"),
                 spread(m.bandwidth()), str(len(m.values(program))), str(m.discarded.get(program, 0))]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


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


def markdown(report: dict, found: dict[str, Measured], date: str, chart: str | None) -> str:
    box, probe = report["machine"], report["probe"]
    lines = [
        f"Measured {date}: {box['cpu']} (family/model/stepping {box['family']}), {box['processors']} processors, "
        f"{' '.join(box['features'])}; {box['memory_gb']} GB; Linux {box['kernel']}, huge pages {box['huge_pages']}; "
        f"{report['threads']} threads. Over all of it {100 * box['stolen']:.1f} % of the processors' time was stolen by the "
        f"host and {100 * box['others']:.1f} % used by others; a run with more than {100 * report['most_disturbed']:.0f} % of "
        "either was discarded and made again.",
        "",
    ]
    if probe:
        peaks = ", ".join(f"{unit} {spread([v * 1000 for v in values])}" for unit, values in probe["peaks"].items())
        lines += [f"`sluice bench` in these runs: reads {spread(probe['read_gb_s'])} GB/s ({probe['variant']}); "
                  f"peaks in GFLOP/s: {peaks}; ISA {probe['isa']}.", ""]
    lines += [*(f"- {text}" for text in report["versions"]), ""]
    if chart:
        lines += [f"![Each program's share of what the machine allows]({chart})", ""]
    lines += ["Figures are medians (least to most) of the rounds; a ratio is taken within a round. Peers are set beside the floor of "
              "reading all weights once.", ""]
    for case, measured in found.items():
        lines += rates_table(case, measured)
    lines += ["### How the targets stand", *targets_table(targets(found, "amx_bf16" in box["features"]))]
    broken = [f"- {case}, {program}: {why}" for case, m in found.items() for program, why in m.problems.items()]
    return "\n".join([*lines, *([""] if broken else []), *broken]) + "\n"


BEGIN, END = "<!-- from here on by bench/compare.py -->", "<!-- up to here -->"


def around(page: Path) -> tuple[str, str]:
    """What stands before the page's two marks and behind them; of one that isn't there yet, nothing. Raises ValueError if it has
    text and no marks, which would be lost."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    if not old.strip():
        return "", "\n"
    begin = old.find(BEGIN)
    end = old.find(END, begin)
    if begin < 0 or end < 0:
        raise ValueError(f"{page} has text, but not {BEGIN} and behind it {END}: put them where the tables are to stand")
    return old[:begin], old[end + len(END):]


def put_into(page: Path, text: str) -> None:
    """Between the page's two marks."""
    before, behind = around(page)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{behind}", encoding="utf-8")
