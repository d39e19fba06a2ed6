#!/usr/bin/env python3
"""Reference data for GGUF: what the `gguf` package writes and dequantizes.

    tools/gguf_blocks_golden.py               write tests/golden-gguf/
    tools/gguf_blocks_golden.py --check       exit 1 if what is committed is not what would be written

blocks.gguf holds, for every quantized type, random blocks under the type's name, scales at the edges of fp16 among them,
and beside them NAME.f32, the fp32 that gguf.quants makes of them; and a key of every metadata type.
split-*.gguf is a file in three parts. hashes.json has a hash of the dequantization of many more blocks, whose bytes
are SplitMix64's (see `stream`). NaN is 0x7fc00000 everywhere.
"""

import argparse
import filecmp
import importlib.metadata
import json
import pathlib
import sys
import tempfile
import warnings

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType as Value

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden-gguf"
PINNED = "0.19.0"
SEED = 4
IN_CLEAR = 8
HASHED = 1024

# Where the fp16 scales of a block stand.
SCALES = {
    Type.Q8_0: [0],
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.IQ4_NL: [0],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
    Type.IQ4_XS: [0],
}
# 0, -0, the least and the greatest subnormal, the greatest number, infinity, NaN, 1.
EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0xFBFF, 0x7C00, 0x7E00, 0x3C00]


def stream(seed, n):
    """The first n bytes of SplitMix64 from `seed`, little-endian (Steele, Lea, Flood: Fast splittable
    pseudorandom number generators, 2014)."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, (n + 7) // 8 + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.frombuffer(z.astype("<u8").tobytes()[:n], dtype=np.uint8).copy()


def dequantize(blocks, kind):
    """fp32, every NaN the same."""
    values = np.ascontiguousarray(gguf.quants.dequantize(blocks, kind), dtype=np.float32)
    values.view(np.uint32)[np.isnan(values)] = 0x7FC00000
    return values


def fnv1a(words):
    """FNV-1a of 64 bits over 32-bit words."""
    value = 0xCBF29CE484222325
    for word in words.tolist():
        value = ((value ^ word) * 0x100000001B3) & (2**64 - 1)
    return f"{value:016x}"


def blocks_in_clear(kind):
    """Rows of two blocks; the first scale runs through EDGES, the second too, shifted, so that they meet in other pairs."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = stream(SEED * 1000 + kind, IN_CLEAR * size).reshape(IN_CLEAR, size)
    for i in range(IN_CLEAR):
        for k, place in enumerate(SCALES[kind]):
            edge = EDGES[(i + 3 * k) % len(EDGES)]
            blocks[i, place : place + 2] = [edge & 255, edge >> 8]
    return blocks.reshape(IN_CLEAR // 2, 2 * size)


def write_blocks(folder):
    writer = gguf.GGUFWriter(folder / "blocks.gguf", "test")
    for kind, number in [("UINT8", 200), ("INT8", -100), ("UINT16", 60000), ("INT16", -30000), ("UINT32", 4000000000),
                         ("INT32", -2000000000), ("UINT64", 2**64 - 1), ("INT64", -(2**63))]:
        writer.add_key_value(kind.lower(), number, Value[kind])
        writer.add_key_value(kind.lower() + "s", [number, 1, 2], Value.ARRAY, sub_type=Value[kind])
    for kind in ["FLOAT32", "FLOAT64"]:
        writer.add_key_value(kind.lower(), -0.15625, Value[kind])
        writer.add_key_value(kind.lower() + "s", [1.5, -2.0], Value.ARRAY, sub_type=Value[kind])
    writer.add_bool("bool", True)
    writer.add_key_value("bools", [True, False, True], Value.ARRAY, sub_type=Value.BOOL)
    writer.add_string("string", "Größe 🙂")
    writer.add_array("strings", ["a", "", "ÿ\n"])
    for kind in SCALES:
        blocks = blocks_in_clear(kind)
        writer.add_tensor(kind.name, blocks, raw_dtype=kind)
        writer.add_tensor(kind.name + ".f32", dequantize(blocks, kind))
    plain = np.arange(-6, 6, dtype=np.float32).reshape(2, 3, 2)
    writer.add_tensor("F16", plain.astype(np.float16))
    writer.add_tensor("BF16", gguf.quants.quantize(plain, Type.BF16), raw_dtype=Type.BF16)
    writer.add_tensor("F32", plain)
    writer.add_tensor("I32", plain.astype(np.int32))
    finish(writer)


def write_split(folder):
    writer = gguf.GGUFWriter(folder / "split.gguf", "test", split_max_tensors=2)
    writer.add_string("general.name", "in three parts")
    for i in range(5):
        writer.add_tensor(f"t{i}", np.full((2, i + 1), i, dtype=np.float32))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_hashes(folder):
    hashes = {}
    for kind in SCALES:
        size = gguf.GGML_QUANT_SIZES[kind][1]
        blocks = stream(int(kind), HASHED * size).reshape(HASHED, size)
        hashes[kind.name] = fnv1a(dequantize(blocks, kind).view(np.uint32).ravel())
    text = json.dumps({"gguf": PINNED, "blocks": HASHED, "fnv1a": hashes}, indent=1)
    (folder / "hashes.json").write_text(text + "\n")


def write_all(folder):
    folder.mkdir(exist_ok=True)
    write_blocks(folder)
    write_split(folder)
    write_hashes(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    found = importlib.metadata.version("gguf")
    if found != PINNED:
        sys.exit(f"gguf is {found}, the reference is made with {PINNED}: pip install gguf=={PINNED}")
    warnings.filterwarnings("ignore", category=RuntimeWarning)  # infinity times zero, and the like
    if not arguments.check:
        write_all(FOLDER)
        return
    with tempfile.TemporaryDirectory() as temporary:
        fresh = pathlib.Path(temporary)
        write_all(fresh)
        names = sorted({p.name for p in fresh.iterdir()} | {p.name for p in FOLDER.iterdir()})
        different = [n for n in names if not ((fresh / n).exists() and (FOLDER / n).exists()
                                              and filecmp.cmp(fresh / n, FOLDER / n, shallow=False))]
    if different:
        sys.exit("not as committed: " + ", ".join(different))
    print(f"{len(names)} files as committed")


if __name__ == "__main__":
    main()
