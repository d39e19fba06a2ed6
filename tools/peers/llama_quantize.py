"""GGUF files that llama.cpp quantized: sluice's logits are those of an F32 GGUF with PyPI gguf's dequantization."""

import subprocess
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from peers.common import Peers, relative_rms
from random_checkpoint import FILE_TYPES

TYPES = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
TOLERANCE = 1e-6


def dequantized_copy(model: Path, out: Path) -> set[str]:
    """Writes the same metadata and F32 tensors to `out`; gives the types that there were."""
    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(out, "qwen35")
    for name, item in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = item.types[0]
        writer.add_key_value(name, item.contents(), kind, item.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {tensor.tensor_type.name for tensor in reader.tensors}


def run(peers: Peers) -> None:
    source = peers.checkpoint("quantize", "--format", "gguf", "--key-heads", "1") / "model.gguf"
    for kind in TYPES:
        quantized, plain = peers.folder / "quantized.gguf", peers.folder / "plain.gguf"
        command = [peers.llama_peer, "quantize", source, quantized, str(FILE_TYPES[kind]), str(Type[kind].value)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        types = dequantized_copy(quantized, plain)
        if kind not in types:
            raise RuntimeError(f"llama.cpp made {sorted(types)} of it, not {kind}")
        rng = peers.random(kind)
        tokens = [rng.randrange(384) for _ in range(rng.randint(1, 60))]
        error = relative_rms(peers.logits(quantized, tokens), peers.logits(plain, tokens))
        peers.check(error <= TOLERANCE, f"{', '.join(sorted(types))}: relative rms {error:.1e} over {len(tokens)} rows")
