"""sluice bench --device emulated and cuda, on the PTX machine: the report, energy and power limits. Speed isn't there to be seen."""

import json
import math
import os
import pathlib
import re
import signal
import time
import unittest

from gpu_harness import MACHINE, GpuTest
from harness import FAILED, INTERRUPTED, TIMEOUT, WRONG_USAGE, environment

NVML = pathlib.Path(os.environ["FAKE_NVML_LIBRARY"]).parent
FORMER = 300000  # the fake GPU's limit, milliwatts


def quick(prefill=9, decode=3, rows="1,2"):
    return ("-p", prefill, "-n", decode, "--rows", rows, "--reps", 1, "--seed", 1)


class GpuBench(GpuTest):
    def as_gpu(self, **changes):
        """The PTX machine as the system's driver, with a management library beside it."""
        return environment(SLUICE_PTX_GPU="tiny", LD_LIBRARY_PATH=f"{MACHINE}:{NVML}", FAKE_NVML=self.folder, **changes)

    def limits(self):
        """Every limit that was set so far."""
        file = self.folder / "limits"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def test_the_report(self):
        result = self.sluice("bench", self.model, *quick(), "--device", "emulated", "--json", env=self.env)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        report = json.loads(result.stdout)
        machine = report["machine"]
        self.assertEqual((machine["device"], machine["emulated"]), ("emulated", True))
        self.assertIn("nothing here is a speed of a GPU", machine["clock"])
        self.assertGreater(report["probe"]["read_gb_s"], 0)
        self.assertGreater(report["probe"]["matrix_tflops"]["bf16"], 0)
        self.assertIsNone(report["probe"]["matrix_tflops"]["fp32"])
        kinds = [(it["kind"], it["rows"]) for it in report["results"]]
        self.assertEqual(kinds, [("decode", 1), ("decode", 2), ("prefill", 9), ("mixed", 11)])
        for it in report["results"]:
            self.assertEqual((it["head"], it["op_share"], it["tokens_per_joule"]), ("full", {}, None))
            self.assertGreaterEqual(it["tasks_per_step"], machine["blocks"])
            self.assertEqual(it["tasks_per_step"] % machine["blocks"], 0)
            self.assertTrue(0 < it["launch_share"] <= 1, it)
            self.assertTrue(math.isclose(it["ms_per_step"], 1000 * it["rows"] / it["tok_s"]["median"]))
            seconds = max(it["bytes_per_step"] / (1e9 * report["probe"]["read_gb_s"]),
                          it["flops_per_step"] / (1e12 * report["probe"]["matrix_tflops"]["bf16"]))
            self.assertTrue(math.isclose(it["rows"] / it["floor_tok_s"], seconds))
        self.assertTrue(math.isclose(report["results"][0]["dispatches_per_step"], 1 / 3))  # three tokens of one sequence
        self.assertEqual([it["dispatches_per_step"] for it in report["results"][1:]], [1, 1, 1])
        # Weights, state and KV are the Program's, whatever runs it.
        cpu = self.good_json("bench", self.model, *quick(), "--json", "--device", "cpu", "--head", "full")["results"]
        for key in ("kind", "rows", "context", "bytes_per_step", "flops_per_step"):
            self.assertEqual([it[key] for it in report["results"]], [it[key] for it in cpu], key)

    def test_the_text_claims_no_speed(self):
        text = self.good("bench", self.model, *quick(9, 1, 1), "--device", "emulated", env=self.env).decode()
        for part in ("PTX machine's run on this CPU: nothing here is a speed of a GPU", "tok/J    not measured: ", "decode",
                     "prefill", "mixed", "9+1"):
            self.assertIn(part, text)
        self.assertNotIn("worker 0", text)

    def test_energy(self):
        """The fake GPU draws its limit of 300 W all the time, so tokens/J are tokens/s over 300."""
        report = self.good_json("bench", self.model, *quick(0, 3, 1), "--device", "cuda", "--json", env=self.as_gpu())
        self.assertEqual(report["machine"]["device"], "cuda")
        self.assertTrue(report["machine"]["emulated"])  # the driver is the PTX machine all the same
        for it in report["results"]:
            self.assertLessEqual(it["tokens_per_joule"], 1.01 * it["tok_s"]["median"] / 300)
            self.assertGreater(it["tokens_per_joule"], 0.1 * it["tok_s"]["median"] / 300)
        self.assertEqual(self.limits(), [])

    def test_without_a_counter_there_is_one_line(self):
        for env, reason in ((environment(SLUICE_PTX_GPU="tiny", LD_LIBRARY_PATH=MACHINE), "libnvidia-ml.so.1 was not found"),
                            (self.as_gpu(FAKE_NVML_MODE="no_energy"), "doesn't count energy: Not Supported")):
            with self.subTest(reason=reason):
                text = self.good("bench", self.model, *quick(0, 1, 1), "--device", "cuda:0", env=env).decode()
                (line,) = re.findall(r"(?m)^tok/J .+$", text)
                self.assertIn(reason, line)

    def test_power_limits(self):
        options = ("bench", self.model, *quick(0, 1), "--device", "cuda", "--power-limits", "150,250.5")
        report = self.good_json(*options, "--json", env=self.as_gpu())
        self.assertEqual([(it["power_limit_w"], it["rows"]) for it in report["results"]],
                         [(150, 1), (150, 2), (250.5, 1), (250.5, 2)])
        self.assertEqual(self.limits(), [150000, 250500, FORMER])
        for it in report["results"]:
            self.assertLessEqual(it["tokens_per_joule"], 1.01 * it["tok_s"]["median"] / it["power_limit_w"])
            self.assertTrue(math.isclose(it["floor_fraction"], it["tok_s"]["median"] / it["floor_tok_s"]))
        text = self.good(*options, env=self.as_gpu()).decode()
        self.assertEqual(re.findall(r"(?m)^power limited to ([0-9.]+) W", text), ["150", "250.5"])

    def test_the_former_limit_comes_back(self):
        """After Ctrl-C, and even if the program is killed."""
        for ending, code in ((signal.SIGINT, INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)):
            with self.subTest(signal=ending):
                before = self.limits()
                process = self.start("bench", self.model, *quick(0, 100000, 1), "--device", "cuda", "--power-limits", "120", env=self.as_gpu())
                self.wait_until(process, lambda: self.limits() == before + [120000])
                process.send_signal(ending)
                self.assertEqual(process.wait(TIMEOUT), code)
                deadline = time.monotonic() + TIMEOUT
                while self.limits() != before + [120000, FORMER]:
                    self.assertLess(time.monotonic(), deadline, self.limits())
                    time.sleep(0.005)

    def test_limits_that_cannot_be(self):
        run = ("bench", self.model, *quick(), "--device", "cuda", "--power-limits")
        for text, says in (("150,", "not a list"), ("nan", "not a list"), ("150,351", "from 100 to 350")):
            with self.subTest(text=text):
                self.fails(WRONG_USAGE, *run, text, env=self.as_gpu(), says=says)
        self.fails(FAILED, *run, "150", env=self.as_gpu(FAKE_NVML_MODE="no_root"), says="run as root")
        self.assertEqual(self.limits(), [])

    def test_what_a_gpu_does_not_do(self):
        for args in (("--trace", self.folder / "trace.json"), ("--timeline", self.folder / "x.svg"), ("--head", "screened"),
                     ("--power-limits", "150")):
            with self.subTest(args=args):
                self.fails(WRONG_USAGE, "bench", self.model, *quick(), *args, "--device", "emulated", env=self.env)


if __name__ == "__main__":
    unittest.main()
