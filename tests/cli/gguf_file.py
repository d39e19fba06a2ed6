"""GGUF files of the model whose answers are known (harness.py), after docs/models.md section 3. Standard library only."""

import pathlib
import struct

from harness import SPECIAL, TAGS, byte_characters, config_json, successors

U16, I32, U32, F32, BOOL, STRING, ARRAY = 2, 5, 4, 6, 7, 8, 9  # of metadata
TENSOR_F32, TENSOR_BF16 = 0, 30
ALIGNMENT = 32
ONE_BF16 = struct.pack("<H", 0x3F80)


def text_bytes(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value_bytes(kind, value):
    if kind == STRING:
        return text_bytes(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(value_bytes(inner, item) for item in items)
    return struct.pack({U16: "<H", I32: "<i", U32: "<I", F32: "<f", BOOL: "<?"}[kind], value)


def gguf_bytes(metadata, tensors):
    """metadata: key -> (type, value); tensors: name -> (type, row-major shape, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, (kind, value) in metadata.items():
        head += text_bytes(key) + struct.pack("<I", kind) + value_bytes(kind, value)
    data = b""
    for name, (kind, shape, values) in tensors.items():
        head += text_bytes(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, len(data))
        data += values + b"\0" * (-len(values) % ALIGNMENT)
    return head + b"\0" * (-len(head) % ALIGNMENT) + data


def known_metadata(chat_template):
    config = config_json()
    names = {byte: character for byte, character in byte_characters().items()}
    tokens = [names[byte] for byte in range(256)]
    kinds = [1] * 256
    added = {id: (text, 3 if text in SPECIAL else 4) for text, id in (SPECIAL | TAGS).items()}
    for id in sorted(added):
        tokens.append(added[id][0])
        kinds.append(added[id][1])
    space = byte_characters()[32]
    tokens.append(space * 2)  # a vocabulary without merges is none that GGUF files have
    kinds.append(1)
    metadata = {
        "general.architecture": (STRING, "qwen35"),
        "qwen35.block_count": (U32, 2),
        "qwen35.context_length": (U32, config["max_position_embeddings"]),
        "qwen35.embedding_length": (U32, config["hidden_size"]),
        "qwen35.feed_forward_length": (U32, config["intermediate_size"]),
        "qwen35.attention.head_count": (U32, 1), "qwen35.attention.head_count_kv": (U32, 1),
        "qwen35.attention.key_length": (U32, 8), "qwen35.attention.value_length": (U32, 8),
        "qwen35.attention.layer_norm_rms_epsilon": (F32, 1e-6),
        "qwen35.rope.freq_base": (F32, 10000.0), "qwen35.rope.dimension_count": (U32, 4),
        "qwen35.full_attention_interval": (U32, 2),
        "qwen35.ssm.conv_kernel": (U32, 4), "qwen35.ssm.state_size": (U32, 8), "qwen35.ssm.group_count": (U32, 1),
        "qwen35.ssm.time_step_rank": (U32, 1), "qwen35.ssm.inner_size": (U32, 8),
        "tokenizer.ggml.model": (STRING, "gpt2"), "tokenizer.ggml.pre": (STRING, "qwen35"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)), "tokenizer.ggml.token_type": (ARRAY, (I32, kinds)),
        "tokenizer.ggml.merges": (ARRAY, (STRING, [f"{space} {space}"])),
        "tokenizer.ggml.eos_token_id": (U32, config["eos_token_id"]),
    }
    if chat_template is not None:
        metadata["tokenizer.chat_template"] = (STRING, chat_template)
    return metadata


def known_tensors():
    vocab = hidden = config_json()["vocab_size"]
    embedding, head = bytearray(2 * vocab * hidden), bytearray(2 * vocab * hidden)
    for token in range(vocab):
        at = 2 * (token * hidden + token)
        embedding[at : at + 2] = ONE_BF16
    for token, after in successors().items():
        at = 2 * (after * hidden + token)
        head[at : at + 2] = ONE_BF16

    def filled(value, *shape):
        count = 1
        for dimension in shape:
            count *= dimension
        return (TENSOR_F32, list(shape), struct.pack("<f", value) * count)

    def zeros(*shape):
        return (TENSOR_BF16, list(shape), bytes(2 * shape[0] * shape[1]))

    tensors = {"token_embd.weight": (TENSOR_BF16, [vocab, hidden], bytes(embedding)),
               "output.weight": (TENSOR_BF16, [vocab, hidden], bytes(head)),
               "output_norm.weight": filled(1.0, hidden)}
    for i in range(2):
        tensors |= {f"blk.{i}.attn_norm.weight": filled(1.0, hidden),
                    f"blk.{i}.post_attention_norm.weight": filled(1.0, hidden),
                    f"blk.{i}.ffn_gate.weight": zeros(8, hidden), f"blk.{i}.ffn_up.weight": zeros(8, hidden),
                    f"blk.{i}.ffn_down.weight": zeros(hidden, 8)}
    tensors |= {"blk.0.attn_qkv.weight": zeros(24, hidden), "blk.0.attn_gate.weight": zeros(8, hidden),
                "blk.0.ssm_beta.weight": zeros(1, hidden), "blk.0.ssm_alpha.weight": zeros(1, hidden),
                "blk.0.ssm_conv1d.weight": filled(0.0, 24, 4), "blk.0.ssm_a": filled(-1.0, 1),
                "blk.0.ssm_dt.bias": filled(0.0, 1), "blk.0.ssm_norm.weight": filled(0.0, 8),
                "blk.0.ssm_out.weight": zeros(hidden, 8),
                "blk.1.attn_q.weight": zeros(16, hidden), "blk.1.attn_k.weight": zeros(8, hidden),
                "blk.1.attn_v.weight": zeros(8, hidden), "blk.1.attn_output.weight": zeros(hidden, 8),
                "blk.1.attn_q_norm.weight": filled(1.0, 8), "blk.1.attn_k_norm.weight": filled(1.0, 8)}
    return tensors


def write_known_gguf(path, chat_template=None, change=lambda metadata, tensors: None):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata, tensors = known_metadata(chat_template), known_tensors()
    change(metadata, tensors)
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def write_split_gguf(folder, name, chat_template=None):
    """Two parts, as llama.cpp's gguf-split names and marks them. Returns their paths."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = known_tensors()
    names = list(tensors)
    paths = []
    for part, held in enumerate((names[:5], names[5:])):
        metadata = known_metadata(chat_template) if part == 0 else {}
        metadata |= {"split.no": (U16, part), "split.count": (U16, 2), "split.tensors.count": (I32, len(names))}
        path = folder / f"{name}-{part + 1:05}-of-00002.gguf"
        path.write_bytes(gguf_bytes(metadata, {key: tensors[key] for key in held}))
        paths.append(path)
    return paths
