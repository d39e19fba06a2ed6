"""The programs that compare.py times. A rate is tokens per second without loading; each call loads the model anew, since runs alternate."""

import json
import os
import re
import signal
import statistics
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
TIME_LIMIT = 600  # s, of one run
PARTS, PROMPTS = 8, 3  # repetitions of a run of ours
WEIGHT_OPS = ("mix_in", "mix_out", "mlp_in", "mlp_out")
ROWS_PROMPT = 2  # tokens before the timed ones, as in `sluice bench`


class Broken(Exception):
    """A program that failed: how, and all that it said."""

    def __init__(self, how: str, said: str = ""):
        super().__init__(how)
        self.said = said


def run(command: list, env: dict[str, str] | None = None) -> str:
    """Standard output, with standard error behind it. In a folder that goes: ik_llama.cpp's tools leave logs where they run."""
    words = [str(word.resolve()) if isinstance(word, Path) and word.exists() else str(word) for word in command]
    try:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(words, capture_output=True, text=True, errors="replace", env=os.environ | (env or {}),
                                  timeout=TIME_LIMIT, check=False, cwd=folder)
    except subprocess.TimeoutExpired as late:
        raise Broken(f"ran longer than {TIME_LIMIT} s") from late
    said = done.stdout + done.stderr
    if done.returncode != 0:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        why = next((line for line in lines if "ASSERT" in line or "error" in line), lines[-1] if lines else "")
        code = done.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        without_folders = re.sub(r"/\S*/", "", why)
        raise Broken(f"{Path(words[0]).name}: {how}: {without_folders[:200]}", said)
    return said


