#!/usr/bin/env python3
"""Shows that the tests bite: makes known mistakes in the sources, one at a time, and expects a test to fail for each.

  mutation.py [--jobs N] [--only NAME]... [--list] [--check]

Copies the working tree to build-mutation/tree and builds the tests there; the copy's sources stay as they are. A
mutant is its edited file, compiled by itself and linked before the libraries, so it takes a test program's place of
the original. Exit code 1 if a mutant survives, an edit does not apply any more, or a mutant does not compile.

Mutation tools (Mull, Dextool, universalmutator) make generic mistakes by the thousand, an operator or a constant
each. The ones listed in tools/mutations are those that people have made with these models; no generator knows them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mutations import Mutation, cpu, cuda_decode, cuda_mixed, edited, gguf, oracle, screening, tokenizer, weights

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build-mutation" / "tree"
BUILD = ROOT / "build-mutation" / "build"
MUTANTS = ROOT / "build-mutation" / "mutants"
MUTATIONS = [*oracle.MUTATIONS, *weights.MUTATIONS, *gguf.MUTATIONS, *tokenizer.MUTATIONS, *cpu.MUTATIONS,
             *screening.MUTATIONS, *cuda_decode.MUTATIONS, *cuda_mixed.MUTATIONS]
MEMORY = 8 << 30  # bytes of address space for a mutant that allocates without end
MIN_TIMEOUT = 60  # seconds; or ten times what the unmutated program takes
SEED = 20261122
TIMED = ":".join(["Gguf.ALongVocabularyIsReadAtOnce", "HostileGguf.ManyKeysOrTensorsTakeNoTime",
                  "HostileGguf.ATerabyteOfNothingIsRefusedAtOnce", "Tokenizer.LongRunsOfOneKindTakeLinearTime"])


class Invalid(Exception):
    """The mutation itself is wrong, not the tests."""


@dataclass
class Outcome:
    mutation: Mutation
    verdict: str  # killed, SURVIVED, INVALID
    by: str
    seconds: float

    def line(self) -> str:
        return f"{self.verdict:8}  {self.mutation.name:44} {self.seconds:5.1f} s  {self.by}"


def update_tree() -> None:
    """Makes the copy equal to the working tree; files that are equal keep their times, so little is rebuilt."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.split("\n")
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    for path in [path for path in TREE.rglob("*") if path.is_file()]:
        if path.relative_to(TREE).as_posix() not in wanted:
            path.unlink()
    for name in sorted(wanted):
        data, copy = (ROOT / name).read_bytes(), TREE / name
        if not copy.is_file() or copy.read_bytes() != data:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)


def run(command: list[str] | str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, errors="replace",
                          shell=isinstance(command, str), cwd=BUILD, **options)


def build(programs: list[str], jobs: int) -> None:
    configure = ["cmake", "-S", str(TREE), "-B", str(BUILD), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                 "-DCMAKE_CXX_FLAGS_RELEASE=-O1", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DSLUICE_WERROR=OFF",
                 "-DSLUICE_CUDA_SASS="]
    if shutil.which("ccache"):
        configure.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
    if "CXX" not in os.environ and shutil.which("clang++-19"):
        configure.append("-DCMAKE_CXX_COMPILER=clang++-19")  # compiles faster than GCC
    BUILD.mkdir(parents=True, exist_ok=True)
    for command in (configure, ["ninja", f"-j{jobs}", *(f"tests/{program}" for program in programs)]):
        result = run(command)
        if result.returncode != 0:
            sys.exit(f"{' '.join(command[:2])} failed:\n{result.stdout[-4000:]}{result.stderr[-4000:]}")


def compile_commands() -> dict[str, list[str]]:
    """The compiler's arguments by source file below src/."""
    commands = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        file = Path(entry["file"])
        if file.is_relative_to(TREE / "src"):
            commands[file.relative_to(TREE / "src").as_posix()] = shlex.split(entry["command"])
    return commands


def link_command(program: str) -> list[str]:
    """The linker's arguments for a test program, out of the line `: && LINK && : && AFTERWARDS`."""
    lines = run(["ninja", "-t", "commands", f"tests/{program}"]).stdout.splitlines()
    parts = [part for line in lines for part in line.split(" && ") if f" -o tests/{program} " in part]
    return shlex.split(parts[-1])


