"""sluice inspect: docs/models.md's table for real sizes, on files of zeros that take no room on the disk."""

import ast
import json
import math
import struct
import unittest

from gguf_file import write_known_gguf
from harness import FAILED, GOLDEN, CliTest, tensor_shapes, write_known_model, write_safetensors

MIB = 1 << 20
# Section 1: hidden, layers, intermediate, heads, KV heads, linear key heads, linear value heads, tied, and what must
# come out: recurrent state in MiB, KV bytes a token.
SIZES = {
    "0.8B": (1024, 24, 3584, 8, 2, 16, 16, True, 18, 12288),
    "4B": (2560, 32, 9216, 16, 4, 16, 32, True, 48, 32768),
    "27B": (5120, 64, 17408, 24, 4, 16, 48, False, 144, 65536),
}


def text_config(size):
    hidden, layers, inner, heads, kv_heads, key_heads, value_heads, tied, _, _ = SIZES[size]
    kinds = ["full_attention" if (i + 1) % 4 == 0 else "linear_attention" for i in range(layers)]
    return {
        "model_type": "qwen3_5_text", "dtype": "bfloat16", "vocab_size": 248320, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "layer_types": kinds, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": 256, "linear_num_key_heads": key_heads,
        "linear_num_value_heads": value_heads, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4, "full_attention_interval": 4, "attn_output_gate": True, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "tie_word_embeddings": tied, "max_position_embeddings": 262144,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
        "eos_token_id": 248044, "mtp_num_hidden_layers": 1,
    }


