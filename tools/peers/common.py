"""What the comparisons share: random checkpoints, the program's logits, how far apart two sets of logits are."""

import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

TOOLS = Path(__file__).resolve().parent.parent


@dataclass
class Peers:
    """One run of all comparisons. A comparison prints its figures and appends what is wrong to `failures`."""

    build: Path  # the build tree that is compared
    folder: Path  # for what a comparison writes
    seed: int
    llama_source: Path | None = None  # a source tree of llama.cpp with a build in it
    llama_peer: Path | None = None  # llama_peer.cpp, compiled against it
    failures: list[str] = field(default_factory=list)

    def random(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")

    def check(self, good: bool, text: str) -> None:
        print(f"  {text}{'' if good else '  WRONG'}", flush=True)
        if not good:
            self.failures.append(text)

    def checkpoint(self, name: str, *flags: str) -> Path:
        """A folder by that name; the flags are random_checkpoint.py's."""
        out = self.folder / name
        command = [sys.executable, TOOLS / "random_checkpoint.py", out, "--seed", str(self.seed), *flags]
        subprocess.run(command, check=True)
        return out

    def sluice(self, *arguments) -> str:
        run = subprocess.run([self.build / "sluice", *map(str, arguments)], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise RuntimeError(f"sluice {' '.join(map(str, arguments))[:200]}: {run.stderr.strip()}")
        return run.stdout

    def logits(self, model: Path, tokens: list[int]) -> np.ndarray:
        """[T, vocab], as `sluice logits` gives them in fp32: other devices round as the stored type allows."""
        out = self.folder / "logits.npy"
        self.sluice("logits", model, "--device", "oracle", "--tokens", ",".join(map(str, tokens)), "-o", out)
        return np.load(out)


def relative_rms(got: np.ndarray, want: np.ndarray) -> float:
    """‖got − want‖ ÷ ‖want‖ over all elements."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.sqrt(np.sum((got - want) ** 2) / np.sum(want**2)))
