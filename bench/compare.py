#!/usr/bin/env python3
"""Sluice side by side with llama.cpp, ik_llama.cpp, transformers and OpenVINO: the same checkpoint, alternating runs
(docs/performance.md). Programs that aren't given are left out.

    bench/compare.py --llama-bench PROGRAM --ik-llama-bench PROGRAM --torch PYTHON --openvino PYTHON \\
        --markdown docs/performance.md --chart docs/performance.svg [--cases decode,rows] [--results FILE.json]

Random BF16 weights in the shape of Qwen3.5-0.8B, and of a 5 MB model, are made once in --models, in both formats. A round runs
every program once; odd rounds in reverse order, so that drift meets all alike. Ratios are taken round by round. Loading is never
timed, each run is warmed up, and all get as many tokens and threads. While a run goes on, other processes' share of the
processors and what the host steals are measured; a run that they disturbed is discarded and made again. What was measured
stays in --results: a later call measures the cases that aren't there yet.
Exit code 1 if Sluice itself fails; a peer that fails is reported.
"""

import argparse
import datetime
import os
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from comparing.chart import chart  # noqa: E402
from comparing.disturbance import Watch  # noqa: E402
from comparing.programs import PARTS, Broken, Llama, Server, Sluice  # noqa: E402
from comparing.report import FULL_HEAD, IK, OURS, Measured, around, machine, markdown, put_into, targets  # noqa: E402
from comparing.settings import settings_of, tune, write_settings  # noqa: E402

ROOT = HERE.parent
CASES = ("decode", "prefill", "long", "rows", "tiny", "demo")
ROWS = [1, 2, 4, 8, 16]
SCHEMA = 4  # of --results
EAGER = ("eager fp32", "eager bf16")
PRECISIONS = ("bf16", "f32")  # OpenVINO's


