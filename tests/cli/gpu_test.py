"""--device emulated and cuda: the GPU's code from the command line, on the PTX machine."""

import signal
import unittest

from gpu_harness import MACHINE, GpuTest
from harness import FAILED, INTERRUPTED, TIMEOUT, environment


class Gpu(GpuTest):
    def setUp(self):
        super().setUp()
        self.as_driver = environment(SLUICE_PTX_GPU="tiny", LD_LIBRARY_PATH=MACHINE)

    def run_json(self, *args, **options):
        return self.good_json("run", self.model, "--raw", "-p", "abc", "-n", 12, "--json", *args, **options)

    def test_the_same_answer_as_the_cpu(self):
        want = self.run_json("--device", "cpu")
        got = self.run_json("--device", "emulated", env=self.env)
        self.assertEqual(got["text"], want["text"])
        self.assertEqual(got["generated_tokens"], 12)
        self.assertEqual(got["device"], "emulated")

    def test_a_gpu_that_can_be_used_is_the_default(self):
        self.assertEqual(self.run_json(env=self.as_driver)["device"], "cuda")
        self.assertEqual(self.run_json("--device", "cuda:0", env=self.as_driver)["device"], "cuda:0")
        devices = self.good_json("devices", "--json", env=self.as_driver)
        self.assertEqual(devices["default"], "cuda")
        self.assertTrue(all(device["usable"] for device in devices["devices"]))

    def test_what_is_not_there(self):
        self.fails(FAILED, "run", self.model, "-p", "x", "--device", "cuda:1", env=self.as_driver,
                   says="there is no device 1 (cuda:1): there is cuda:0 alone")
        (self.folder / "libcuda.so.1").write_bytes(b"no library")
        self.fails(FAILED, "run", self.model, "-p", "x", "--device", "cuda", env=environment(LD_LIBRARY_PATH=self.folder),
                   says="libcuda.so.1 can't be loaded")

    def test_interrupted_while_the_kernel_runs(self):
        process = self.start("run", self.model, "--raw", "-p", "abc", "--seed", 1, "--temp", 2, "--device", "emulated",
                             env=self.env)
        self.assertNotEqual(process.stdout.read(1), b"")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(TIMEOUT), INTERRUPTED)
        process.communicate()


if __name__ == "__main__":
    unittest.main()
