#!/usr/bin/env python3
"""Writes the seeds that tests/fuzz starts from: small inputs that are right (good_*), so that a fuzzer begins deep
inside, and some that are wrong. make_seeds.py [--check]: only compares with what is there."""

import copy
import json
import os
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
os.environ.setdefault("SLUICE", "")
os.environ.setdefault("SLUICE_SOURCE", str(HERE.parent.parent))
sys.path.insert(0, str(HERE.parent / "malformed"))
import formats  # noqa: E402
from harness import byte_tokenizer  # noqa: E402


def small_config(**changes):
    """As formats.tiny_config, with a vocabulary too small for a tokenizer: smaller files."""
    return formats.tiny_config(**({"vocab_size": 4, "eos_token_id": 2} | changes))


def safetensors():
    config = small_config()
    tensors = formats.tiny_tensors(config)
    yield "good_tiny.safetensors", formats.safetensors_bytes(tensors)
    typed = copy.deepcopy(tensors)
    for i, entry in enumerate(typed.values()):
        entry[0] = ("F32", "F16", "BF16")[i % 3]
        entry[2] = formats.numbers(formats.random.Random(i), entry[0], formats.product(entry[1]))
    yield "good_types.safetensors", formats.safetensors_bytes(typed)
    extra = tensors | {"model.visual.patch": ["I8", [3], b"abc"], "empty": ["F32", [0, 5], b""]}
    header = {"__metadata__": {"format": "pt"}} | formats.safetensors_header(extra)
    yield "good_skipped.safetensors", formats.safetensors_bytes(extra, header=header)
    nested = {name.replace("model.", "model.language_model."): entry for name, entry in tensors.items()}
    yield "good_nested.safetensors", formats.safetensors_bytes(nested)
    yield "empty_header.safetensors", formats.safetensors_bytes({})
    yield "one.safetensors", formats.safetensors_bytes({"a": ["F32", [1], b"\0\0\0\0"]})


def gguf():
    yield "good_tiny.gguf", formats.tiny_gguf(small_config(), "BF16", tokenizer=False).bytes()
    yield "good_v2_f32.gguf", formats.tiny_gguf(small_config(), "F32", version=2, tokenizer=False).bytes()
    yield "good_tied_f16.gguf", formats.tiny_gguf(small_config(tie_word_embeddings=True), "F16", tokenizer=False).bytes()
    yield "good_tokenizer.gguf", formats.tiny_gguf(formats.tiny_config(hidden_size=2, tie_word_embeddings=True),
                                                   "BF16").bytes()
    # One layer that is wide enough for blocks.
    wide = {"num_hidden_layers": 1, "layer_types": ["linear_attention"], "full_attention_interval": 2, "vocab_size": 3,
            "linear_num_value_heads": 1, "linear_key_head_dim": 1, "linear_value_head_dim": 1,
            "linear_conv_kernel_dim": 2, "tie_word_embeddings": True, "eos_token_id": 2, "intermediate_size": 1}
    for kind, (_, block, _, _) in formats.GGML.items():
        if block > 1:
            config = formats.tiny_config(**(wide | {"hidden_size": block}))
            yield f"good_{kind.lower()}.gguf", formats.tiny_gguf(config, kind, tokenizer=False).bytes()
    types = [["k", kind, formats.gguf_scalar(kind, "text" if kind == formats.STRING else 1)]
             for kind in range(13) if kind != formats.ARRAY]
    for i, (_, kind, value) in enumerate(types):
        keys = [["k", kind, value], ["l", formats.ARRAY, struct.pack("<IQ", kind, 2) + 2 * value]]
        yield f"key_{i}.gguf", formats.Gguf(keys, []).bytes()
    yield "nested_array.gguf", formats.Gguf(
        [["k", formats.ARRAY, struct.pack("<IQ", 9, 1) + formats.gguf_array(formats.U8, [1, 2])]], []).bytes()
    yield "split.gguf", formats.Gguf([["split.no", 2, b"\0\0"], ["split.count", 2, b"\2\0"]], []).bytes()


def json_bytes(value):
    return json.dumps(value, ensure_ascii=False).encode()


def tokenizer_json():
    tokenizer = byte_tokenizer()
    tokenizer["model"]["vocab"]["he"] = 300
    tokenizer["model"]["merges"] = ["h e"]
    yield "good_spaced.json", json_bytes(tokenizer)
    tokenizer["model"]["vocab"] |= {"ll": 301, "hell": 302, "Ġt": 303}
    tokenizer["model"]["merges"] = [["h", "e"], ["l", "l"], ["he", "ll"], ["Ġ", "t"]]
    tokenizer["model"]["ignore_merges"] = True
    tokenizer["normalizer"] = None
    tokenizer["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel"}]}
    yield "good_pairs.json", json_bytes(tokenizer)
    tokenizer["model"]["merges"].append(["no", "such"])
    yield "unknown_merge.json", json_bytes(tokenizer)


def config_json():
    config = small_config()
    yield "good_tiny.json", json_bytes(config)
    nested = {"architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "text_config": config,
              "vision_config": {"hidden_size": 16}, "tie_word_embeddings": False, "eos_token_id": [1, 2]}
    yield "good_nested.json", json_bytes(nested)
    plain = {key: value for key, value in config.items() if key not in ("layer_types", "rope_parameters", "dtype")}
    plain |= {"rope_scaling": {"type": "default"}, "rope_theta": 5000, "partial_rotary_factor": 0.25,
              "torch_dtype": "float32"}
    yield "good_old_names.json", json_bytes(plain)
    yield "mtp.json", json_bytes(config | {"mtp_num_hidden_layers": 1, "num_experts": 4})


def chat_messages():
    def message(role, content, **rest):
        return {"role": role, "content": content, **rest}

    call = {"id": "1", "type": "function",
            "function": {"name": "add", "arguments": {"a": 1, "b": "two", "c": [1, None], "d": {"e": True}}}}
    tool = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}}}
    yield "good_plain.json", json_bytes([message("system", "Be brief."), message("user", "Hi \u00e9\U0001F600")])
    yield "good_history.json", json_bytes([
        message("user", "1"), message("assistant", "<think>\nhm\n</think>\n\n2"), message("user", "3"),
        message("assistant", "4", reasoning_content="thought")])
    yield "good_tools.json", json_bytes([
        message("system", ""), message("user", "a+b?"), message("assistant", "", tool_calls=[call]),
        message("tool", "3"), message("tool", "4"), message("assistant", "7"), message("user", "thanks")])
    yield "good_object.json", json_bytes({"messages": [message("user", "Hi")], "tools": [tool]})
    yield "parts.json", json_bytes([message("user", [{"type": "text", "text": "Hi"}])])
    yield "image.json", json_bytes([message("user", [{"type": "image", "image": "x.png"}])])


def main():
    check = "--check" in sys.argv[1:]
    wrong, size = [], 0
    for make in (safetensors, gguf, tokenizer_json, config_json, chat_messages):
        folder = HERE / "seeds" / make.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in make():
            size += len(data)
            path = folder / name
            if not check:
                path.write_bytes(data)
            elif not path.exists() or path.read_bytes() != data:
                wrong.append(str(path.relative_to(HERE)))
    print(f"{size} bytes of seeds")
    if wrong:
        sys.exit("not what make_seeds.py makes: " + ", ".join(wrong))


if __name__ == "__main__":
    main()
