#!/usr/bin/env python3
"""A random Qwen3.5 checkpoint of any shape, as a Hugging Face folder, as GGUF, or as both with the same numbers.

    tools/random_checkpoint.py OUT --seed 1                              OUT/config.json, OUT/model.safetensors
    tools/random_checkpoint.py OUT --seed 1 --shape 0.8b --format both   and OUT/model.gguf
    tools/random_checkpoint.py OUT --seed 1 --format both --gguf-type Q4_K --tokenizer models/demo/tokenizer.json

Weights are drawn so that activations keep their size from layer to layer. Seed and flags decide every byte. A type of
GGUF that loses something of --dtype (a quantized one, say) decides the numbers: the safetensors then hold in F32 what
PyPI's gguf makes of the blocks. Types that it can't quantize to get random blocks with scales of a realistic size.
"""

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path

import gguf
import numpy as np

from peers.random_weights import STORED, Checkpoint, Shape

SHAPES = {
    "tiny": dict(hidden=256, intermediate=512, vocab=384, layers=4, heads=4, kv_heads=2, head_dim=64,
                 key_heads=2, value_heads=4, key_dim=64, value_dim=64),
    "0.8b": dict(hidden=1024, intermediate=3584),
    "2b": dict(hidden=2048, intermediate=6144),
    "4b": dict(hidden=2560, intermediate=9216, layers=32, heads=16, kv_heads=4, value_heads=32),
}
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q4_K": 14, "Q5_K": 16,
              "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30, "BF16": 32}  # general.file_type; of Q4_K and Q5_K the kinds that mix in no other
ENDS = ("<|im_end|>", "<|endoftext|>")


class Streamed:
    """What GGUFWriter.write_tensor_data wants of an array, without there being one."""

    def __init__(self, nbytes: int, pieces):
        self.nbytes, self.pieces = nbytes, pieces

    def tofile(self, file) -> None:
        for piece in self.pieces:
            np.ascontiguousarray(piece).tofile(file)