@dataclass
class Sluice:
    program: Path
    threads: int
    reports: list[dict] = field(default_factory=list)  # of every run, as `sluice bench --json` gives them
    name = "sluice"

    def version(self) -> str:
        return run([self.program, "--version"]).splitlines()[0]

    def can_screen(self) -> bool:
        """Whether it has the screened head beside the full one, and so figures of both are wanted."""
        return "screened" in run([self.program, "bench", "--help"])

    def bench(self, model: Path, *flags) -> list[dict]:
        """Its results; beside each the bandwidth that it is judged by, as `bench` measured it in that very run."""
        text = run([self.program, "bench", model, "--device", "cpu", "-t", self.threads, "--json", *flags])
        report = json.JSONDecoder().raw_decode(text[text.index("{") :])[0]
        self.reports.append(report)
        probe = report["probe"]
        for result in report["results"]:
            result["read_gb_s"] = probe["cache_read_gb_s" if "cache_floor_tok_s" in result else "read_gb_s"]
            result["rate"] = statistics.harmonic_mean(result["reps"])  # all tokens ÷ all time, as the peers say it
        return report["results"]

    def decode(self, model: Path, tokens: int, rows: list[int], flags: tuple = ()) -> dict[int, dict]:
        """In `PARTS` parts, since the machine's bandwidth is measured between them: what it does meanwhile meets both."""
        results = self.bench(model, "-p", 0, "-n", -(-tokens // PARTS), "--rows", ",".join(map(str, rows)), "--reps", PARTS, *flags)
        return {result["rows"]: result for result in results}

    def prefill(self, model: Path, tokens: int, reps: int = PROMPTS) -> dict:
        result = self.bench(model, "-p", tokens, "-n", 0, "--rows", 1, "--reps", reps)[0]
        if result["rows"] == tokens:  # one step
            result["gemms_of_peak"] = self.gemms_of_peak(model, result)
        return result

    def gemms_of_peak(self, model: Path, result: dict) -> float:
        """What the products with a layer's weights reach of the machine's peak while they run: worker 0's time stands for all."""
        program = json.loads(run([self.program, "inspect", model, "--program", "--rows", 0, "--prompt", result["rows"], "--json"]))
        flops = sum(op["flops"] for op in program["ops"] if op["op"] in WEIGHT_OPS)
        seconds = result["ms_per_step"] / 1e3 * sum(result["op_share"][op] for op in WEIGHT_OPS)
        report = self.reports[-1]
        unit = "bf16" if "bf16" in report["machine"]["isa"] else "fp32"
        return flops / seconds / (1e12 * report["probe"]["matrix_tflops"][unit])


@dataclass(frozen=True)
class Setting:
    """Flags of llama-bench, each with a value, and environment variables: "OMP_WAIT_POLICY=active -fa 1 -ub 256"."""

    env: dict[str, str]
    flags: dict[str, str]

    @staticmethod
    def parse(text: str) -> "Setting":
        words = text.split()
        env = dict(word.split("=", 1) for word in words if not word.startswith("-") and "=" in word)
        rest = [word for word in words if word.startswith("-") or "=" not in word]
        return Setting(env, dict(zip(rest[::2], rest[1::2], strict=True)))

    def with_(self, more: str) -> "Setting":
        other = Setting.parse(more)
        return Setting(self.env | other.env, self.flags | other.flags)

    def __str__(self) -> str:
        return " ".join([*(f"{k}={v}" for k, v in self.env.items()), *(f"{k} {v}" for k, v in self.flags.items())])


@dataclass
class Llama:
    """llama.cpp or ik_llama.cpp: its llama-bench, and llama-batched-bench beside it."""

    name: str
    program: Path  # llama-bench
    threads: int
    settings: dict[str, Setting]  # of each case
    no_warm_up: list[str]
    switches: dict[str, str]  # what llama-batched-bench takes as a switch, where llama-bench has a flag and 1
    built: str = ""  # what its JSON says of the build

    def version(self) -> str:
        """As version.txt beside the program says, else as the program itself does."""
        note = self.program.with_name("version.txt")
        if note.exists():
            return note.read_text(encoding="utf-8").strip()
        return f"{self.name} {self.built or 'of an unknown version'}"

    def bench(self, model: Path, case: str, prompt: str, tokens: int, *more: str) -> list[dict]:
        setting = self.settings[case]
        flags = [word for pair in setting.flags.items() for word in pair]
        text = run([self.program, "-m", model, "-t", self.threads, "-p", prompt, "-n", tokens, "-r", 1,
                    "-o", "json", *flags, *more], setting.env)
        start = text.find("[\n")  # ik_llama.cpp talks before and behind its JSON
        if start < 0:
            raise Broken("llama-bench printed no JSON", text)
        tests = json.JSONDecoder().raw_decode(text[start:])[0]
        self.built = f"{tests[0].get('build_commit', '')} ({tests[0].get('build_number', '')})"
        return tests

    def decode(self, model: Path, tokens: int, case: str) -> float:
        return self.bench(model, case, "0", tokens)[0]["avg_ts"]

    def prefill(self, model: Path, tokens: int) -> float:
        return self.bench(model, "prefill", str(tokens), 0)[0]["avg_ts"]

    def long_prefill(self, model: Path, tokens: int) -> float:
        """Warmed up by 512 tokens only: as many again would take as long as the run itself."""
        tests = self.bench(model, "long", f"512,{tokens}", 0, *self.no_warm_up)
        return next(test["avg_ts"] for test in tests if test["n_prompt"] == tokens)

    def decode_rows(self, model: Path, rows: list[int], tokens: int) -> tuple[dict[int, float], str]:
        """Tokens per second of all rows together, as far as it came, and what stopped it ("" if nothing did)."""
        setting, problem = self.settings["rows"], ""
        flags = [word for flag, value in setting.flags.items() for word in self.batched(flag, value)]
        context = -(-max(rows) * (tokens + ROWS_PROMPT) // 256) * 256
        try:
            said = run([self.program.with_name("llama-batched-bench"), "-m", model, "-t", self.threads, "-tb", self.threads,
                        "-c", context, "-npp", ROWS_PROMPT, "-ntg", tokens, "-npl", ",".join(map(str, rows)), *flags],
                       setting.env)
        except Broken as broken:
            problem, said = str(broken), broken.said
        rates = {}
        for line in said.splitlines():  # | PP | TG | B | N_KV | T_PP s | S_PP t/s | T_TG s | S_TG t/s | T s | S t/s |
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if len(cells) == 10 and cells[0].isdigit():
                rates[int(cells[2])] = float(cells[7])
        return rates, problem

    def batched(self, flag: str, value: str) -> list[str]:
        if flag in self.switches:
            return [self.switches[flag]] if value == "1" else []
        return ["--no-mmap"] if (flag, value) == ("-mmp", "0") else [flag, value]


class Server:
    """A script that keeps running, since importing, loading and compiling take far longer than a run. It gets a line of JSON for
    each run, and answers with one: first the versions of what it uses."""

    def __init__(self, python: Path, script: str, arguments: list, env: dict[str, str] | None = None):
        self.script = script
        command = [str(python), str(HERE / script), *map(str, arguments)]
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=os.environ | (env or {}))
        self.said: list[str] = []
        threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True).start()
        self.versions = self.answer()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise Broken(f"{self.script}: exit code {code}: {self.said[-1].strip()[:200] if self.said else ''}")
        return json.loads(line)

    def version(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.versions.items())

    def run(self, variant: str, threads: int, tokens: int, prompt: int = 0) -> float:
        """Tokens per second: of `tokens` decode steps, or of a prompt."""
        wish = {"variant": variant, "threads": threads, "tokens": tokens, "prompt": prompt}
        try:
            print(json.dumps(wish), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # the answer's end tells
        answer = self.answer()
        if "error" in answer:
            raise Broken(f"{variant}: {answer['error']}")
        return answer["tok_s"]

    def cpu_seconds(self) -> float:
        """Of all its threads so far."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
