"""Speed side by side with llama.cpp, ik_llama.cpp and transformers, in alternating runs (docs/speed.md).

    tools/peers.sh --only speed --llama-bin DIR --ik-bin DIR --torch PYTHON [--cases decode,rows] [--json FILE]

Random BF16 weights in the shape of Qwen3.5-0.8B, and of a 5 MB model, are made once in --models. Programs that aren't
given are left out. A round runs every program once; odd rounds in reverse order, so that drift meets all alike. Ratios are
taken round by round. Loading is never timed, each run is warmed up, and all get as many tokens and threads.
Exit code 1 if sluice itself fails; a peer that fails is reported.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers.speed_programs import Broken, Llama, Sluice, Transformers  # noqa: E402
from peers.speed_report import Measured, ProcessorTime, machine, markdown, targets  # noqa: E402
from peers.speed_settings import settings_of, tune, write_settings  # noqa: E402

TOOLS = Path(__file__).resolve().parent.parent
CASES = ("decode", "prefill", "long", "rows", "tiny", "demo")
ROWS = [1, 2, 4, 8, 16]
EAGER = ("eager fp32", "eager bf16")
PROGRAMS = ("llama-bench", "llama-batched-bench")


class Session:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.sluice = Sluice(options.sluice, options.threads)
        self.peers: list[Llama] = []
        if options.llama_bin:
            self.peers.append(Llama("llama.cpp", options.llama_bin, options.threads, settings_of("llama.cpp", options.settings),
                                    ["--no-warmup"], {}))
        if options.ik_bin:
            self.peers.append(Llama("ik_llama.cpp", options.ik_bin, options.threads,
                                    settings_of("ik_llama.cpp", options.settings), ["-w", "0"],
                                    {flag: flag for flag in ("-rtr", "-mqkv", "-thp", "-gr", "-rcache")}))
        self.versions = [self.sluice.version(), *(peer.version() for peer in self.peers)]
        self.found: dict[str, Measured] = {}

    def model(self, shape: str) -> Path:
        """A GGUF of that shape with random weights, which all programs read."""
        folder = self.options.models / f"{shape}-{self.options.seed}"
        made = folder / "made"
        if not made.exists():
            say(f"making {folder}")
            subprocess.run([sys.executable, TOOLS / "random_checkpoint.py", folder, "--seed", str(self.options.seed), "--shape",
                            shape, "--format", "gguf", "--gguf-type", "BF16"], check=True)
            made.touch()
        return folder / "model.gguf"

    def note(self, case: str, program: str, result: float | dict) -> None:
        """A rate; of sluice, a result of its JSON."""
        measured = self.found.setdefault(case, Measured())
        if isinstance(result, dict):
            measured.details.append(result)
            result = result["tok_s"]["median"]
        measured.add(program, result)

    def alternate(self, turns: dict, rounds: int) -> None:
        """turns: program → a function of no arguments that gives {case: result}. sluice comes first."""
        broken = set()
        for number in range(rounds):
            order = [name for name in turns if name not in broken]
            for name in reversed(order) if number % 2 else order:
                start = time.monotonic()
                try:
                    results = turns[name]()
                except Broken as problem:
                    if name == "sluice":
                        raise
                    broken.add(name)
                    for case in self.last_cases:
                        self.found.setdefault(case, Measured()).problems[name] = str(problem)
                    say(f"  {name}: {problem}")
                    continue
                for case, result in results.items():
                    self.note(case, name, result)
                if not results:
                    continue
                rates = ", ".join(f"{case} {self.found[case].rates[name][-1]:.1f}" for case in results)
                say(f"  {number + 1}/{rounds} {name}: {rates} tok/s, {time.monotonic() - start:.1f} s in all")

    last_cases: list[str] = []  # what the running case measures

    def run(self, case: str) -> None:
        say(case)
        getattr(self, case)()

    def decode(self) -> None:
        self.last_cases = ["decode"]
        model, tokens = self.model("0.8b"), self.options.tokens
        turns = {"sluice": lambda: {"decode": self.sluice.decode(model, tokens, [1])[1]}}
        turns |= {p.name: lambda p=p: {"decode": p.decode(model, tokens, "decode")} for p in self.peers}
        self.alternate(turns, self.options.pairs)

    def prefill(self) -> None:
        rows = self.options.prompt
        name = f"prefill {rows}"
        self.last_cases, model = [name], self.model("0.8b")
        turns = {"sluice": lambda: {name: self.sluice.prefill(model, rows)}}
        turns |= {p.name: lambda p=p: {name: p.prefill(model, rows)} for p in self.peers}
        self.alternate(turns, self.options.pairs)

    def long(self) -> None:
        """sluice often, beside its own prefill of a short prompt; the peers once each, since a run takes half a minute."""
        rows, short = self.options.long_prompt, self.options.prompt
        name, beside = f"prefill {rows}", f"prefill {short} beside it"
        self.last_cases, model = [name], self.model("0.8b")
        reps = max(1, self.options.pairs // 2)
        turns = {"sluice": lambda: {beside: self.sluice.prefill(model, short, reps), name: self.sluice.prefill(model, rows, reps)}}
        for part in range(2):
            peer = {p.name: lambda p=p: {name: p.long_prefill(model, rows)} for p in self.peers[part::2]}
            self.alternate(turns | peer, 1)

    def rows(self) -> None:
        model, tokens = self.model("0.8b"), self.options.row_tokens
        names = {n: f"{n} row{'s' * (n > 1)}" for n in self.options.rows}
        self.last_cases = list(names.values())

        def peer_rows(peer: Llama) -> dict[str, float]:
            rates, problem = peer.decode_rows(model, self.options.rows, tokens)
            if problem:
                say(f"  {peer.name}: {problem}")
                for n in set(names) - set(rates):
                    self.found.setdefault(names[n], Measured()).problems[peer.name] = problem
            return {names[n]: rate for n, rate in rates.items()}

        def our_rows() -> dict[str, dict]:
            return {names[n]: result for n, result in self.sluice.decode(model, tokens, self.options.rows).items()}

        self.alternate({"sluice": our_rows} | {p.name: lambda p=p: peer_rows(p) for p in self.peers}, self.options.pairs)

    def tiny(self) -> None:
        self.last_cases = ["5 MB model"]
        model, tokens = self.model("tiny"), self.options.tiny_tokens
        turns = {"sluice": lambda: {"5 MB model": self.sluice.decode(model, tokens, [1])[1]}}
        turns |= {p.name: lambda p=p: {"5 MB model": p.decode(model, tokens, "tiny")} for p in self.peers}
        self.alternate(turns, self.options.pairs)

    def demo(self) -> None:
        name, model, tokens = "bundled model", self.options.demo, self.options.demo_tokens
        self.last_cases = [name]
        # A run of sluice is over in a twentieth of a second.
        turns = {"sluice": lambda: {name: self.sluice.decode(model, tokens, [1], reps=11)[1]}}
        if not self.options.torch:
            self.alternate(turns, self.options.pairs)
            return
        peer = Transformers(self.options.torch, model, self.options.models / "compiled")
        counts = sorted({1, self.options.threads})
        best = {}  # variant → (rate, threads)
        for variant in EAGER:
            best[variant] = max((peer.decode(variant, count, tokens // 4), count) for count in counts)
        if self.options.compile:
            fastest = max(EAGER, key=lambda variant: best[variant][0])
            variant = fastest.replace("eager", "compiled")
            say(f"  compiling, with the type and the threads of {fastest}")
            try:
                best[variant] = (peer.decode(variant, best[fastest][1], tokens // 4), best[fastest][1])
            except Broken as problem:
                say(f"  {problem}")
                self.found.setdefault(name, Measured()).problems[variant] = str(problem)
        self.versions.append(f"{peer.version()}: " + ", ".join(
            f"{variant} with {count} thread{'s' * (count > 1)}" for variant, (_, count) in best.items()))
        for variant, (_, count) in best.items():
            turns[variant] = lambda variant=variant, count=count: {name: peer.decode(variant, count, tokens)}
        self.alternate(turns, self.options.pairs)
        peer.close()

    def tune(self, case: str) -> None:
        model = self.model("tiny" if case == "tiny" else "0.8b") if case != "demo" else None
        rows = max(self.options.rows) // 2
        measures = {"decode": lambda p: p.decode(model, self.options.tokens // 2, "decode"),
                    "prefill": lambda p: p.prefill(model, self.options.prompt),
                    "long": lambda p: p.long_prefill(model, self.options.long_prompt // 4),
                    "rows": lambda p: p.decode_rows(model, [rows], self.options.row_tokens)[0][rows],
                    "tiny": lambda p: p.decode(model, self.options.tiny_tokens, "tiny")}
        for peer in self.peers if case in measures else []:
            tune(peer, case, lambda p=peer: measures[case](p), max(1, self.options.pairs // 2))

    def report(self, processors: ProcessorTime) -> dict:
        reports = self.sluice.reports
        probe = {}
        if reports:
            probes = [r["probe"] for r in reports]
            probe = {"read_gb_s": [p["read_gb_s"] for p in probes], "variant": statistics.mode(p["variant"] for p in probes),
                     "isa": reports[0]["machine"]["isa"],
                     "peaks": {unit: [p["matrix_tflops"][unit] for p in probes] for unit in probes[0]["matrix_tflops"]}}
        box = machine()
        return {"schema": 1, "machine": box | processors.shares(), "threads": self.options.threads, "versions": self.described(),
                "settings": {p.name: {case: str(s) for case, s in p.settings.items()} for p in self.peers}, "probe": probe,
                "results": {case: {"tok_s": m.rates, "problems": m.problems, "of_floor": m.of_floor(),
                                   "ratios": {p: m.ratios(p) for p in m.rates if p != "sluice"}, "sluice": m.details}
                            for case, m in self.found.items()},
                "targets": [vars(t) for t in targets(self.found, "amx_bf16" in box["features"])]}

    def described(self) -> list[str]:
        """Versions with flags."""
        lines = list(self.versions)
        for index, peer in enumerate(self.peers):
            groups = {}
            for case in self.options.cases:
                if case in peer.settings:
                    groups.setdefault(str(peer.settings[case]), []).append(case)
            lines[1 + index] += ": " + "; ".join(f"`{flags}` ({', '.join(cases)})" for flags, cases in groups.items())
        lines[0] += f": `bench -t {self.options.threads}`"
        return lines


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def case_list(text: str) -> list[str]:
    chosen = text.split(",")
    if set(chosen) - set(CASES):
        raise argparse.ArgumentTypeError(f"cases are {', '.join(CASES)}")
    return chosen


def parse(argv: list[str] | None) -> argparse.Namespace:
    def given(name: str) -> Path | None:
        return Path(os.environ[name]) if os.environ.get(name) else None

    parser = argparse.ArgumentParser(prog="tools/peers.sh --only speed", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sluice", type=Path, default=given("SLUICE") or TOOLS.parent / "build" / "sluice")
    add("--llama-bin", type=Path, default=given("LLAMA_CPP_BIN"), metavar="DIR", help="llama.cpp's (or $LLAMA_CPP_BIN)")
    add("--ik-bin", type=Path, default=given("IK_LLAMA_CPP_BIN"), metavar="DIR", help="ik_llama.cpp's (or $IK_LLAMA_CPP_BIN)")
    add("--torch", type=Path, default=given("TORCH_PYTHON"), metavar="PYTHON", help="with transformers (or $TORCH_PYTHON)")
    add("--demo", type=Path, default=TOOLS.parent / "models" / "demo", metavar="DIR", help="the bundled model")
    add("--models", type=Path, default=Path(tempfile.gettempdir()) / "sluice-speed", metavar="DIR", help="for random weights")
    add("--seed", type=int, default=1)
    add("--cases", type=case_list, default=list(CASES), help=",".join(CASES) + " (all)")
    add("--pairs", type=int, default=5, help="rounds of each case")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--rows", type=lambda text: [int(n) for n in text.split(",")], default=ROWS)
    add("--tokens", type=int, default=64, help="decode")
    add("--row-tokens", type=int, default=16, help="decode of each of several rows")
    add("--tiny-tokens", type=int, default=1024, help="decode of the 5 MB model")
    add("--demo-tokens", type=int, default=256, help="decode of the bundled model")
    add("--prompt", type=int, default=512)
    add("--long-prompt", type=int, default=8192)
    add("--quick", action="store_true", help="few tokens, 2 rounds: whether everything runs, not how fast")
    add("--no-compile", dest="compile", action="store_false", help="transformers eager only")
    add("--settings", type=Path, metavar="FILE", help="of the peers, as --tune writes them")
    add("--tune", type=Path, metavar="FILE", help="look for the peers' fastest settings, write them to FILE, measure nothing")
    add("--json", type=Path, metavar="FILE")
    add("--markdown", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    needed = [options.sluice, options.torch, options.settings, options.demo / "config.json"]
    needed += [folder / name for folder in (options.llama_bin, options.ik_bin) if folder for name in PROGRAMS]
    needed += [file.absolute().parent for file in (options.json, options.markdown, options.tune) if file]
    for path in filter(None, needed):
        if not path.exists():
            parser.error(f"there is no {path}")
    if options.quick:
        small = dict(pairs=2, tokens=2, row_tokens=2, tiny_tokens=32, demo_tokens=8, prompt=32, long_prompt=64)
        vars(options).update(small)
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    session = Session(options)
    if options.tune:
        for case in options.cases:
            session.tune(case)
        write_settings(options.tune, session.peers)
        return 0
    processors, failed = ProcessorTime(), False
    text = ""
    for case in options.cases:
        try:
            session.run(case)
        except Broken as problem:
            say(f"  {problem}")
            failed = True
        report = session.report(processors)
        text = markdown(report, session.found)
        if options.json:  # after each case: what there is survives what comes
            options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if options.markdown:
            options.markdown.write_text(text, encoding="utf-8")
    print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