def write_safetensors(checkpoint: Checkpoint, folder: Path, shards: int) -> None:
    """The library's own writer wants all tensors in memory at once."""
    sizes = {"F32": 4, "F16": 2, "BF16": 2}
    nbytes = {t.name: t.size * sizes[checkpoint.type_in_safetensors(t)] for t in checkpoint.tensors}
    total, before, parts = sum(nbytes.values()), 0, [[] for _ in range(max(1, shards))]
    for t in checkpoint.tensors:
        parts[before * len(parts) // total].append(t)
        before += nbytes[t.name]
    weight_map = {}
    for number, part in enumerate(parts):
        # Qwen3.5's own spelling.
        name = "model.safetensors" + (f"-{number + 1:05}-of-{len(parts):05}.safetensors" if shards else "")
        header, offset = {"__metadata__": {"format": "pt"}}, 0
        for t in part:
            end = offset + nbytes[t.name]
            header[t.name] = {"dtype": checkpoint.type_in_safetensors(t), "shape": t.shape, "data_offsets": [offset, end]}
            weight_map[t.name], offset = name, end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / name, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for t in part:
                Streamed(nbytes[t.name], checkpoint.in_safetensors(t)).tofile(file)
    if shards:
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def config(s: Shape, dtype: str, text_only: bool, ends: list[int]) -> dict:
    text = {
        "attention_bias": False, "attention_dropout": 0.0, "attn_output_gate": True, "dtype": STORED[dtype][1],
        "eos_token_id": ends, "full_attention_interval": s.interval,
        "head_dim": s.head_dim, "hidden_act": "silu", "hidden_size": s.hidden, "initializer_range": 0.02,
        "intermediate_size": s.intermediate,
        "layer_types": ["full_attention" if s.attends(i) else "linear_attention" for i in range(s.layers)],
        "linear_conv_kernel_dim": s.conv, "linear_key_head_dim": s.key_dim, "linear_num_key_heads": s.key_heads,
        "linear_num_value_heads": s.value_heads, "linear_value_head_dim": s.value_dim, "max_position_embeddings": 262144,
        "mlp_only_layers": [], "model_type": "qwen3_5_text", "mtp_num_hidden_layers": int(s.mtp),
        "mtp_use_dedicated_embeddings": False, "num_attention_heads": s.heads, "num_hidden_layers": s.layers,
        "num_key_value_heads": s.kv_heads, "rms_norm_eps": s.eps, "tie_word_embeddings": s.tied, "use_cache": True,
        "vocab_size": s.vocab, "mamba_ssm_dtype": "float32",
        "rope_parameters": {"mrope_interleaved": True, "mrope_section": s.mrope_section, "rope_type": "default",
                            "rope_theta": s.theta, "partial_rotary_factor": s.rotary},
    }
    if text_only:
        return {"architectures": ["Qwen3_5ForCausalLM"]} | text
    vision = {"deepstack_visual_indexes": [], "depth": 1, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 16,
              "in_channels": 3, "intermediate_size": 24, "model_type": "qwen3_5", "num_heads": 2,
              "num_position_embeddings": 16, "out_hidden_size": s.hidden, "patch_size": 2, "spatial_merge_size": 2,
              "temporal_patch_size": 2}
    return {"architectures": ["Qwen3_5ForConditionalGeneration"], "image_token_id": 248056, "model_type": "qwen3_5",
            "text_config": text, "tie_word_embeddings": s.tied, "video_token_id": 248057, "vision_config": vision,
            "vision_end_token_id": 248054, "vision_start_token_id": 248053}


def byte_alphabet() -> list[str]:
    """GPT-2's character for each byte: printable Latin-1 stands for itself, the rest follow from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = iter(range(0x100, 0x200))
    return [chr(byte if byte in plain else next(rest)) for byte in range(256)]


def token_table(tokenizer: Path | None) -> list[tuple[str, gguf.TokenType]]:
    """Text and kind of every token, as llama.cpp's converter writes them."""
    kinds = gguf.TokenType
    if tokenizer is None:
        texts = [*byte_alphabet(), "ĠĠ"]
        return [(t, kinds.NORMAL) for t in texts] + [(t, kinds.CONTROL) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    definition = json.loads(tokenizer.read_text(encoding="utf-8"))
    table = {i: (text, kinds.NORMAL) for text, i in definition["model"]["vocab"].items()}
    for token in definition["added_tokens"]:
        text = token["content"]
        special = token["special"] or text.startswith("<|") and text.endswith("|>")
        table[token["id"]] = (text, kinds.CONTROL if special else kinds.USER_DEFINED)
    return [table.get(i, (f"[PAD{i}]", kinds.UNUSED)) for i in range(max(table) + 1)]


def end_tokens(table, vocab: int, tokenizer: Path | None) -> list[int]:
    """The ids that both formats end at: of GGUF, sluice takes the one that the metadata states and those by name."""
    found = {i for i, (text, _) in enumerate(table) if text in ENDS and i < vocab}
    stated = gguf.SpecialVocab(tokenizer.parent).special_token_ids.get("eos") if tokenizer else None
    return sorted(found | ({stated} if stated is not None else set())) or [vocab - 1]


def add_tokenizer(writer: gguf.GGUFWriter, table, vocab: int, tokenizer: Path | None) -> None:
    padded = table + [(f"[PAD{i}]", gguf.TokenType.UNUSED) for i in range(len(table), vocab)]
    writer.add_tokenizer_model("gpt2")
    older = tokenizer is not None and r"\p{M}" not in tokenizer.read_text(encoding="utf-8").replace("\\\\", "\\")
    writer.add_tokenizer_pre("qwen2" if older else "qwen35")
    writer.add_token_list([text for text, _ in padded])
    writer.add_token_types([kind for _, kind in padded])
    if tokenizer is not None:
        special = gguf.SpecialVocab(tokenizer.parent, load_merges=True)
        special.special_token_ids.setdefault("eos", end_tokens(table, vocab, tokenizer)[-1])
        special.add_to_gguf(writer, quiet=True)
        return
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_eos_token_id(len(table) - 1)
    writer.add_pad_token_id(len(table) - 3)
    writer.add_add_bos_token(False)


def add_metadata(writer: gguf.GGUFWriter, s: Shape, gguf_type: str, list_layers: bool) -> None:
    writer.add_type("model")
    writer.add_name("Random")
    writer.add_file_type(FILE_TYPES[gguf_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(s.layers + s.mtp)
    writer.add_context_length(262144)
    writer.add_embedding_length(s.hidden)
    writer.add_feed_forward_length(s.intermediate)
    writer.add_head_count(s.heads)
    writer.add_head_count_kv(s.kv_heads)
    writer.add_key_length(s.head_dim)
    writer.add_value_length(s.head_dim)
    writer.add_layer_norm_rms_eps(s.eps)
    writer.add_rope_freq_base(s.theta)
    writer.add_rope_dimension_count(int(s.head_dim * s.rotary))
    writer.add_rope_dimension_sections([*s.mrope_section, 0])
    writer.add_full_attention_interval(s.interval)
    if list_layers:
        recurrent = [not s.attends(i) for i in range(s.layers)] + [False] * s.mtp
        writer.add_array("qwen35.attention.recurrent_layers", recurrent)
    writer.add_ssm_conv_kernel(s.conv)
    writer.add_ssm_state_size(s.key_dim)
    writer.add_ssm_group_count(s.key_heads)
    writer.add_ssm_time_step_rank(s.value_heads)
    writer.add_ssm_inner_size(s.value_heads * s.value_dim)
    if s.mtp:
        writer.add_nextn_predict_layers(1)


def write_gguf(checkpoint: Checkpoint, folder: Path, shards: int, table, options) -> None:
    per_part = -(-len(checkpoint.tensors) // shards) if shards else 0
    writer = gguf.GGUFWriter(folder / "model.gguf", "qwen35", split_max_tensors=per_part)
    add_metadata(writer, checkpoint.shape, options.gguf_type, options.list_layers)
    add_tokenizer(writer, table, checkpoint.shape.vocab, options.tokenizer)
    for t in checkpoint.tensors:
        kind = checkpoint.type_in_gguf(t)
        shape = (t.shape[0], t.shape[-1]) if t.change == "conv" else t.shape
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(t.gguf_name, shape, np.float32, t.size // elements * size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for t in checkpoint.tensors:
        elements, size = gguf.GGML_QUANT_SIZES[checkpoint.type_in_gguf(t)]
        writer.write_tensor_data(Streamed(t.size // elements * size, checkpoint.in_gguf(t)))
    writer.close()


def write_folder(checkpoint: Checkpoint, folder: Path, ends: list[int], options) -> None:
    write_json(folder / "config.json", config(checkpoint.shape, options.dtype, options.text_only, ends))
    if options.tokenizer:
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (options.tokenizer.parent / name).exists():
                shutil.copyfile(options.tokenizer.parent / name, folder / name)
        generation = options.tokenizer.parent / "generation_config.json"
        if generation.exists():
            settings = json.loads(generation.read_text(encoding="utf-8"))
            write_json(folder / generation.name, settings | {"eos_token_id": ends})
    write_safetensors(checkpoint, folder, options.shards)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder, made if need be")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    for field in dataclasses.fields(Shape):
        if field.type in (int, float):
            parser.add_argument("--" + field.name.replace("_", "-"), type=field.type, help="instead of the shape's")
    parser.add_argument("--untied", action="store_true", help="lm_head of its own")
    parser.add_argument("--mtp", action="store_true", help="with the head that predicts the token after next")
    parser.add_argument("--format", choices=("safetensors", "gguf", "both"), default="safetensors")
    parser.add_argument("--dtype", choices=STORED, default="bf16")
    parser.add_argument("--gguf-type", choices=FILE_TYPES, default="F32", help="of the matrices; the rest is F32")
    parser.add_argument("--shards", type=int, default=0, metavar="N", help="write N files of each format")
    parser.add_argument("--text-only", action="store_true", help="config and names without a vision part")
    parser.add_argument("--list-layers", action="store_true", help="name the recurrent layers in GGUF, as newer converters do")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="a tokenizer.json; files beside it come along")
    return parser


def main(argv: list[str] | None = None) -> int:
    flags = parser()
    options = flags.parse_args(argv)
    if options.shards < 0:
        flags.error("--shards must be at least 0")
    chosen = {k: v for k, v in vars(options).items() if v is not None and k in Shape.__dataclass_fields__}
    table = token_table(options.tokenizer)
    vocab = {"vocab": -(-len(table) // 64) * 64} if options.shape == "tiny" and options.tokenizer else {}
    shape = Shape(**(SHAPES[options.shape] | vocab | chosen | {"tied": not options.untied}))
    if shape.wrong():
        flags.error(shape.wrong())
    if len(table) > shape.vocab and (options.tokenizer or options.format != "safetensors"):
        flags.error(f"--vocab {shape.vocab} is too small: the tokenizer has {len(table)} tokens")
    prefix = "model." if options.text_only else "model.language_model."
    checkpoint = Checkpoint(shape, options.seed, options.dtype, options.gguf_type, prefix)
    uneven = checkpoint.not_in_blocks()
    if uneven:
        elements = gguf.GGML_QUANT_SIZES[checkpoint.gguf_type][0]
        flags.error(f"--gguf-type {options.gguf_type}: {uneven.gguf_name} has rows of {uneven.shape[1]}, which must be "
                    f"a multiple of {elements}")
    ends = end_tokens(table, shape.vocab, options.tokenizer)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.format != "gguf":
        write_folder(checkpoint, options.out, ends, options)
    if options.format != "safetensors":
        write_gguf(checkpoint, options.out, options.shards, table, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
