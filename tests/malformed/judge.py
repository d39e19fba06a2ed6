"""Gives malformed files to the program and judges what it does: one line, exit code 1, little time, little memory."""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import resource
import shutil
import subprocess
import tempfile
import unittest

from formats import tiny_config  # noqa: F401  (puts tests/cli on the path)
from harness import FAILED, GOOD, SLUICE, environment
from seeded import seeded

SANITIZED = bool(os.environ.get("SLUICE_SANITIZE"))
# Of CPU: a busy machine must not fail the test. That is what the program as users have it keeps to, and every release test run
# asks it of every case. The same work takes four to five times as long with sanitizers, so there the bound guards against
# what grows without limit, not against slowness.
SECONDS = 6.0 if SANITIZED else 1.0
HANGING = 20  # seconds of CPU after which the system ends a run

INSPECT = ("inspect", "{model}")
LOGITS = ("logits", "{model}", "--tokens", "1,2", "-o", "{folder}/out.npy")
TOKENIZE = ("tokenize", "{model}", "-p", "hi")
RUN = ("run", "{model}", "--raw", "--seed", "1", "-p", "a", "-n", "1")


@dataclasses.dataclass
class Case:
    """`files`: name -> bytes, in the model's folder; `command`: with {model} and {folder}; `mentions`: the error names at
    least one of these."""
    name: str
    files: dict
    command: tuple
    mentions: tuple
    model: str = "."
    code: int = FAILED
    more_bytes: int = 0  # that it may read besides its files


@dataclasses.dataclass
class Outcome:
    code: int
    output: str
    errors: str
    seconds: float
    bytes: int  # the most memory it held


def run(case):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-malformed-"))
    try:
        for name, data in case.files.items():
            (folder / name).write_bytes(data)
        command = [SLUICE, *(word.format(model=folder / case.model, folder=folder) for word in case.command)]
        with open(folder / "stdout", "w+b") as output, open(folder / "stderr", "w+b") as errors:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                                       env=environment())
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (HANGING, HANGING))
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            errors.seek(0)
            return Outcome(process.returncode, output.read().decode(errors="replace"),
                           errors.read().decode(errors="replace"), usage.ru_utime + usage.ru_stime,
                           usage.ru_maxrss << 10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def memory_bound(case):
    """A process's peak counts what its parent held when it started it. Beyond that: the program itself (8 MB; 25 with
    sanitizers), and 60 bytes for each byte of its files: two bytes of JSON ("1,") become a node of a hundred. Sanitizers
    hold freed memory back: three times that."""
    parent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    own = (64 if SANITIZED else 24) << 20
    per_byte = 180 if SANITIZED else 60
    return max(parent, own) + own + per_byte * sum(map(len, case.files.values())) + 4 * case.more_bytes


def complaints(case, outcome):
    if outcome.code != case.code:
        yield f"exit code {outcome.code}, expected {case.code}"
    if outcome.output:
        yield "something on standard output: " + outcome.output[:200]
    if not re.fullmatch(r"sluice: error: [^\n]+\n", outcome.errors):
        yield "not one line on standard error"
    if not any(word in outcome.errors for word in case.mentions):
        yield f"the message names none of {case.mentions}"
    if outcome.seconds > SECONDS:
        yield f"{outcome.seconds:.2f} s of CPU"
    if outcome.bytes > memory_bound(case):
        yield f"{outcome.bytes >> 20} MiB, at most {memory_bound(case) >> 20} expected"


class MalformedTest(unittest.TestCase):
    def setUp(self):
        self.rng = seeded(self.id())

    def in_parallel(self, cases):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return zip(cases, pool.map(run, cases))

    def accept(self, cases):
        """The sound ones first: a case is worth something only if nothing else is wrong with its files."""
        for case, outcome in self.in_parallel(cases):
            with self.subTest(case.name):
                self.assertEqual(outcome.code, GOOD, outcome.errors)

    def refuse(self, cases):
        cases = list(cases)
        if SANITIZED:  # where a run takes ten times as long, half of them, others each time
            cases = self.rng.sample(cases, (len(cases) + 1) // 2)
        slowest, largest = 0.0, 0
        for case, outcome in self.in_parallel(cases):
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.bytes)
            with self.subTest(case.name):
                wrong = list(complaints(case, outcome))
                if wrong and outcome.seconds > SECONDS:  # a neighbour may have had the caches: once more
                    wrong = list(complaints(case, run(case)))
                self.assertFalse(wrong, f"{wrong}: {outcome.errors[:600]}")
        print(f"{len(cases)} malformed inputs, at most {slowest:.2f} s of CPU and {largest >> 20} MiB")
