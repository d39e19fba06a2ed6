"""A checkpoint from a seed: config.json, model.safetensors and prompts, the same bytes on every machine.

Random numbers are sums of integers out of counter-based generators, scaled by exactly rounded operations; no
libm function stands between the seed and a stored weight (but for the decays, which are rounded to a grid so
coarse that libm's last bit can't show).
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from golden.cases import SEED, Case

TORCH_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def random_bits(case: Case, name: str, count: int) -> np.ndarray:
    """`count` random 64-bit integers of the stream that (seed, case, name) names."""
    key = hashlib.sha256(f"{SEED}/{case.name}/{name}".encode()).digest()
    return np.random.Philox(key=int.from_bytes(key[:16], "little")).random_raw(count)


def normal(case: Case, name: str, shape: tuple[int, ...], scale: float, mean: float = 0.0) -> np.ndarray:
    """Nearly normal (the sum of four uniforms), within 3.46 standard deviations of `mean`."""
    bits = random_bits(case, name, math.prod(shape))
    total = sum(((bits >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.float64) for i in range(4))
    unit = (total - 2.0 * 65535.0) / 65536.0  # variance 4 / 12
    return (unit * (scale * math.sqrt(3.0)) + mean).reshape(shape)


def stratified(case: Case, name: str, count: int) -> np.ndarray:
    """`count` numbers in (0, 1), one in each of `count` equal parts, in random order."""
    bits = random_bits(case, name, 2 * count)
    order = np.argsort(bits[:count], kind="stable")
    within = (bits[count:] >> np.uint64(11)).astype(np.float64) / 2.0**53
    return (order + within) / count


def decays(case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A_log and dt_bias of one layer. At a = 0 the heads' decays lie between exp(-1.1) = 0.33 and exp(-0.001), one in
    each part of a logarithmic scale, so that short and long memories are both there."""
    count = case.delta_heads[1]
    log_rate = math.log(0.001) + stratified(case, name + "rate", count) * (math.log(1.1) - math.log(0.001))
    dt_bias = -3.0 + stratified(case, name + "dt", count) * 3.0
    softplus = np.array([math.log1p(math.exp(b)) for b in dt_bias])
    a_log = log_rate - np.array([math.log(s) for s in softplus])
    return np.rint(a_log * 256.0) / 256.0, np.rint(dt_bias * 256.0) / 256.0


def mlp_tensors(case: Case, prefix: str) -> dict[str, np.ndarray]:
    hidden, inner = case.hidden, case.intermediate
    return {
        prefix + "gate_proj.weight": normal(case, prefix + "gate", (inner, hidden), 1.3 / math.sqrt(hidden)),
        prefix + "up_proj.weight": normal(case, prefix + "up", (inner, hidden), 1.0 / math.sqrt(hidden)),
        prefix + "down_proj.weight": normal(case, prefix + "down", (hidden, inner), 1.2 / math.sqrt(inner)),
    }


def attention_tensors(case: Case, prefix: str) -> dict[str, np.ndarray]:
    hidden, dim = case.hidden, case.head_dim
    heads, kv_heads = case.heads
    scale = 1.0 / math.sqrt(hidden)
    return {
        prefix + "q_proj.weight": normal(case, prefix + "q", (heads * 2 * dim, hidden), scale),
        prefix + "k_proj.weight": normal(case, prefix + "k", (kv_heads * dim, hidden), scale),
        prefix + "v_proj.weight": normal(case, prefix + "v", (kv_heads * dim, hidden), scale),
        prefix + "o_proj.weight": normal(case, prefix + "o", (hidden, heads * dim), 1.5 / math.sqrt(heads * dim)),
        # Scores have a deviation near (1 + 0.3)² = 1.7, so that the softmax is far from uniform.
        prefix + "q_norm.weight": normal(case, prefix + "q_norm", (dim,), 0.3, 0.3),
        prefix + "k_norm.weight": normal(case, prefix + "k_norm", (dim,), 0.3, 0.3),
    }


def delta_tensors(case: Case, prefix: str) -> dict[str, np.ndarray]:
    hidden = case.hidden
    key_heads, value_heads = case.delta_heads
    key_dim, value_dim = key_heads * case.delta_dims[0], value_heads * case.delta_dims[1]
    channels = 2 * key_dim + value_dim
    scale = 1.0 / math.sqrt(hidden)
    a_log, dt_bias = decays(case, prefix)
    qkv = normal(case, prefix + "qkv", (channels, hidden), scale)
    if case.small_keys:  # Σx² near 1e-5, where the norm adds 1e-6
        qkv[key_dim - case.delta_dims[0] : key_dim] /= 256.0
        qkv[2 * key_dim - case.delta_dims[0] : 2 * key_dim] /= 256.0
    return {
        prefix + "in_proj_qkv.weight": qkv,
        prefix + "in_proj_z.weight": normal(case, prefix + "z", (value_dim, hidden), scale),
        prefix + "in_proj_b.weight": normal(case, prefix + "b", (value_heads, hidden), scale),
        prefix + "in_proj_a.weight": normal(case, prefix + "a", (value_heads, hidden), 0.7 * scale),
        prefix + "conv1d.weight": normal(case, prefix + "conv", (channels, 1, case.conv), 0.6),
        prefix + "A_log": a_log,
        prefix + "dt_bias": dt_bias,
        prefix + "norm.weight": normal(case, prefix + "norm", (case.delta_dims[1],), 0.25, 1.0),
        prefix + "out_proj.weight": normal(case, prefix + "out", (hidden, value_dim), 1.5 / math.sqrt(value_dim)),
    }


