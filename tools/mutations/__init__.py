"""Mistakes made on purpose in the sources, for tools/mutation.py: each is one small edit that the tests must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Mutation:
    name: str
    trap: str  # the mistake in a few words; "§7.n" is docs/models.md's list of what went wrong elsewhere
    file: str  # below src/
    old: str  # occurs exactly once in the file
    new: str
    also: tuple[tuple[str, str], ...] = ()  # more edits (old, new) of the same file
    compile: tuple[str, ...] = ()  # for a header: the sources below src/ to recompile with it
    tests: tuple[str, ...] = ()  # the test programs expected to notice, most likely first; by folder if empty
    kernels: int = 0  # of a CUDA source: the architecture for which the kernels are compiled anew; the tests stay as they are
    entry: str = "cuda/device/mixed.cu"  # what is compiled then; decode's source is included
    filter: str = "*"  # of these, the tests that are run, as --gtest_filter takes them, without "-"

    @property
    def edits(self) -> tuple[tuple[str, str], ...]:
        return ((self.old, self.new), *self.also)

    @property
    def sources(self) -> tuple[str, ...]:
        return self.compile or (self.file,)

    @property
    def programs(self) -> tuple[str, ...]:
        folder = PurePosixPath(self.file).parts[0]
        return self.tests or {"oracle": ("test_oracle",), "model": ("test_model", "test_oracle")}[folder]


def exchange(name: str, trap: str, file: str, a: str, b: str) -> Mutation:
    """`a` and `b`, each once in the file, in each other's place."""
    return Mutation(name, trap, file, a, "@", also=((b, a), ("@", b)))


def edited(mutation: Mutation, text: str) -> str:
    """`text` with the edits made. Raises ValueError if one does not apply."""
    for old, new in mutation.edits:
        if old == new:
            raise ValueError(f"replaces by itself: {old!r}")
        if (count := text.count(old)) != 1:
            raise ValueError(f"occurs {count} times, not once: {old!r}")
        text = text.replace(old, new)
    return text
