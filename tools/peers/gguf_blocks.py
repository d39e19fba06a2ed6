"""Quantized tensors: what `sluice inspect --tensor` gives is, bit for bit, PyPI gguf's dequantization of random bytes."""

import gguf
import numpy as np

from peers.common import Peers

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
# Where the fp16 numbers of a block lie (ggml-common.h). Plain types consist of nothing else.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}
NAMES = ("token_embd.weight", "blk.0.attn_qkv.weight", "blk.0.ssm_out.weight", "blk.3.attn_q.weight", "blk.3.ffn_down.weight")


def random_bytes(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Blocks of any bytes at all, but for scales of infinity and NaN, which sluice refuses."""
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
    made = rng.integers(0, 256, shape, np.uint8).reshape(-1, size)
    halves = SCALES.get(kind, [0])
    for at in halves:  # where the exponent might be full, its highest bit is cleared; it is 0x40 of the last byte everywhere
        last = at + 1 if kind != "F32" else 3
        exponent = 0x7C if kind not in ("F32", "BF16") else 0x7F
        full = made[:, last] & exponent == exponent
        made[full, last] &= 0xBF
    return made.reshape(shape)


def run(peers: Peers) -> None:
    rng = np.random.default_rng(peers.seed)
    for kind in TYPES:
        folder = peers.checkpoint(f"blocks-{kind}", "--format", "gguf", "--gguf-type", kind)
        model = folder / "model.gguf"
        different = elements = 0
        reader = gguf.GGUFReader(model, "r+")
        for tensor in reader.tensors:
            if tensor.name in NAMES:
                raw = tensor.data.view(np.uint8)
                raw[:] = random_bytes(rng, kind, raw.shape)
        for tensor in reader.tensors:
            if tensor.name not in NAMES:
                continue
            out = peers.folder / "tensor.npy"
            peers.sluice("inspect", model, "--tensor", tensor.name, "-o", out)
            ours, theirs = np.load(out), gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            if ours.shape != theirs.shape or ours.dtype != np.float32:
                raise RuntimeError(f"{kind} {tensor.name}: {ours.dtype}{ours.shape}, not float32{theirs.shape}")
            different += int(np.sum(ours.view(np.uint32) != np.ascontiguousarray(theirs).view(np.uint32)))
            elements += ours.size
        peers.check(different == 0, f"{kind}: {different} of {elements} elements differ")
