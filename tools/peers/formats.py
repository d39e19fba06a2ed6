"""The same checkpoint through both formats: logits, and token ids."""

import json

import gguf
import numpy as np
import safetensors

from peers.common import TOOLS, Peers, relative_rms

# GGUF stores -exp(A_log) in fp32, so that a decay may differ by its last bit; all else is the same numbers.
TOLERANCE = 1e-6
TOKENIZER = TOOLS.parent / "models" / "demo" / "tokenizer.json"
CASES = {
    "F32": ("--mtp", "--untied"),
    "BF16": ("--gguf-type", "BF16", "--key-heads", "4", "--shards", "3"),
    "F16 of fp32": ("--gguf-type", "F16", "--dtype", "f32", "--text-only", "--list-layers"),
    "BF16, narrow, heads of two sizes": ("--gguf-type", "BF16", "--hidden", "80", "--intermediate", "72", "--value-heads", "6",
                                         "--key-dim", "20", "--value-dim", "12"),
} | {kind: ("--gguf-type", kind, "--value-heads", "8") for kind in (
    "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")}


def gguf_of(folder):
    return min(folder.glob("*.gguf"))


def stored_tensors(folder) -> int:
    """Opened with the library that defines the format; a header of ours that it dislikes ends here."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with safetensors.safe_open(path, "numpy") as file:
            count += len(file.keys())
    return count


def logits(peers: Peers) -> None:
    for number, (name, flags) in enumerate(CASES.items()):
        folder = peers.checkpoint(f"formats{number}", "--format", "both", *flags)
        parts = sorted(folder.glob("*.gguf"))
        if stored_tensors(folder) != sum(len(gguf.GGUFReader(part).tensors) for part in parts):
            raise RuntimeError(f"{name}: the two formats hold different numbers of tensors")
        rng = peers.random(name)
        tokens = [rng.randrange(384) for _ in range(rng.randint(1, 100))]
        ours, theirs = peers.logits(folder, tokens), peers.logits(parts[0], tokens)
        error = relative_rms(theirs, ours)
        peers.check(error <= TOLERANCE, f"{name}: relative rms {error:.1e} over {len(tokens)} rows")


def token_ids(peers: Peers) -> None:
    """The demo's tokenizer out of tokenizer.json and out of a GGUF file; texts from the demo's own held-out set."""
    folder = peers.checkpoint("tokens", "--format", "both", "--layers", "4", "--tokenizer", str(TOKENIZER))
    text = (TOKENIZER.parent / "heldout.txt").read_text(encoding="utf-8")
    text += "".join(token["content"] + " x" for token in json.loads(TOKENIZER.read_text(encoding="utf-8"))["added_tokens"])
    (peers.folder / "text.txt").write_text(text, encoding="utf-8")
    ids = [peers.sluice("tokenize", model, "-f", peers.folder / "text.txt").split() for model in (folder, gguf_of(folder))]
    peers.check(ids[0] == ids[1] and len(ids[0]) > 500, f"token ids of a text: {len(ids[0])} and {len(ids[1])}, "
                f"{sum(a != b for a, b in zip(*ids))} differ")


def run(peers: Peers) -> None:
    logits(peers)
    token_ids(peers)
