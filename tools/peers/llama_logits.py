"""Logits of random checkpoints: llama.cpp reads the F32 GGUF, sluice the safetensors (and the GGUF, see formats.py)."""

import subprocess

import numpy as np

from peers.common import Peers, relative_rms

# Over all rows of a checkpoint, so that one row of the 259 may be 1.6e-4 off: in a first row the delta rule's output is
# (k·q) β v, normed, and where k·q happens to be small its rounding is all that one sees. Most of the rest is sluice's
# oracle, which adds up products one after the other in fp32: see docs/peers.md.
TOLERANCE = 1e-5

VOCAB = 384
LENGTHS = (1, 2, 7, 64, 65, 100, -20)  # a minus: token by token
CASES = {
    "1 V head per K head": ("--value-heads", "2", "--list-layers"),
    "2, untied, MTP": ("--value-heads", "4", "--untied", "--mtp"),
    "3, one layer in three attends": ("--value-heads", "6", "--layers", "6", "--interval", "3"),
    "2, narrow": ("--hidden", "96", "--intermediate", "160", "--heads", "6", "--kv-heads", "2", "--head-dim", "32",
                  "--key-heads", "3", "--value-heads", "6", "--key-dim", "32", "--value-dim", "32", "--untied"),
    "1, attention and delta heads as published": (
        "--hidden", "128", "--heads", "2", "--kv-heads", "1", "--head-dim", "256", "--key-heads", "2", "--value-heads", "2",
        "--key-dim", "128", "--value-dim", "128"),
    "3, all rotary, F32 weights": ("--value-heads", "6", "--rotary", "1", "--theta", "10000", "--dtype", "f32"),
}


def prompts(peers: Peers, name: str) -> list[list[int]]:
    rng = peers.random(name)
    return [[rng.randrange(VOCAB) for _ in range(abs(length))] for length in LENGTHS]


def llama_logits(peers: Peers, model, tokens: list[list[int]]) -> list[np.ndarray]:
    """[T, vocab] of each prompt."""
    out = peers.folder / "llama.bin"
    ids = " ".join(str(token) for prompt in tokens for token in prompt)
    command = [peers.llama_peer, "logits", model, out, *map(str, LENGTHS)]
    subprocess.run(command, input=ids, text=True, check=True)
    rows = np.fromfile(out, np.float32).reshape(-1, VOCAB)
    return np.split(rows, np.cumsum([len(prompt) for prompt in tokens])[:-1])


def run(peers: Peers) -> None:
    for number, (name, flags) in enumerate(CASES.items()):
        folder = peers.checkpoint(f"llama{number}", "--format", "both", "--vocab", str(VOCAB), *flags)
        tokens = prompts(peers, name)
        theirs = llama_logits(peers, folder / "model.gguf", tokens)
        ours = [peers.logits(folder, prompt) for prompt in tokens]
        whole = relative_rms(np.concatenate(theirs), np.concatenate(ours))
        row = max(relative_rms(a, b) for x, y in zip(theirs, ours) for a, b in zip(x, y))
        peers.check(whole <= TOLERANCE,
                    f"{name}: relative rms {whole:.1e} over {sum(map(len, tokens))} rows, worst row {row:.1e}")
