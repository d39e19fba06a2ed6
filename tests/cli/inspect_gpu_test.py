"""sluice inspect --model-gpu: always labelled, adds up, and says the same as text and JSON."""

import re
import unittest

from harness import FAILED, GOLDEN, WRONG_USAGE, CliTest

SHAPE = ("--shape", "qwen3.5-0.8b")
GPUS = ("rtx3090", "a6000", "rtx4090", "rtx5090", "a100", "h100", "h200")


class InspectGpu(CliTest):
    def model(self, gpu, *args):
        report = self.good_json("inspect", "--model-gpu", gpu, "--json", *args)
        self.assertTrue(report["modelled"])
        for constant in (*report["constants"].values(), *report["dependency"]["parts_at_1695_mhz"].values()):
            self.assertTrue(constant["source"])
        for step in (*report["decode"].values(), report["prefill_512"]):
            self.assertTrue(step["modelled"])
            for total in ("bytes", "stream_us", "exposed_us", "total_us"):
                self.assertAlmostEqual(step[total], sum(op[total] for op in step["ops"]), delta=1e-6 * step[total] + 1e-6)
        return report

    def test_every_gpu(self):
        for gpu in GPUS:
            report = self.model(gpu, *SHAPE, "-c", 1024)
            full, screened = report["decode"]["full"], report["decode"]["screened"]
            self.assertLess(screened["bytes"], full["bytes"])
            share = full["bytes"] / full["total_us"] / 1e3 / report["constants"]["bandwidth, GB/s"]["value"]
            self.assertAlmostEqual(full["bandwidth_share"], share)
            # Equal where everything but the stream is hidden.
            self.assertLessEqual(share, report["constants"]["reads, GB/s"]["value"] / report["constants"]["bandwidth, GB/s"]["value"] + 1e-9)
            self.assertAlmostEqual(full["tok_s"], 1e6 / full["total_us"])
            self.assertIn("not in the CUDA kernel", screened["note"])
        self.assertEqual(len({gpu: self.model(gpu, *SHAPE)["constants"]["bandwidth, GB/s"]["value"] for gpu in GPUS}), len(GPUS))

    def test_bytes_are_the_programs(self):
        program = self.good_json("inspect", "--program", "--json", "--head", "full", *SHAPE, "-c", 1024)
        full = self.model("rtx3090", *SHAPE, "-c", 1024)["decode"]["full"]
        self.assertAlmostEqual(full["bytes"], program["bytes"], delta=1)

    def test_targets(self):
        for gpu, wanted in {"rtx3090": [530, 600, 28000], "h100": [0.8], "a100": []}.items():
            report = self.model(gpu, *SHAPE)
            self.assertEqual([target["at_least"] for target in report["targets"]], wanted)
            for target in report["targets"]:
                self.assertEqual(target["reached"], target["modelled"] >= target["at_least"])
        self.assertEqual(self.model("rtx3090", GOLDEN.parent.parent / "models" / "demo")["targets"], [])

    def test_the_text_says_the_same(self):
        report = self.model("rtx3090", *SHAPE, "-c", 1024)
        text = self.good("inspect", "--model-gpu", "rtx3090", *SHAPE, "-c", 1024).decode()
        self.assertTrue(text.startswith("modelled, not measured:"))
        speeds = [int(speed) for speed in re.findall(r"^  (\d+) tok/s;", text, re.MULTILINE)]
        steps = (report["decode"]["full"], report["decode"]["screened"], report["prefill_512"])
        self.assertEqual(speeds, [round(step["tok_s"]) for step in steps])
        self.assertEqual(text.count(", modelled\n"), 3)
        for target in report["targets"]:
            line = next(line for line in text.splitlines() if target["target"] + ": at least" in line)
            self.assertEqual("NOT reached" in line, not target["reached"])

    def test_what_can_not_be(self):
        for name in ("rtx9999", ""):
            self.fails(FAILED, "inspect", "--model-gpu", name, *SHAPE, says="rtx3090, a6000, rtx4090, rtx5090, a100, h100, h200")
        self.fails(WRONG_USAGE, "inspect", "--model-gpu", "h100", "--program")
        self.fails(WRONG_USAGE, "inspect", *SHAPE, says="--model-gpu")
        self.fails(WRONG_USAGE, "inspect", "--model-gpu", "h100", "--shape", "llama")


if __name__ == "__main__":
    unittest.main()
