#!/usr/bin/env python3
"""One token of Qwen3.5-0.8B's full shape by the GPU's code on the PTX machine, all its checks on, beside the CPU's logits.

    tools/full_shape.py SLUICE [--seed N] [--gpu rtx3090]

The checkpoint has random weights and takes 1.5 GB of the folder for temporary files while this runs. Exit code 1 if the machine finds
anything, or if the logits differ by more than what two orders of addition between roundings to bf16 do (tests/cpu/layers_test.cpp)."""

import argparse
import json
import os
import pathlib
import random
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SKIPPED = 77
LIMIT = 4e-2  # relative rms
SHAPE = {"vocab_size": 248320, "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 24,
         "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 6, "full_attention_interval": 4,
         "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "linear_num_key_heads": 16,
         "linear_num_value_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "tie_word_embeddings": True,
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000000.0, "partial_rotary_factor": 0.25},
         "eos_token_id": 248046}
# The upper byte of a bf16 number: one of +-[2^-7, 2^-5), which lets activations keep their size from layer to layer.
UPPER_BYTES = bytes(0x3C if i % 2 == 0 else 0xBC for i in range(256))


def matrix(source, n):
    numbers = bytearray(2 * n)
    numbers[0::2] = source.randbytes(n)
    numbers[1::2] = source.randbytes(n).translate(UPPER_BYTES)
    return numbers


def checkpoint(harness, folder, seed):
    source = random.Random(seed)
    config = harness.config_json(**SHAPE)
    tensors = {}
    for name, (dtype, shape) in harness.tensor_shapes(config).items():
        n = 1
        for dimension in shape:
            n *= dimension
        data = None  # zeros: norms, decays and biases are what that makes of them
        if len(shape) > 1:
            data = matrix(source, n)
        elif name.endswith("linear_attn.norm.weight"):
            data = b"\0\0\x80\x3f" * n  # ones
        tensors[name] = (dtype, shape, data)
    (folder / "config.json").write_text(json.dumps(config))
    harness.write_safetensors(folder / "model.safetensors", tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sluice", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--gpu", default="rtx3090")
    arguments = parser.parse_args()
    os.environ |= {"SLUICE": str(arguments.sluice.resolve()), "SLUICE_SOURCE": str(ROOT)}
    sys.path.insert(0, str(ROOT / "tests" / "cli"))
    import harness
    harness.TIMEOUT = 7200
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed

    class Run(harness.CliTest):
        def runTest(self):
            if b"emulated" not in self.good("--version"):
                print("the CUDA kernels are not built in")
                sys.exit(SKIPPED)
            checkpoint(harness, self.folder, seed)
            token = random.Random(seed).randrange(SHAPE["vocab_size"])
            logits = {}
            for device in ("emulated", "cpu"):
                start = time.monotonic()
                report = self.folder / f"report.{device}"
                self.good("logits", self.folder, "--device", device, "--tokens", token, "-o", self.folder / f"{device}.npy", "-c", 64,
                          env=harness.environment(SLUICE_PTX_GPU=arguments.gpu, SLUICE_PTX_SEED=seed, SLUICE_PTX_REPORT=report))
                print(f"{device}: {time.monotonic() - start:.0f} s", flush=True)
                logits[device] = harness.read_npy(self.folder / f"{device}.npy")[1]
            launches = [json.loads(line) for line in (self.folder / "report.emulated").read_text().splitlines()]
            difference = harness.relative_rms(logits["emulated"], logits["cpu"])
            best = [max(range(len(it)), key=it.__getitem__) for it in logits.values()]
            for it in launches:
                print(f"{it['kernel']} on {it['grid'][0]} blocks: {it['counters']['warp_instructions']} warp instructions, "
                      f"{len(it['findings'])} findings")
            print(f"seed {seed}: token {token}, logits differ by {difference:.2g} of their size; best tokens {best[0]} and {best[1]}")
            self.assertEqual([it["kernel"] for it in launches], ["sluice_decode"])
            self.assertEqual(launches[0]["findings"], [])
            self.assertLess(difference, LIMIT)

    import unittest
    result = unittest.TextTestRunner(verbosity=0).run(Run())
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
