"""Small checkpoints in both formats, as data that a test can spoil before it is written. Standard library only."""

import json
import random
import struct
import sys
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "cli"))
from harness import SPECIAL, TAGS, byte_tokenizer, config_json, tensor_shapes  # noqa: E402

WIDTH = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "F64": 8, "I64": 8, "BOOL": 1}


def product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


def tiny_config(**changes):
    """A config.json of two layers, as small as a text tokenizer of bytes allows."""
    small = {"vocab_size": 272, "hidden_size": 8, "intermediate_size": 8, "linear_num_key_heads": 1,
             "linear_num_value_heads": 2, "linear_key_head_dim": 4, "linear_value_head_dim": 4,
             "num_attention_heads": 2, "max_position_embeddings": 512}
    return config_json(**(small | changes))


# --- safetensors --------------------------------------------------------------------------------------------------


def numbers(rng, dtype, count):
    """Bytes of `count` small finite values."""
    if dtype == "F32":
        return struct.pack(f"<{count}f", *(rng.uniform(-0.2, 0.2) for _ in range(count)))
    if dtype == "F16":
        return struct.pack(f"<{count}e", *(rng.uniform(-0.2, 0.2) for _ in range(count)))
    return b"".join(struct.pack("<f", rng.uniform(-0.2, 0.2))[2:] for _ in range(count))


def tiny_tensors(config, seed=1):
    """name -> [dtype, shape, bytes]"""
    rng = random.Random(seed)
    return {name: [dtype, list(shape), numbers(rng, dtype, product(shape))]
            for name, (dtype, shape) in tensor_shapes(config).items()}


def safetensors_header(tensors):
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    return header


def safetensors_bytes(tensors, header=None, text=None, length=None, data=None):
    """A file of `tensors`; any part may be given instead of what it should be."""
    if text is None:
        text = json.dumps(safetensors_header(tensors) if header is None else header).encode()
        text += b" " * (-len(text) % 8)
    if data is None:
        data = b"".join(data for _, _, data in tensors.values())
    return struct.pack("<Q", len(text) if length is None else length) + text + data


# --- GGUF ---------------------------------------------------------------------------------------------------------

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACKING = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}

# ggml's number, elements and bytes of a block, and where in it fp16 scales stand.
GGML = {"F32": (0, 1, 4, ()), "F16": (1, 1, 2, ()), "BF16": (30, 1, 2, ()), "Q4_0": (2, 32, 18, (0,)),
        "Q4_1": (3, 32, 20, (0, 2)), "Q5_0": (6, 32, 22, (0,)), "Q5_1": (7, 32, 24, (0, 2)), "Q8_0": (8, 32, 34, (0,)),
        "Q4_K": (12, 256, 144, (0, 2)), "Q5_K": (13, 256, 176, (0, 2)), "Q6_K": (14, 256, 210, (208,)),
        "IQ4_NL": (20, 32, 18, (0,)), "IQ4_XS": (23, 256, 136, (0,))}


def gguf_string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_scalar(kind, value):
    return gguf_string(value) if kind == STRING else struct.pack("<" + PACKING[kind], value)


def gguf_array(kind, values):
    return struct.pack("<IQ", kind, len(values)) + b"".join(gguf_scalar(kind, value) for value in values)


class Gguf:
    """`keys`: [name, type, bytes of the value]; `tensors`: [name, GGUF dimensions, type's number, data, offset or None
    for the place where it belongs]."""

    def __init__(self, keys, tensors, version=3, alignment=32):
        self.keys, self.tensors, self.version, self.alignment = keys, tensors, version, alignment
        self.magic, self.n_tensors, self.n_keys = b"GGUF", None, None

    def key(self, name):
        return next(entry for entry in self.keys if entry[0] == name)

    def tensor(self, name):
        return next(entry for entry in self.tensors if entry[0] == name)

    def bytes(self, boundaries=None):
        """`boundaries`, if given, receives the offsets at which something ends."""
        parts, at = [], 0

        def add(data):
            nonlocal at
            parts.append(data)
            at += len(data)
            if boundaries is not None:
                boundaries.append(at)

        add(self.magic)
        add(struct.pack("<I", self.version))
        add(struct.pack("<Q", len(self.tensors) if self.n_tensors is None else self.n_tensors))
        add(struct.pack("<Q", len(self.keys) if self.n_keys is None else self.n_keys))
        for name, kind, value in self.keys:
            add(gguf_string(name))
            add(struct.pack("<I", kind))
            add(value)
        offset = 0
        for name, dimensions, kind, data, given in self.tensors:
            add(gguf_string(name))
            add(struct.pack("<I", len(dimensions)) + struct.pack(f"<{len(dimensions)}Q", *dimensions))
            add(struct.pack("<I", kind))
            add(struct.pack("<Q", offset if given is None else given))
            offset += len(data) + -len(data) % self.alignment
        add(b"\0" * (-at % self.alignment))
        for _, _, _, data, _ in self.tensors:
            add(data)
            add(b"\0" * (-len(data) % self.alignment))
        return b"".join(parts)


