#!/usr/bin/env python3
"""Counts again what the model of GPUs (src/cuda/gpu_model.h, `sluice inspect --model-gpu`) takes for the decode kernel's instructions:
warp instructions for a byte of weights, and beside these for an op in a block. Exit code 1 if they have moved by more than 2 %.

  count_instructions.py SLUICE              both: a minute, for make cuda-report
  count_instructions.py --bytes-only SLUICE   the first alone, on a model that is little but its head: seconds, for make test

The PTX machine counts a step at position 0 of four layers of Qwen3.5-0.8B's sizes on 82 blocks, with a head of 1,024 rows and with
one of 8,192. The weights are zero: what a step issues doesn't depend on them, but for the odd token that the head remembers.

Looks at a counter while a block waits are left out: how many there are is the order in which the machine runs warps, and not work that
an op has to get through."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SKIPPED = 77
LIMIT = 0.02
BLOCKS, OPS = 82, 28  # gpu_model.cpp
ROWS = (1024, 8192)
HIDDEN = 1024
LOOK = 7 + 8 / 64  # instructions of wait_for's loop (src/cuda/device/block.h): of each look, and those at every 64th
FULL = {"num_hidden_layers": 4, "layer_types": ["linear_attention"] * 3 + ["full_attention"], "intermediate_size": 3584,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "linear_num_key_heads": 16,
        "linear_num_value_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128}
NARROW = {"num_hidden_layers": 1, "layer_types": ["linear_attention"]}


def count(sluice, harness, folder, sizes, rows):
    """Of the first launch, which is a decode step at position 0: warp instructions but for looks at counters, and bytes of matrices."""
    config = harness.config_json(hidden_size=HIDDEN, vocab_size=rows, tie_word_embeddings=True, eos_token_id=0, **sizes)
    tensors = harness.tensor_shapes(config)
    (folder / "config.json").write_text(json.dumps(config))
    harness.write_safetensors(folder / "model.safetensors", {name: (*it, None) for name, it in tensors.items()})
    report = folder / f"report.{rows}"
    process = subprocess.Popen([sluice, "bench", folder, "--device", "emulated", "-p", "0", "-n", "1", "--rows", "1", "--reps", "1"],
                               env=harness.environment(SLUICE_PTX_GPU="rtx3090", SLUICE_PTX_REPORT=report),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not (report.exists() and "\n" in report.read_text()):  # the next launches count nothing new
            if process.poll() is not None:
                sys.exit(f"bench ended early: {process.stderr.read()}")
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    launch = json.loads(report.read_text().splitlines()[0])
    if launch["kernel"] != "sluice_decode" or launch["grid"] != [BLOCKS, 1, 1] or launch["findings"]:
        sys.exit(f"not the launch that is wanted: {launch['kernel']}, {launch['grid']}, {launch['findings']}")
    matrices = sum(2 * it[1][0] * it[1][1] for it in tensors.values() if len(it[1]) == 2)
    return launch["counters"]["warp_instructions"] - LOOK * launch["counters"]["waits"], matrices


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sluice", type=pathlib.Path)
    parser.add_argument("--bytes-only", action="store_true")
    arguments = parser.parse_args()
    sluice = arguments.sluice.resolve()
    if b"emulated" not in subprocess.run([sluice, "--version"], check=True, stdout=subprocess.PIPE).stdout:
        print("the CUDA kernels are not built in")
        sys.exit(SKIPPED)
    os.environ |= {"SLUICE": str(sluice), "SLUICE_SOURCE": str(ROOT)}
    sys.path.insert(0, str(ROOT / "tests" / "cli"))
    import harness
    model = json.loads(subprocess.run([sluice, "inspect", "--model-gpu", "rtx3090", "--json", "--shape", "qwen3.5-0.8b"], check=True,
                                      stdout=subprocess.PIPE).stdout)["constants"]
    sizes = NARROW if arguments.bytes_only else FULL
    with tempfile.TemporaryDirectory() as folder:
        (small, matrices), (large, _) = (count(sluice, harness, pathlib.Path(folder), sizes, rows) for rows in ROWS)
    per_byte = (large - small) / ((ROWS[1] - ROWS[0]) * HIDDEN * 2)
    counted = {"warp instructions a weight byte": per_byte}
    if not arguments.bytes_only:
        counted["warp instructions an op and block"] = (small - per_byte * matrices) / (OPS * BLOCKS)
    moved = False
    print(f"(warp instructions of a step: {small:.0f} with a head of {ROWS[0]} rows, {large:.0f} with {ROWS[1]})")
    for name, value in counted.items():
        drift = value / model[name]["value"] - 1
        moved = moved or abs(drift) > LIMIT
        print(f"{name}: counted {value:.6g}, modelled with {model[name]['value']:.6g}: {100 * drift:+.2f} %")
    if moved:
        sys.exit("the kernels have changed: count again, and put the new figures into src/cuda/gpu_model.cpp")


if __name__ == "__main__":
    main()