def layer_tensors(case: Case, prefix: str, kind: str) -> dict[str, np.ndarray]:
    tensors = {
        prefix + f"{norm}.weight": normal(case, prefix + norm, (case.hidden,), 0.25, 0.05)
        for norm in ("input_layernorm", "post_attention_layernorm")
    }
    if kind == "a":
        tensors |= attention_tensors(case, prefix + "self_attn.")
    else:
        tensors |= delta_tensors(case, prefix + "linear_attn.")
    return tensors | mlp_tensors(case, prefix + "mlp.")


def language_tensors(case: Case) -> dict[str, np.ndarray]:
    """Every tensor of the language model by its stored name, in fp64."""
    prefix, hidden, vocab = case.prefix, case.hidden, case.vocab
    # A tied matrix serves as head too, where logits of a deviation near 2 are wanted.
    embedding_scale = 2.0 / math.sqrt(hidden) if case.tied else 1.0
    tensors = {
        prefix + "embed_tokens.weight": normal(case, "embedding", (vocab, hidden), embedding_scale),
        prefix + "norm.weight": normal(case, "norm", (hidden,), 0.25, 0.05),
    }
    for index, kind in enumerate(case.layers):
        tensors |= layer_tensors(case, f"{prefix}layers.{index}.", kind)
    if not case.tied:
        tensors["lm_head.weight"] = normal(case, "head", (vocab, hidden), 2.0 / math.sqrt(hidden))
    return tensors


def other_tensors(case: Case) -> dict[str, np.ndarray]:
    """What a reader must step over (model.visual.*) or keep but not run (mtp.*)."""
    tensors = {}
    if case.mtp:
        tensors["mtp.fc.weight"] = normal(case, "mtp.fc", (case.hidden, 2 * case.hidden), 0.1)
        for norm in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
            tensors[f"mtp.{norm}.weight"] = normal(case, "mtp." + norm, (case.hidden,), 0.25)
        tensors |= layer_tensors(case, "mtp.layers.0.", "a")
    if case.nested:
        tensors["model.visual.merger.norm.weight"] = normal(case, "visual.norm", (16,), 0.25, 1.0)
        tensors["model.visual.patch_embed.proj.weight"] = normal(case, "visual.patch", (16, 3, 2, 2, 2), 0.2)
    return tensors


def stored_tensors(case: Case) -> dict[str, torch.Tensor]:
    """Name → tensor in the type it is stored in."""
    def stored(name: str, values: np.ndarray) -> torch.Tensor:
        in_f32 = case.delta_f32 and name.endswith(("linear_attn.A_log", "linear_attn.norm.weight"))
        return torch.from_numpy(values.copy()).to(TORCH_TYPES["F32" if in_f32 else case.stored])

    tensors = language_tensors(case) | other_tensors(case)
    return {name: stored(name, tensors[name]) for name in sorted(tensors)}


def text_config(case: Case) -> dict:
    """The fields of the language model, with the spellings that the case asks for."""
    config = {
        "attention_bias": False,
        "attn_output_gate": True,
        "eos_token_id": case.vocab - 1,
        case.dtype_key: TYPE_NAMES[case.stored],
        "head_dim": case.head_dim,
        "hidden_act": "silu",
        "hidden_size": case.hidden,
        "intermediate_size": case.intermediate,
        "linear_conv_kernel_dim": case.conv,
        "linear_key_head_dim": case.delta_dims[0],
        "linear_num_key_heads": case.delta_heads[0],
        "linear_num_value_heads": case.delta_heads[1],
        "linear_value_head_dim": case.delta_dims[1],
        "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 512,
        "model_type": "qwen3_5_text",
        "mtp_num_hidden_layers": 1 if case.mtp else 0,
        "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": case.heads[0],
        "num_hidden_layers": len(case.layers),
        "num_key_value_heads": case.heads[1],
        "rms_norm_eps": case.eps,
        "tie_word_embeddings": case.tied,
        "vocab_size": case.vocab,
    }
    if "full_attention_interval" in case.layer_keys:
        config["full_attention_interval"] = case.interval
    if "layer_types" in case.layer_keys:
        kinds = {"a": "full_attention", "d": "linear_attention"}
        config["layer_types"] = [kinds[kind] for kind in case.layers]
    rope = {"partial_rotary_factor": case.rotary_share, "rope_theta": case.theta}
    if case.rope_keys == "rope_parameters":
        config["rope_parameters"] = rope | {
            "mrope_interleaved": True, "mrope_section": [11, 11, 10], "rope_type": "default"}
    else:
        config |= rope
    return config


def config(case: Case) -> dict:
    if not case.nested:
        return {"architectures": ["Qwen3_5ForCausalLM"]} | text_config(case)
    return {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        "text_config": text_config(case),
        "tie_word_embeddings": case.tied,
        "vision_config": {
            "depth": 1, "hidden_size": 16, "in_channels": 3, "intermediate_size": 24, "model_type": "qwen3_5",
            "num_heads": 2, "num_position_embeddings": 16, "out_hidden_size": case.hidden, "patch_size": 2,
            "spatial_merge_size": 2, "temporal_patch_size": 2},
    }


def prompts(case: Case) -> list[list[int]]:
    def prompt(index: int, length: int) -> list[int]:
        return [int(bits % np.uint64(case.vocab)) for bits in random_bits(case, f"prompt{index}", length)]

    return [prompt(index, length) for index, length in enumerate(case.prompts)]


def write(case: Case, folder: Path) -> None:
    """Writes config.json, model.safetensors and tokens.json."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config(case), indent=1, sort_keys=True) + "\n")
    # The library orders tensors by type and name; the mapping's order doesn't matter.
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(stored_tensors(case), {"format": "pt"}))
    (folder / "tokens.json").write_text(json.dumps({"prompts": prompts(case)}) + "\n")
