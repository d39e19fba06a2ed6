"""Runs the real program, and makes what it is run on. Standard library only.

ctest sets SLUICE (the program) and SLUICE_SOURCE (the checkout).
"""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

SLUICE = os.environ["SLUICE"]
SOURCE = pathlib.Path(os.environ["SLUICE_SOURCE"])
GOLDEN = SOURCE / "tests" / "golden"
TIMEOUT = 120  # seconds; nothing takes more than a few, even with sanitizers

GOOD, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def environment(**changes):
    """Ours, without what would change the program's answers; `changes` on top, None removes."""
    env = dict(os.environ)
    for name in ("SLUICE_MODEL_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        env.pop(name, None)
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = str(value)
    return env


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime


def status_of(pid):
    """/proc/PID/status, name -> value."""
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def has_signal(mask, signal_):
    return int(mask, 16) >> (signal_ - 1) & 1 == 1


class CliTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def sluice(self, *args, input=b"", env=None, cwd=None, program=SLUICE, **options):
        if isinstance(input, str):
            input = input.encode()
        return subprocess.run([str(program), *map(str, args)], input=input, env=env or environment(), cwd=cwd,
                              capture_output=True, timeout=TIMEOUT, **options)

    def start(self, *args, **options):
        """The program in the background; its pipes are closed and it is ended when the test ends."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                   "env": environment()} | options
        process = subprocess.Popen([SLUICE, *map(str, args)], **options)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def wait_until(self, process, condition):
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(process.poll(), "ended too early")
            time.sleep(0.005)

    def wait_asleep(self, process):
        """Until the program handles signals and waits for something."""
        def asleep():
            status = status_of(process.pid)
            return has_signal(status["SigCgt"], signal.SIGINT) and status["State"].startswith("S")

        self.wait_until(process, asleep)

    def unprivileged(self):
        """Options for a run that is bound by the permissions of files, which root isn't."""
        if os.geteuid() != 0:
            return {}
        self.folder.chmod(0o777)
        program = self.folder / "sluice"
        shutil.copy(SLUICE, program)  # a build folder may be out of reach for others
        nobody = 65534
        return {"program": program, "user": nobody, "group": nobody, "extra_groups": []}

    def good(self, *args, **options):
        """Standard output of a run that must succeed."""
        result = self.sluice(*args, **options)
        self.assertEqual(result.returncode, GOOD, (args, result.stderr))
        return result.stdout

    def good_json(self, *args, **options):
        """Standard output must be JSON and nothing else."""
        return json.loads(self.good(*args, **options).decode())

    def fails(self, code, *args, says="", **options):
        """The run must end with `code` and exactly one line on standard error, which holds `says`."""
        result = self.sluice(*args, **options)
        errors = result.stderr.decode()
        self.assertEqual(result.returncode, code, (args, errors))
        self.assertEqual(result.stdout, b"", args)
        self.assertRegex(errors, r"\Asluice: error: [^\n]+\n\Z", args)
        self.assertIn(says, errors, args)
        return errors


# --- .npy ---------------------------------------------------------------------------------------------------------


def read_npy(path):
    """(shape, flat list of values, bytes of the data) of a float32 array in C order."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    (length,) = struct.unpack_from("<H", data, 8)
    header = eval(data[10 : 10 + length], {"__builtins__": {}})  # a Python dictionary: that is the format
    assert header["descr"] == "<f4" and header["fortran_order"] is False, header
    rows, columns = header["shape"]
    payload = data[10 + length :]
    assert len(payload) == 4 * rows * columns, (len(payload), header)
    return (rows, columns), struct.unpack(f"<{rows * columns}f", payload), payload


def relative_rms(got, want):
    assert len(got) == len(want), (len(got), len(want))
    error = sum((a - b) ** 2 for a, b in zip(got, want))
    return (error / sum(b * b for b in want)) ** 0.5


# --- checkpoints --------------------------------------------------------------------------------------------------


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, shape, bytes, or None for zeros, which take no room on the disk)."""
    width = {"F32": 4, "F16": 2, "BF16": 2}
    header, offset = {}, 0
    for name, (dtype, shape, _) in tensors.items():
        size = width[dtype]
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        for name, (_, _, data) in tensors.items():
            if data is not None:
                file.seek(start + header[name]["data_offsets"][0])
                file.write(data)
        file.truncate(start + offset)


def config_json(**changes):
    """A config.json of two layers, DeltaNet and attention."""
    config = {
        "model_type": "qwen3_5_text", "dtype": "bfloat16", "vocab_size": 272, "hidden_size": 272,
        "intermediate_size": 8, "num_hidden_layers": 2, "layer_types": ["linear_attention", "full_attention"],
        "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "linear_num_key_heads": 1,
        "linear_num_value_heads": 1, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4, "full_attention_interval": 2, "attn_output_gate": True, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "max_position_embeddings": 1 << 20,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        "eos_token_id": 256, "mtp_num_hidden_layers": 0,
    }
    config.update(changes)
    return config


def tensor_shapes(config, prefix="model."):
    """name -> (dtype, shape) of the language model, after docs/models.md section 1."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads, head = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    value_heads, value_head = config["linear_num_value_heads"], config["linear_value_head_dim"]
    key_width = config["linear_num_key_heads"] * config["linear_key_head_dim"]
    value_width = value_heads * value_head
    channels = 2 * key_width + value_width
    shapes = {prefix + "embed_tokens.weight": ("BF16", [vocab, hidden]), prefix + "norm.weight": ("BF16", [hidden])}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = ("BF16", [vocab, hidden])
    for i, kind in enumerate(config["layer_types"]):
        layer = f"{prefix}layers.{i}."
        shapes |= {
            layer + "input_layernorm.weight": ("BF16", [hidden]),
            layer + "post_attention_layernorm.weight": ("BF16", [hidden]),
            layer + "mlp.gate_proj.weight": ("BF16", [inner, hidden]),
            layer + "mlp.up_proj.weight": ("BF16", [inner, hidden]),
            layer + "mlp.down_proj.weight": ("BF16", [hidden, inner]),
        }
        if kind == "linear_attention":
            mixer = layer + "linear_attn."
            shapes |= {
                mixer + "in_proj_qkv.weight": ("BF16", [channels, hidden]),
                mixer + "in_proj_z.weight": ("BF16", [value_width, hidden]),
                mixer + "in_proj_b.weight": ("BF16", [value_heads, hidden]),
                mixer + "in_proj_a.weight": ("BF16", [value_heads, hidden]),
                mixer + "conv1d.weight": ("BF16", [channels, 1, config["linear_conv_kernel_dim"]]),
                mixer + "A_log": ("F32", [value_heads]),
                mixer + "dt_bias": ("BF16", [value_heads]),
                mixer + "norm.weight": ("F32", [value_head]),
                mixer + "out_proj.weight": ("BF16", [hidden, value_width]),
            }
        else:
            mixer = layer + "self_attn."
            shapes |= {
                mixer + "q_proj.weight": ("BF16", [heads * 2 * head, hidden]),
                mixer + "k_proj.weight": ("BF16", [kv_heads * head, hidden]),
                mixer + "v_proj.weight": ("BF16", [kv_heads * head, hidden]),
                mixer + "o_proj.weight": ("BF16", [hidden, heads * head]),
                mixer + "q_norm.weight": ("BF16", [head]),
                mixer + "k_norm.weight": ("BF16", [head]),
            }
    return shapes


# --- a model whose answers are known ------------------------------------------------------------------------------
#
# Mixers and MLPs are zero and the embedding is one-hot, so the logits depend on the last token alone, and the head
# says which token follows which: after "a" comes "b", ..., after "z" "a" again, for ever; after a line feed, which
# every chat prompt ends with, comes "FINE!" and the end of the turn.

IM_END, END_OF_TEXT, IM_START, THINK, END_THINK = 256, 257, 258, 259, 260
SPECIAL = {"<|im_end|>": IM_END, "<|endoftext|>": END_OF_TEXT, "<|im_start|>": IM_START}
TAGS = {"<think>": THINK, "</think>": END_THINK}
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_characters():
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in characters:
            characters[byte] = chr(256 + len(characters) - len(printable))
    return characters


def chat_template():
    """Qwen3.5's, which thinks only if asked to."""
    return (SOURCE / "tests" / "golden-chat" / "chat_template.jinja").read_text()


def byte_tokenizer():
    added = [{"id": id, "content": text, "special": text in SPECIAL, "normalized": False, "lstrip": False,
              "rstrip": False, "single_word": False} for text, id in (SPECIAL | TAGS).items()]
    vocab = {character: byte for byte, character in byte_characters().items()}
    return {
        "version": "1.0", "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []},
    }


def successors():
    follows = {}
    answer = [*b"FINE!", IM_END]
    follows[ord("\n")] = answer[0]
    for token, after in zip(answer, answer[1:]):
        follows[token] = after
    for i in range(26):
        follows[ord("a") + i] = ord("a") + (i + 1) % 26
    # An e-acute in two tokens, to see that characters are never cut; then the end of the text.
    for token, after in zip([ord("0"), *"é€".encode()], [*"é€".encode(), END_OF_TEXT]):
        follows[token] = after
    return follows


def write_known_model(folder, generation_config={"do_sample": False}, **changes):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = config_json(**changes)
    hidden = config["hidden_size"]
    tensors = {name: (dtype, shape, None) for name, (dtype, shape) in tensor_shapes(config).items()}
    one = struct.pack("<H", 0x3F80)  # 1.0 in bf16
    embedding = bytearray(2 * hidden * config["vocab_size"])
    head = bytearray(len(embedding))
    for token in range(config["vocab_size"]):
        at = 2 * (token * hidden + token)
        embedding[at : at + 2] = one
    for token, after in successors().items():
        at = 2 * (after * hidden + token)
        head[at : at + 2] = one
    for name, data in (("model.embed_tokens.weight", embedding), ("lm_head.weight", head)):
        tensors[name] = (*tensors[name][:2], bytes(data))
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))
    (folder / "chat_template.jinja").write_text(chat_template())
    if generation_config is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation_config))
    return folder
