"""Writes a trained checkpoint as a Hugging Face model folder.

    python export.py --run RUN --out models/demo

Weights are BF16 but for A_log and the DeltaNet norm, which stay F32 as in the published
checkpoints. The same checkpoint gives the same bytes.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
MAX_POSITIONS = 4096


def config(cfg, ids):
    types = ["linear_attention", "full_attention"]
    interval = cfg["full_attention_interval"]
    return {
        "architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "dtype": "bfloat16",
        "vocab_size": cfg["vocab_size"], "hidden_size": cfg["hidden_size"],
        "intermediate_size": cfg["intermediate_size"], "num_hidden_layers": cfg["num_hidden_layers"],
        "num_attention_heads": cfg["num_attention_heads"], "num_key_value_heads": cfg["num_key_value_heads"],
        "head_dim": cfg["head_dim"], "hidden_act": "silu", "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": cfg["rms_norm_eps"], "tie_word_embeddings": True, "attention_bias": False,
        "attention_dropout": 0.0, "attn_output_gate": True, "use_cache": True, "initializer_range": 0.02,
        "full_attention_interval": interval,
        "layer_types": [types[(i + 1) % interval == 0] for i in range(cfg["num_hidden_layers"])],
        "linear_conv_kernel_dim": cfg["linear_conv_kernel_dim"],
        "linear_key_head_dim": cfg["linear_key_head_dim"], "linear_value_head_dim": cfg["linear_value_head_dim"],
        "linear_num_key_heads": cfg["linear_num_key_heads"],
        "linear_num_value_heads": cfg["linear_num_value_heads"],
        "mamba_ssm_dtype": "float32", "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False,
        "partial_rotary_factor": cfg["partial_rotary_factor"],
        "rope_parameters": {"rope_type": "default", "rope_theta": cfg["rope_theta"],
                            "partial_rotary_factor": cfg["partial_rotary_factor"],
                            "mrope_interleaved": True, "mrope_section": mrope(cfg)},
        "bos_token_id": None, "eos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"],
    }


def mrope(cfg):
    """Three near-equal parts of the rotary pairs. For text they all turn alike."""
    pairs = int(cfg["head_dim"] * cfg["partial_rotary_factor"]) // 2
    return [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]


def tensors(state):
    out = {}
    for name, value in sorted(state.items()):
        exact = name.endswith((".A_log", "linear_attn.norm.weight"))
        out[name] = value.detach().to(torch.float32 if exact else torch.bfloat16).contiguous()
    return out


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def export(run, out):
    state = torch.load(run / "checkpoint.pt", weights_only=False, map_location="cpu")
    tokenizer = json.loads((run / "tokenizer.json").read_text())
    ids = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text((run / "tokenizer.json").read_text())
    write_json(out / "config.json", config(state["config"], ids))
    template = (HERE / "chat_template.jinja").read_text()
    (out / "chat_template.jinja").write_text(template)
    write_json(out / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False, "add_bos_token": False,
        "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None,
        "clean_up_tokenization_spaces": False, "model_max_length": MAX_POSITIONS,
        "added_tokens_decoder": {str(t["id"]): {k: t[k] for k in (
            "content", "lstrip", "normalized", "rstrip", "single_word", "special")}
            for t in tokenizer["added_tokens"]},
        "chat_template": template})
    write_json(out / "generation_config.json", {
        "do_sample": False, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"]})
    save_file(tensors(state["model"]), out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    export(args.run, args.out)


if __name__ == "__main__":
    main()