class Session:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.sluice = Sluice(options.sluice, options.threads)
        self.peers: list[Llama] = []
        if options.llama_bench:
            self.peers.append(Llama("llama.cpp", options.llama_bench, options.threads,
                                    settings_of("llama.cpp", options.settings), ["--no-warmup"], {}))
        if options.ik_llama_bench:
            self.peers.append(Llama(IK, options.ik_llama_bench, options.threads, settings_of(IK, options.settings), ["-w", "0"],
                                    {flag: flag for flag in ("-rtr", "-mqkv", "-thp", "-gr", "-rcache")}))
        self.server_versions: dict[str, str] = {}  # version → settings
        self.servers: list[Server] = []  # that run now
        self.found: dict[str, Measured] = {}
        self.earlier: dict = {}  # a report, of calls before this one
        self.watch = Watch()
        self.can_screen = self.sluice.can_screen()

    def resume(self, report: dict) -> None:
        """Takes over what an earlier call measured, if it measured the same program on the same machine."""
        ours = {"schema": SCHEMA, "sluice": self.sluice.version(), "threads": self.options.threads, "machine": machine()}
        for key, value in ours.items():
            theirs = {k: report.get(key, {}).get(k) for k in value} if isinstance(value, dict) else report.get(key)
            if theirs != value:
                sys.exit(f"compare: {self.options.results} has other results: {key} is {theirs}, here {value}")
        self.earlier = report
        self.server_versions = dict(report["servers"])
        self.found = {case: Measured.from_json(measured) for case, measured in report["results"].items()}

    def missing(self, names: list[str]) -> bool:
        """Whether any of these cases isn't measured yet; whatever there is of them goes."""
        done = self.earlier.get("done", [])
        if all(name in done for name in names):
            return False
        for name in names:
            self.found.pop(name, None)
        return True

    def folder(self, shape: str) -> Path:
        """A checkpoint of that shape with random weights, in both formats."""
        folder = self.options.models / f"{shape}-{self.options.seed}"
        made = folder / "made"
        if not made.exists():
            say(f"making {folder}")
            peers = ROOT / ".venv-peers" / "bin" / "python"
            command = [peers if peers.exists() else sys.executable, ROOT / "tools" / "random_checkpoint.py", folder, "--seed",
                       str(self.options.seed), "--shape", shape, "--format", "both", "--gguf-type", "BF16", "--text-only"]
            if subprocess.run(command, check=False).returncode != 0:
                sys.exit("compare: no checkpoint; tools/peers.sh makes .venv-peers, which has what random_checkpoint.py needs")
            made.touch()
        return folder

    def model(self, shape: str) -> Path:
        return self.folder(shape) / "model.gguf"

    # --- measuring ----------------------------------------------------------------------------------------------

    def note(self, case: str, program: str, number: int, result: float | dict) -> None:
        """A rate; of Sluice, a result of its JSON."""
        measured = self.found.setdefault(case, Measured())
        if isinstance(result, dict):
            measured.details.setdefault(program, {})[number] = result
            result = result["rate"]
        measured.add(program, number, result)

    def undisturbed(self, program: str, cases: list[str], turn) -> dict:
        """The results of a run that nobody disturbed; nothing if there was none in as many tries as are allowed."""
        for attempt in range(1 + self.options.retries):
            watch = Watch(self.servers)
            results = turn()
            shares = watch.shares()
            if max(shares.values()) <= self.options.disturbed:
                return results
            say(f"  {program}: discarded: {100 * shares['others']:.1f} % used by others, {100 * shares['stolen']:.1f} % stolen")
            for case in cases:
                discarded = self.found.setdefault(case, Measured()).discarded
                discarded[program] = discarded.get(program, 0) + 1
        return {}

    def alternate(self, cases: list[str], turns: dict, rounds: int) -> None:
        """turns: program → a function of no arguments that gives {case: result}. Sluice comes first."""
        broken = set()
        for number in range(rounds):
            order = [name for name in turns if name not in broken]
            for name in reversed(order) if number % 2 else order:
                start = time.monotonic()
                try:
                    results = self.undisturbed(name, cases, turns[name])
                except Broken as problem:
                    if name == OURS:
                        raise
                    broken.add(name)
                    for case in cases:
                        self.found.setdefault(case, Measured()).problems[name] = str(problem)
                    say(f"  {name}: {problem}")
                    continue
                for case, result in results.items():
                    self.note(case, name, number, result)
                rates = ", ".join(f"{case} {self.found[case].rates[name][number]:.1f}" for case in results)
                if results:
                    say(f"  {number + 1}/{rounds} {name}: {rates} tok/s, {time.monotonic() - start:.1f} s in all")
        self.earlier["done"] = [*self.earlier.get("done", []), *cases]
        write(self.options, self)

    def run(self, case: str) -> None:
        say(case)
        getattr(self, case)()

    def ours(self, case: str, model: Path, tokens: int) -> dict:
        """Decoding with one row; where the head can be screened, with the full one too."""
        turns = {OURS: lambda: {case: self.sluice.decode(model, tokens, [1])[1]}}
        if self.can_screen:
            turns[FULL_HEAD] = lambda: {case: self.sluice.decode(model, tokens, [1], ("--head", "full"))[1]}
        return turns

    # --- cases --------------------------------------------------------------------------------------------------

    def decode(self) -> None:
        for shape in self.options.shapes:
            name, model, tokens = f"decode {shape}", self.model(shape), self.options.tokens
            if not self.missing([name]):
                continue
            turns = self.ours(name, model, tokens)
            turns |= {p.name: lambda p=p: {name: p.decode(model, tokens, "decode")} for p in self.peers}
            with Served(self, self.folder(shape), name) as served:
                turns |= {program: lambda run=run: {name: run(tokens, 0)} for program, run in served.programs(True).items()}
                self.alternate([name], turns, self.options.pairs)

    def prefill(self) -> None:
        for shape in self.options.shapes:
            rows = self.options.prompt
            name, model = f"prefill {rows}, {shape}", self.model(shape)
            if not self.missing([name]):
                continue
            turns = {OURS: lambda: {name: self.sluice.prefill(model, rows)}}
            turns |= {p.name: lambda p=p: {name: p.prefill(model, rows)} for p in self.peers}
            with Served(self, self.folder(shape), name) as served:
                turns |= {program: lambda run=run: {name: run(0, rows)} for program, run in served.programs(False).items()}
                self.alternate([name], turns, self.options.pairs)

    def long(self) -> None:
        """Sluice often, beside its own prefill of a short prompt; the peers once each, since a run takes half a minute."""
        rows, short = self.options.long_prompt, self.options.prompt
        name, beside = f"prefill {rows}", f"prefill {short} beside it"
        if not self.missing([beside, name]):
            return
        model = self.model(self.options.shapes[0])
        reps = max(1, self.options.pairs // 2)
        turns = {OURS: lambda: {beside: self.sluice.prefill(model, short, reps), name: self.sluice.prefill(model, rows, reps)}}
        turns |= {p.name: lambda p=p: {name: p.long_prefill(model, rows)} for p in self.peers}
        self.alternate([beside, name], turns, 1)

    def rows(self) -> None:
        model, tokens = self.model(self.options.shapes[0]), self.options.row_tokens
        names = {n: f"{n} row{'s' * (n > 1)}" for n in self.options.rows}
        if not self.missing(list(names.values())):
            return

        def peer_rows(peer: Llama) -> dict[str, float]:
            rates, problem = peer.decode_rows(model, self.options.rows, tokens)
            if problem:
                say(f"  {peer.name}: {problem}")
                for n in set(names) - set(rates):
                    self.found.setdefault(names[n], Measured()).problems[peer.name] = problem
            return {names[n]: rate for n, rate in rates.items()}

        def our_rows(*flags: str) -> dict[str, dict]:
            return {names[n]: result for n, result in self.sluice.decode(model, tokens, self.options.rows, flags).items()}

        turns = {OURS: our_rows}
        if self.can_screen:  # one row's head, but not that of many
            turns[FULL_HEAD] = lambda: our_rows("--head", "full")
        self.alternate(list(names.values()), turns | {p.name: lambda p=p: peer_rows(p) for p in self.peers}, self.options.pairs)

    def tiny(self) -> None:
        name, model, tokens = "5 MB model", self.model("tiny"), self.options.tiny_tokens
        if not self.missing([name]):
            return
        turns = {OURS: lambda: {name: self.sluice.decode(model, tokens, [1])[1]}}
        turns |= {p.name: lambda p=p: {name: p.decode(model, tokens, "tiny")} for p in self.peers}
        self.alternate([name], turns, self.options.pairs)

    def demo(self) -> None:
        name, model, tokens = "bundled model", self.options.demo, self.options.demo_tokens
        if not self.missing([name]):
            return
        # So many tokens take Sluice a fiftieth of a second.
        turns = {OURS: lambda: {name: self.sluice.decode(model, PARTS * tokens, [1])[1]}}
        with Served(self, model, name, openvino=False) as served:
            turns |= {program: lambda run=run: {name: run(tokens, 0)} for program, run in served.programs(True).items()}
            self.alternate([name], turns, self.options.pairs)

    def tune(self, case: str) -> None:
        model = self.model("tiny" if case == "tiny" else self.options.shapes[0]) if case != "demo" else None
        rows = max(self.options.rows) // 2
        measures = {"decode": lambda p: p.decode(model, self.options.tokens // 2, "decode"),
                    "prefill": lambda p: p.prefill(model, self.options.prompt),
                    "long": lambda p: p.long_prefill(model, self.options.long_prompt // 4),
                    "rows": lambda p: p.decode_rows(model, [rows], self.options.row_tokens)[0][rows],
                    "tiny": lambda p: p.decode(model, self.options.tiny_tokens, "tiny")}
        for peer in self.peers if case in measures else []:
            tune(peer, case, lambda p=peer: measures[case](p), max(1, self.options.pairs // 2))

    def report(self) -> dict:
        """Of this call and those before it."""
        probes = [*self.earlier.get("probes", []), *(r["probe"] | {"isa": r["machine"]["isa"]} for r in self.sluice.reports)]
        probe = {}
        if probes:
            probe = {"read_gb_s": [p["read_gb_s"] for p in probes], "variant": statistics.mode(p["variant"] for p in probes),
                     "isa": probes[0]["isa"],
                     "peaks": {unit: [p["matrix_tflops"][unit] for p in probes] for unit in probes[0]["matrix_tflops"]}}
        box = machine()
        return {"schema": SCHEMA, "sluice": self.sluice.version(), "machine": box | self.watched(), "threads": self.options.threads,
                "versions": self.described(), "servers": self.server_versions, "most_disturbed": self.options.disturbed,
                "probe": probe, "probes": probes, "done": self.earlier.get("done", []),
                "settings": {p.name: {case: str(s) for case, s in p.settings.items()} for p in self.peers},
                "results": {case: vars(m) | {"ratios": {p: m.ratios(p) for p in m.rates if p != OURS}}
                            for case, m in self.found.items()},
                "targets": [vars(t) for t in targets(self.found, "amx_bf16" in box["features"])]}

    def watched(self) -> dict:
        """How long it took, and the shares of that time that the host stole and that others used."""
        parts = [self.watch.shares() | {"seconds": self.watch.seconds()}]
        if "results" in self.earlier:
            parts.append(self.earlier["machine"])
        seconds = sum(part["seconds"] for part in parts)
        return {"seconds": seconds} | {share: sum(part[share] * part["seconds"] for part in parts) / seconds
                                       for share in ("stolen", "others")}

    def described(self) -> list[str]:
        """Versions with flags."""
        lines = [f"{self.sluice.version()}: `bench -t {self.options.threads}`"]
        for peer in self.peers:
            groups = {}
            for case in CASES:
                if case in peer.settings:
                    groups.setdefault(str(peer.settings[case]), []).append(case)
            lines.append(f"{peer.version()}: " + "; ".join(f"`{flags}` ({', '.join(cases)})" for flags, cases in groups.items()))
        return [*lines, *(f"{version}: {how}" for version, how in self.server_versions.items())]


class Served:
    """transformers and OpenVINO on one checkpoint, for one case: the variants that are worth timing, each with the number of
    threads that suits it best, as found by short runs before."""

    def __init__(self, session: Session, folder: Path, case: str, openvino: bool = True):
        self.session, self.folder, self.case, self.openvino = session, folder, case, openvino
        self.options = session.options

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.session.servers:
            server.close()
        self.session.servers.clear()

    def start(self, name: str, python: Path, script: str, arguments: list, env: dict[str, str] | None = None) -> Server | None:
        try:
            server = Server(python, script, arguments, env)
        except Broken as problem:
            self.give_up(name, problem)
            return None
        self.session.servers.append(server)
        return server

    def give_up(self, name: str, problem: Broken) -> None:
        say(f"  {name}: {problem}")
        self.session.found.setdefault(self.case, Measured()).problems[name] = str(problem)

    def best(self, server: Server, variants: tuple, counts: list[int], decodes: bool) -> dict[str, tuple[float, int]]:
        """variant → (rate, threads)."""
        tokens, prompt = (self.options.tokens // 4, 0) if decodes else (0, self.options.prompt // 4)
        found = {}
        for variant in variants:
            try:
                found[variant] = max((server.run(variant, count, max(1, tokens), prompt), count) for count in counts)
            except Broken as problem:
                self.give_up(variant, problem)
        return found

    def programs(self, decodes: bool) -> dict:
        """Program → a function of (tokens, prompt) that gives a rate."""
        programs, counts = {}, sorted({1, self.options.threads})
        if self.options.torch:
            cache = {"TORCHINDUCTOR_CACHE_DIR": str(self.options.models / "compiled")}
            server = self.start("transformers", self.options.torch, "serve_transformers.py", [self.folder], cache)
            if server:
                best = self.best(server, EAGER, counts, decodes)
                fastest = max(best, key=lambda variant: best[variant][0]) if best else ""
                best = {fastest: best[fastest]} if best else {}
                if self.options.compile and decodes and best:
                    say(f"  compiling, with the type and the threads of {fastest}")
                    best |= self.best(server, (fastest.replace("eager", "compiled"),), [best[fastest][1]], decodes)
                self.describe(server, best)
                for variant, (_, count) in best.items():
                    programs[f"transformers {variant}"] = lambda tokens, prompt, v=variant, n=count, s=server: s.run(v, n, tokens, prompt)
        if self.options.openvino and self.openvino:
            server = self.start("OpenVINO", self.options.openvino, "serve_openvino.py", [self.folder, self.folder / "openvino"])
            best = self.best(server, PRECISIONS, counts, decodes) if server else {}
            if best:
                variant = max(best, key=lambda name: best[name][0])
                self.describe(server, {variant: best[variant]})
                programs["OpenVINO"] = lambda tokens, prompt, s=server: s.run(variant, best[variant][1], tokens, prompt)
        return programs

    def describe(self, server: Server, best: dict[str, tuple[float, int]]) -> None:
        how = ", ".join(f"{variant} with {count} thread{'s' * (count > 1)}" for variant, (_, count) in best.items())
        known = self.session.server_versions
        known[server.version()] = "; ".join(filter(None, [known.get(server.version()), f"{how} ({self.case})"]))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def case_list(text: str) -> list[str]:
    chosen = text.split(",")
    if set(chosen) - set(CASES):
        raise argparse.ArgumentTypeError(f"cases are {', '.join(CASES)}")
    return chosen


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/compare.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sluice", type=Path, default=ROOT / "build" / "sluice")
    add("--llama-bench", type=Path, metavar="PROGRAM", help="llama.cpp's; `rows` wants llama-batched-bench beside it")
    add("--ik-llama-bench", type=Path, metavar="PROGRAM", help="ik_llama.cpp's, likewise")
    add("--torch", type=Path, metavar="PYTHON", help="with torch and transformers (tools/golden-requirements.txt)")
    add("--openvino", type=Path, metavar="PYTHON", help="with openvino, optimum-intel 2.2 and transformers 5.2")
    add("--demo", type=Path, default=ROOT / "models" / "demo", metavar="DIR", help="the bundled model")
    add("--models", type=Path, default=Path(tempfile.gettempdir()) / "sluice-compare", metavar="DIR",
        help="for random weights and what is made of them")
    add("--shapes", type=lambda text: text.split(","), default=["0.8b"], help="of decode and prefill (0.8b); 2b, 4b")
    add("--seed", type=int, default=1)
    add("--cases", type=case_list, default=list(CASES), help=",".join(CASES) + " (all)")
    add("--pairs", type=int, default=5, help="rounds of each case")
    add("--disturbed", type=float, default=0.03, metavar="SHARE",
        help="a run is discarded if others used, or the host stole, more than that of the processors' time (0.03)")
    add("--retries", type=int, default=2, help="of a run that was discarded")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--rows", type=lambda text: [int(n) for n in text.split(",")], default=ROWS)
    add("--tokens", type=int, default=64, help="decode")
    add("--row-tokens", type=int, default=16, help="decode of each of several rows")
    add("--tiny-tokens", type=int, default=1024, help="decode of the 5 MB model")
    add("--demo-tokens", type=int, default=256, help="decode of the bundled model")
    add("--prompt", type=int, default=512)
    add("--long-prompt", type=int, default=8192)
    add("--quick", action="store_true", help="few tokens, 2 rounds, none discarded: whether everything runs, not how fast")
    add("--no-compile", dest="compile", action="store_false", help="transformers eager only")
    add("--settings", type=Path, metavar="FILE", help="of llama.cpp and ik_llama.cpp, as --tune writes them")
    add("--tune", type=Path, metavar="FILE", help="look for their fastest settings, write them to FILE, measure nothing")
    add("--results", type=Path, metavar="FILE.json", help="everything measured; cases that it has already are kept")
    add("--markdown", type=Path, metavar="FILE", help="the tables, between the page's marks; a page that isn't there gets them")
    add("--chart", type=Path, metavar="FILE.svg")
    options = parser.parse_args(argv)
    for name, value in vars(options).items():
        if isinstance(value, Path):  # programs run elsewhere
            setattr(options, name, value.absolute())
    needed = [options.sluice, options.torch, options.openvino, options.settings, options.demo / "config.json"]
    for program in filter(None, (options.llama_bench, options.ik_llama_bench)):
        needed += [program, *([program.with_name("llama-batched-bench")] if "rows" in options.cases else [])]
    needed += [file.absolute().parent for file in (options.results, options.markdown, options.chart, options.tune) if file]
    for path in filter(None, needed):
        if not path.exists():
            parser.error(f"there is no {path}")
    if options.markdown:
        try:
            around(options.markdown)
        except (OSError, ValueError) as problem:
            parser.error(str(problem))
    if options.quick:
        small = dict(pairs=2, tokens=4, row_tokens=2, tiny_tokens=32, demo_tokens=8, prompt=32, long_prompt=64, disturbed=1.0)
        vars(options).update(small)
    return options


def write(options: argparse.Namespace, session: Session) -> str:
    """What there is after a case survives what comes."""
    report = session.report()
    date = datetime.date.today().isoformat()
    picture = None
    if options.chart:
        box = report["machine"]
        options.chart.write_text(chart(session.found, "Decoding and reading prompts, as shares of what the machine allows",
                                       f"{box['cpu']}, {report['threads']} threads, {date}; medians and ranges",
                                       [version.replace("`", "") for version in report["versions"]]), encoding="utf-8")
        page = options.markdown.absolute().parent if options.markdown else Path.cwd()
        picture = os.path.relpath(options.chart.absolute(), page)
    text = markdown(report, session.found, date, picture)
    if options.results:
        options.results.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.markdown:
        put_into(options.markdown, text)
    return text


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    session = Session(options)
    if options.tune:
        for case in options.cases:
            session.tune(case)
        write_settings(options.tune, session.peers)
        return 0
    if options.results and options.results.exists():
        session.resume(json.loads(options.results.read_text(encoding="utf-8")))
    failed = False
    for case in options.cases:
        try:
            session.run(case)
        except Broken as problem:
            say(f"  {problem}")
            failed = True
    print(write(options, session))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