def replace_output(arguments: list[str], output: Path) -> list[str]:
    at = arguments.index("-o") + 1
    return [*arguments[:at], str(output), *arguments[at + 1:]]


@dataclass
class Tester:
    compilers: dict[str, list[str]]  # by source file
    linkers: dict[str, list[str]]  # by test program
    timeouts: dict[str, float]  # seconds, by test program

    def mutant(self, mutation: Mutation, folder: Path) -> Path:
        """The edited file, below folder/src."""
        original = TREE / "src" / mutation.file
        if not original.is_file():
            raise Invalid(f"there is no src/{mutation.file}")
        try:
            text = edited(mutation, original.read_text())
        except ValueError as error:
            raise Invalid(f"src/{mutation.file}: {error}") from None
        mutant = folder / "src" / mutation.file
        mutant.parent.mkdir(parents=True)
        mutant.write_text(text)
        return mutant

    def objects(self, mutation: Mutation, folder: Path) -> list[str]:
        """Compiles what the mutation changes; the object files."""
        mutant = self.mutant(mutation, folder)
        objects = []
        for source in mutation.sources:
            command = replace_output(self.compilers[source], folder / f"{Path(source).stem}.o")
            at = command.index("-c") + 1
            if source == mutation.file:
                command[at] = str(mutant)
            # A mutated header is found before the original one. Mutants may well deserve warnings.
            options = next(i for i, argument in enumerate(command) if argument.startswith("-"))
            result = run([*command[:options], f"-I{folder / 'src'}", *command[options:], "-w"])
            if result.returncode != 0:
                errors = re.findall(r"error: .*", result.stderr) or [result.stderr[-300:]]
                raise Invalid(f"does not compile: {errors[0]}")
            objects.append(str(folder / f"{Path(source).stem}.o"))
        return objects

    def compile_kernels(self, mutation: Mutation, folder: Path) -> None:
        """PTX of the edited CUDA sources, which the tests take from SLUICE_KERNELS."""
        self.mutant(mutation, folder)
        nvcc = run([str(ROOT / "tools" / "get_nvcc.sh")]).stdout.strip()
        source = next(path for root in (folder, TREE) if (path := root / "src" / mutation.entry).is_file())
        result = run([nvcc, "-std=c++20", "-O3", "-lineinfo", "--fmad=false", "-DNDEBUG", f"-I{folder / 'src'}",
                      f"-I{TREE / 'src'}", f"-arch=compute_{mutation.kernels}", "-ptx", str(source), "-o",
                      str(folder / f"kernels.{mutation.kernels}.ptx")])
        if result.returncode != 0:
            errors = re.findall(r"error: .*", result.stderr) or [result.stderr[-300:]]
            raise Invalid(f"does not compile: {errors[0]}")

    def linked(self, program: str, objects: list[str], folder: Path) -> Path:
        command = replace_output(self.linkers[program], folder / program)
        first = next(i for i, argument in enumerate(command) if argument.endswith(".o"))
        result = run([*command[:first], *objects, *command[first:]])
        if result.returncode != 0:
            raise Invalid(f"does not link: {result.stderr[-300:]}")
        return folder / program

    def killer(self, mutation: Mutation, folder: Path) -> str | None:
        """The test that fails; None if all pass."""
        kernels = folder if mutation.kernels else None
        if kernels:
            self.compile_kernels(mutation, folder)
        else:
            objects = self.objects(mutation, folder)
        for program in mutation.programs:
            mutant = BUILD / "tests" / program if kernels else self.linked(program, objects, folder)
            # A busy machine or an unlucky draw can fail a test, but not the same one again with the same seed while the
            # unmutated program passes it.
            for seed in (SEED, SEED + 1, SEED + 2):
                test = failing_test(mutant, self.timeouts[program], seed, mutation.filter, kernels)
                if not test:
                    break
                if (failing_test(mutant, self.timeouts[program], seed, test, kernels)
                        and not failing_test(BUILD / "tests" / program, self.timeouts[program], seed, test)):
                    return f"{program} {test} (SLUICE_TEST_SEED={seed})"
        return None

    def judge(self, mutation: Mutation) -> Outcome:
        start = time.monotonic()
        folder = MUTANTS / mutation.name
        shutil.rmtree(folder, ignore_errors=True)
        try:
            by = self.killer(mutation, folder)
            verdict = "killed" if by else "SURVIVED"
        except Invalid as error:
            verdict, by = "INVALID", str(error)
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(mutation, verdict, by or mutation.trap, time.monotonic() - start)