def mtp_shapes(config):
    """The 15 tensors of multi-token prediction: one attention layer, fc and three norms."""
    hidden = config["hidden_size"]
    one_layer = {**config, "layer_types": ["full_attention"]}
    layer = {name: shape for name, shape in tensor_shapes(one_layer, "mtp.").items() if name.startswith("mtp.layers")}
    norms = {f"mtp.{name}.weight": ("BF16", [hidden]) for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")}
    return {**layer, **norms, "mtp.fc.weight": ("BF16", [hidden, 2 * hidden])}


def elements(shape):
    product = 1
    for dimension in shape:
        product *= dimension
    return product


class Inspect(CliTest):
    def write(self, size):
        config = text_config(size)
        self.language = tensor_shapes(config, "model.language_model.")
        self.mtp = mtp_shapes(config)
        visual = {"model.visual.patch_embed.proj.weight": ("BF16", [768, 3, 2, 16, 16])}
        folder = self.folder / size
        folder.mkdir()
        everything = {**self.language, **self.mtp, **visual}
        write_safetensors(folder / "model.safetensors-00001-of-00001.safetensors",
                          {name: (*tensor, None) for name, tensor in everything.items()})
        names = {"model_type": "qwen3_5", "architectures": ["Qwen3_5ForConditionalGeneration"]}
        (folder / "config.json").write_text(
            json.dumps({**names, "tie_word_embeddings": config["tie_word_embeddings"], "text_config": config}))
        return folder

    def test_the_table_of_sizes(self):
        for size, row in SIZES.items():
            with self.subTest(size=size):
                json_ = self.good_json("inspect", self.write(size), "--json", "-c", 1000)
                self.assertEqual(json_["sequence"]["delta_state_bytes"], row[8] * MIB)
                self.assertEqual(json_["sequence"]["kv_bytes_per_token"], row[9])
                self.assertEqual(json_["parameters"], sum(elements(s) for _, s in self.language.values()))
                self.assertEqual(json_["mtp_parameters"], sum(elements(s) for _, s in self.mtp.values()))
                self.assertEqual(len(self.mtp), 15)
                self.assertEqual(json_["skipped_tensors"], 1)
                types = json_["tensors"]
                self.assertEqual(types["BF16"]["tensors"] + types["F32"]["tensors"], len(self.language) + 15)
                self.assertEqual(types["F32"]["tensors"], 2 * row[1] * 3 // 4)
                self.assertEqual(types["BF16"]["bytes"], 2 * types["BF16"]["elements"])

    def test_a_decode_step_of_the_smallest(self):
        step = self.good_json("inspect", self.write("0.8B"), "--json", "-c", 1000)["decode_step"]
        # Weights: section 1's 1.505 GB, tied embedding included, and the token's row again.
        weights = sum(elements(s) * (4 if t == "F32" else 2) for t, s in self.language.values())
        self.assertAlmostEqual(weights, 1.505e9, delta=0.001e9)
        self.assertEqual(step["weight_bytes"], weights + 2 * 1024)
        # State, read and written: 18 layers, 16 heads of 128 x 128; 3 columns of 3 x 2048 channels.
        self.assertEqual(step["state_bytes"], 2 * 18 * 4 * (16 * 128 * 128 + 3 * 3 * 2048))
        self.assertEqual(step["kv_bytes"], 1000 * 12288)
        self.assertEqual(step["bytes"], step["weight_bytes"] + step["state_bytes"] + step["kv_bytes"])
        mlp = 3 * 1024 * 3584
        delta = 1024 * (6144 + 2048 + 16 + 16 + 2048) + 4 * 6144 + 3 * 16 * 128 * 128
        attention = 1024 * (8 * 512 + 2 * 2 * 256 + 8 * 256) + 2 * 8 * 256 * 1000
        self.assertEqual(step["flops"], 2 * (24 * mlp + 18 * delta + 6 * attention + 248320 * 1024))

    def test_an_untied_embedding_is_read_by_the_row(self):
        step = self.good_json("inspect", self.write("27B"), "--json", "-c", 1)["decode_step"]
        weights = sum(elements(s) * (4 if t == "F32" else 2) for t, s in self.language.values())
        self.assertEqual(step["weight_bytes"], weights - 2 * 248320 * 5120 + 2 * 5120)

    def test_the_text_says_the_same(self):
        text = self.good("inspect", self.write("0.8B"), "-c", 1000).decode()
        for part in ("24: 6 × DDDA", "18874368 B (fp32)", "12288 B a token", "at context 1000", "12288000 B read"):
            self.assertIn(part, text)

    def test_what_the_config_calls_its_type_does_not_reach_the_terminal_as_it_is(self):
        model = write_known_model(self.folder / "model", dtype="bf\x1b[2J\n16\u2028" + "y" * 1000)
        text = self.good("inspect", model).decode()
        self.assertIn("type              qwen3_5_text, bf\\x1b[2J\\x0a16\\xe2\\x80\\xa8yyy", text)
        self.assertNotIn("y" * 100, text)

    def test_a_screened_head(self):
        """The default for 248,320 rows, where there are kernels that it is worth it for. A copy of a byte a weight and 8 a row."""
        model, hidden, vocab = self.write("0.8B"), 1024, 248320
        for head in ("screened", "full"):
            step = self.good_json("inspect", model, "--json", "--head", head)["decode_step"]
            self.assertEqual(step["head_bytes"], 2 * hidden * vocab)
            self.assertEqual(step["screened_head_bytes"], (hidden + 8) * vocab if head == "screened" else None)
            text = self.good("inspect", model, "--head", head).decode()
            together = step["bytes"] - (2 * hidden - hidden - 8) * vocab
            self.assertEqual(f"screened head   {together} B (1.3" in text, head == "screened", text)

    def test_json_of_every_golden_checkpoint(self):
        for file in sorted(GOLDEN.glob("*/config.json")):
            folder = file.parent
            config = json.loads(file.read_text())
            config = config.get("text_config", config)
            json_ = self.good_json("inspect", folder, "--json")
            self.assertEqual(json_["config"]["n_layers"], config["num_hidden_layers"])
            self.assertEqual(json_["config"]["vocab_size"], config["vocab_size"])
            self.assertNotIn("\x1b", self.good("inspect", folder, "-v").decode())

    def test_no_tokenizer_is_needed(self):
        model = write_known_model(self.folder / "model")
        (model / "tokenizer.json").write_text("{")
        self.good("inspect", model)

    def npy(self, *args):
        """(shape, values) of what --tensor writes."""
        out = self.folder / "tensor.npy"
        self.assertEqual(self.good("inspect", *args, "-o", out), b"")
        data = out.read_bytes()
        self.assertEqual(data[:8], b"\x93NUMPY\x01\x00")
        (length,) = struct.unpack_from("<H", data, 8)
        self.assertEqual((10 + length) % 64, 0)
        header = ast.literal_eval(data[10 : 10 + length].decode())
        self.assertEqual((header["descr"], header["fortran_order"]), ("<f4", False))
        return header["shape"], struct.unpack(f"<{(len(data) - 10 - length) // 4}f", data[10 + length :])

    def test_one_tensor(self):
        model = write_known_model(self.folder / "model")
        shapes = {"model.norm.weight": (3,), "lm_head.weight": (2, 3), "x.cube": (2, 1, 2), "x.number": ()}
        values = {"model.norm.weight": [1.5, -2.0, 0.25], "lm_head.weight": [0.0, 1.0, -1.0, 2.0, 3.0, -4.0],
                  "x.cube": [1e-40, 3e38, -0.0, 1.0], "x.number": [7.0]}
        write_safetensors(model / "model.safetensors", {
            name: ("F32", list(shape), struct.pack(f"<{len(values[name])}f", *values[name]))
            for name, shape in shapes.items()})
        for name, shape in shapes.items():
            got_shape, got = self.npy(model, "--tensor", name)
            self.assertEqual((got_shape, struct.pack(f"<{len(got)}f", *got)),
                             (shape, struct.pack(f"<{len(got)}f", *values[name])), name)
        json_ = self.good_json("inspect", model, "--tensor", "lm_head.weight", "--json")
        self.assertEqual({key: json_[key] for key in ("type", "shape", "elements", "bytes", "min", "max", "not_finite")},
                         {"type": "F32", "shape": [2, 3], "elements": 6, "bytes": 24, "min": -4, "max": 3, "not_finite": 0})
        self.assertAlmostEqual(json_["mean"], 1 / 6, delta=1e-12)
        self.assertAlmostEqual(json_["rms"], (31 / 6) ** 0.5, delta=1e-12)
        text = self.good("inspect", model, "--tensor", "lm_head.weight").decode()
        for part in ("F32, 24 B", "[2, 3], 6 elements", "-4\n", "0.166666667", "2.27303"):
            self.assertIn(part, text)

    def test_values_that_are_no_numbers(self):
        model = write_known_model(self.folder / "model")
        data = struct.pack("<4f", 1.0, math.inf, math.nan, -2.0)
        write_safetensors(model / "model.safetensors", {"x": ("F32", [4], data), "y": ("F32", [0], b"")})
        json_ = self.good_json("inspect", model, "--tensor", "x", "--json")
        self.assertEqual([json_[key] for key in ("min", "max", "mean", "not_finite")], [-2, 1, -0.5, 2])
        self.assertIn(b"2 elements, left out", self.good("inspect", model, "--tensor", "x"))
        self.assertEqual(struct.pack("<4f", *self.npy(model, "--tensor", "x")[1]), data)
        self.assertIsNone(self.good_json("inspect", model, "--tensor", "y", "--json")["min"])
        self.assertEqual(self.npy(model, "--tensor", "y"), ((0,), ()))

    def test_one_tensor_of_a_gguf(self):
        block = struct.pack("<e32b", 0.5, *range(-16, 16))  # Q8_0: x = d q

        def change(_, tensors):
            tensors["extra.weight"] = (8, [2, 32], block + block)

        file = write_known_gguf(self.folder / "known.gguf", change=change)
        row = tuple(q / 2 for q in range(-16, 16))
        self.assertEqual(self.npy(file, "--tensor", "extra.weight"), ((2, 32), row + row))
        json_ = self.good_json("inspect", file, "--tensor", "extra.weight", "--json")
        self.assertEqual((json_["type"], json_["bytes"], json_["min"], json_["max"]), ("Q8_0", 68, -8, 7.5))
        self.fails(FAILED, "inspect", file, "--tensor", "blk.0.attn_qkv", says="similar: blk.0.attn_qkv.weight")

    def test_tensors_that_are_not_there(self):
        model = write_known_model(self.folder / "model")
        out = self.folder / "out.npy"
        out.write_text("old")
        for name in ("", "model.layers.0.mlp.up.weight", "\x1b[31m", "x" * 100_000):
            self.fails(FAILED, "inspect", model, "--tensor", name, "-o", out, says="similar: ")
        self.fails(FAILED, "inspect", model, "--tensor", "model.layers.0.mlp.up.weight",
                   says="similar: model.layers.0.mlp.up_proj.weight")
        self.fails(FAILED, "inspect", model, "--tensor", "lm_head.weight", "-o", "/dev/full", says="/dev/full")
        self.assertEqual(out.read_text(), "old")
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"model", "out.npy"})

    def test_a_folder_name_that_is_not_utf8(self):
        model = write_known_model(self.folder / "model")
        strange = self.folder / "m\udcff\x1b[31m"
        model.rename(strange)
        self.good_json("inspect", strange, "--json")
        self.assertNotIn(b"\x1b", self.good("inspect", strange))


if __name__ == "__main__":
    unittest.main()