def blocks(rng, kind, count):
    """Bytes of `count` elements with small scales."""
    if kind in ("F32", "F16", "BF16"):
        return numbers(rng, kind, count)
    _, elements, size, scales = GGML[kind]
    data = bytearray()
    for _ in range(count // elements):
        block = bytearray(rng.randbytes(size))
        for at in scales:
            block[at : at + 2] = struct.pack("<e", rng.uniform(0.001, 0.01))
        data += block
    return bytes(data)


def gguf_keys(config, tokenizer=True):
    name = "qwen35."
    value_width = config["linear_num_value_heads"] * config["linear_value_head_dim"]
    rope = config["rope_parameters"]
    rotary = int(config["head_dim"] * rope["partial_rotary_factor"])
    keys = [["general.architecture", STRING, gguf_string("qwen35")], ["general.name", STRING, gguf_string("tiny")],
            ["general.file_type", U32, struct.pack("<I", 0)]]

    def count(key, value):
        keys.append([name + key, U32, struct.pack("<I", value)])

    count("block_count", config["num_hidden_layers"])
    count("context_length", config["max_position_embeddings"])
    count("embedding_length", config["hidden_size"])
    count("feed_forward_length", config["intermediate_size"])
    count("attention.head_count", config["num_attention_heads"])
    count("attention.head_count_kv", config["num_key_value_heads"])
    count("attention.key_length", config["head_dim"])
    count("attention.value_length", config["head_dim"])
    keys.append([name + "attention.layer_norm_rms_epsilon", F32, struct.pack("<f", config["rms_norm_eps"])])
    keys.append([name + "rope.freq_base", F32, struct.pack("<f", rope["rope_theta"])])
    count("rope.dimension_count", rotary)
    keys.append([name + "rope.dimension_sections", ARRAY, gguf_array(I32, [rotary // 2, 0, 0, 0])])
    count("full_attention_interval", config["full_attention_interval"])
    count("ssm.conv_kernel", config["linear_conv_kernel_dim"])
    count("ssm.state_size", config["linear_key_head_dim"])
    count("ssm.group_count", config["linear_num_key_heads"])
    count("ssm.time_step_rank", config["linear_num_value_heads"])
    count("ssm.inner_size", value_width)
    return keys + (gguf_tokenizer(config["vocab_size"]) if tokenizer else [])


def gguf_tokenizer(vocab_size):
    source = byte_tokenizer()
    tokens = {id: text for text, id in source["model"]["vocab"].items()} | {
        id: text for text, id in (SPECIAL | TAGS).items()}
    types = [3 if tokens.get(id) in SPECIAL else 4 if tokens.get(id) in TAGS else 1 if id in tokens else 5
             for id in range(vocab_size)]
    texts = [tokens.get(id, f"[PAD{id}]") for id in range(vocab_size)]
    texts[261], types[261] = "he", 1  # one merge
    return [["tokenizer.ggml.model", STRING, gguf_string("gpt2")], ["tokenizer.ggml.pre", STRING, gguf_string("qwen35")],
            ["tokenizer.ggml.tokens", ARRAY, gguf_array(STRING, texts)],
            ["tokenizer.ggml.token_type", ARRAY, gguf_array(I32, types)],
            ["tokenizer.ggml.merges", ARRAY, gguf_array(STRING, ["h e"])],
            ["tokenizer.ggml.eos_token_id", U32, struct.pack("<I", SPECIAL["<|im_end|>"])],
            ["tokenizer.ggml.padding_token_id", U32, struct.pack("<I", SPECIAL["<|endoftext|>"])],
            ["tokenizer.ggml.add_bos_token", BOOL, b"\0"],
            ["tokenizer.chat_template", STRING, gguf_string("{{ messages }}")]]


GGUF_NAMES = {
    "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "post_attention_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight", "linear_attn.in_proj_qkv.weight": "attn_qkv.weight",
    "linear_attn.in_proj_z.weight": "attn_gate.weight", "linear_attn.in_proj_b.weight": "ssm_beta.weight",
    "linear_attn.in_proj_a.weight": "ssm_alpha.weight", "linear_attn.conv1d.weight": "ssm_conv1d.weight",
    "linear_attn.A_log": "ssm_a", "linear_attn.dt_bias": "ssm_dt.bias", "linear_attn.norm.weight": "ssm_norm.weight",
    "linear_attn.out_proj.weight": "ssm_out.weight", "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight", "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight", "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight"}


def tiny_gguf(config, kind="F32", version=3, tokenizer=True, seed=2):
    """Matrices of type `kind`, the small ones in F32."""
    rng = random.Random(seed)
    tensors = []
    for name, (_, shape) in tensor_shapes(config, prefix="").items():
        top = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight",
               "lm_head.weight": "output.weight"}
        if name in top:
            stored = top[name]
        else:
            _, layer, rest = name.split(".", 2)
            stored = f"blk.{layer}.{GGUF_NAMES[rest]}"
        if "conv1d" in stored:
            shape = [shape[0], shape[2]]
        small = len(shape) == 1 or "ssm_conv1d" in stored or "ssm_alpha" in stored or "ssm_beta" in stored
        number, block, _, _ = GGML["F32" if small else kind]
        data = blocks(rng, "F32" if small or shape[-1] % block != 0 else kind, product(shape))
        if small or shape[-1] % block != 0:
            number = GGML["F32"][0]
        if stored.endswith("ssm_a"):
            data = struct.pack(f"<{shape[0]}f", *(-rng.uniform(0.1, 1) for _ in range(shape[0])))
        tensors.append([stored, shape[::-1], number, data, None])
    return Gguf(gguf_keys(config, tokenizer), tensors, version)