def failing_test(program: Path, timeout: float, seed: int, tests: str, kernels: Path | None = None) -> str | None:
    """The first of these tests of `program` that fails, crashes or runs into the time limit; None if all pass."""
    command = [str(program), "--gtest_fail_fast", "--gtest_color=no", "--gtest_print_time=0",
               f"--gtest_filter={tests}:-{TIMED}"]
    started = re.compile(r"^\[ RUN      \] (\S+)", re.MULTILINE)
    environment = {**os.environ, "SLUICE_TEST_SEED": str(seed)}
    if kernels:
        environment["SLUICE_KERNELS"] = str(kernels)
    try:
        result = run(command, timeout=timeout, env=environment)
    except subprocess.TimeoutExpired as expired:
        running = started.findall((expired.stdout or b"").decode(errors="replace"))
        return running[-1] if running else "*"
    if result.returncode == 0:
        return None
    failed = re.findall(r"^\[  FAILED  \] ([^\s,]+)", result.stdout, re.MULTILINE)
    running = started.findall(result.stdout)
    return failed[0] if failed else running[-1] if running else "*"


def tester(programs: list[str], mutations: list[Mutation]) -> Tester:
    """Times the unmutated tests, which must pass."""
    timeouts = {}
    for program in programs:
        start = time.monotonic()
        tests = ":".join(sorted({mutation.filter for mutation in mutations if program in mutation.programs}))
        failure = failing_test(BUILD / "tests" / program, 600, SEED, tests)
        if failure:
            sys.exit(f"{program} fails without a mutation: {failure}")
        timeouts[program] = max(MIN_TIMEOUT, 10 * (time.monotonic() - start))
    return Tester(compile_commands(), {program: link_command(program) for program in programs}, timeouts)


def selected(names: list[str]) -> list[Mutation]:
    known = [mutation.name for mutation in MUTATIONS]
    doubled = {name for name in known if known.count(name) > 1}
    if doubled:
        sys.exit(f"names given twice: {', '.join(sorted(doubled))}")
    if unknown := set(names) - set(known):
        sys.exit(f"no mutation named {', '.join(sorted(unknown))}; --list shows them")
    return [mutation for mutation in MUTATIONS if not names or mutation.name in names]


def stale(mutations: list[Mutation]) -> list[str]:
    """Those whose edits don't apply to the working tree any more."""
    problems = []
    for mutation in mutations:
        try:
            edited(mutation, (ROOT / "src" / mutation.file).read_text())
        except (OSError, ValueError) as error:
            problems.append(f"{mutation.name}: src/{mutation.file}: {error}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this mutation; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the mutations and do nothing")
    parser.add_argument("--check", action="store_true", help="see whether all edits apply to the sources, and no more")
    options = parser.parse_args()
    mutations = selected(options.only)
    if options.list:
        for mutation in mutations:
            print(f"{mutation.name:44} {mutation.file:28} {mutation.trap}")
        return 0
    if options.check:
        problems = stale(mutations)
        print("\n".join([*problems, f"{len(mutations) - len(problems)} of {len(mutations)} mutations apply"]))
        return 1 if problems else 0

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["CCACHE_BASEDIR"] = str(TREE)
    start = time.monotonic()
    programs = sorted({program for mutation in mutations for program in mutation.programs})
    TREE.mkdir(parents=True, exist_ok=True)
    update_tree()
    build(programs, options.jobs)
    test = tester(programs, mutations)
    print(f"built, and unmutated {', '.join(programs)} pass: {time.monotonic() - start:.0f} s", flush=True)

    outcomes = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(test.judge, mutations):
            print(outcome.line(), flush=True)
            outcomes.append(outcome)
    bad = [outcome for outcome in outcomes if outcome.verdict != "killed"]
    print(f"{len(outcomes) - len(bad)} of {len(outcomes)} mutants killed in {time.monotonic() - start:.0f} s")
    for outcome in bad:
        print(outcome.line())
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
