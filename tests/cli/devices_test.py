"""sluice devices: what is there, and why the rest is not usable."""

import os
import re
import shutil
import unittest

from harness import SOURCE, WRONG_USAGE, CliTest, environment

FAKE = os.environ["FAKE_CUDA_LIBRARY"]


class Devices(CliTest):
    def by_name(self, **options):
        json_ = self.good_json("devices", "--json", **options)
        self.assertEqual(json_["default"], "cpu")
        self.assertEqual([device["name"] for device in json_["devices"]], ["oracle", "cpu", "emulated", "cuda"])
        return {device["name"]: device for device in json_["devices"]}

    def with_library(self, data=None, **changes):
        folder = self.folder / "lib"
        folder.mkdir(exist_ok=True)
        if data is None:
            shutil.copy(FAKE, folder / "libcuda.so.1")
        else:
            (folder / "libcuda.so.1").write_bytes(data)
        return environment(LD_LIBRARY_PATH=folder, **changes)

    def kernels_are_built_in(self):
        return "emulated" in re.search(r"(?m)^devices: (.+)$", self.good("--version").decode())[1].split(", ")

    def test_what_is_usable_and_why_the_rest_is_not(self):
        devices = self.by_name(env=self.with_library(FAKE_CUDA="none"))
        for name in ("oracle", "cpu"):
            self.assertTrue(devices[name]["usable"])
            self.assertEqual(devices[name]["reason"], "")
        self.assertFalse(devices["cuda"]["usable"])
        if self.kernels_are_built_in():
            self.assertTrue(devices["emulated"]["usable"])
        else:
            for name in ("emulated", "cuda"):
                self.assertFalse(devices[name]["usable"])
                self.assertIn("not built into this version", devices[name]["reason"])
        text = self.good("devices", env=self.with_library(FAKE_CUDA="none")).decode()
        for name, device in devices.items():
            state = "usable, the default" if name == "cpu" else "usable" if device["usable"] else "not usable: .+"
            self.assertRegex(text, rf"(?m)^{name} +{state}$")

    def test_the_processor(self):
        cpu = self.by_name()["cpu"]
        self.assertLessEqual(cpu["threads"], len(os.sched_getaffinity(0)))
        # The workers that the device takes: as many by itself, and no more if it is asked for them.
        for threads in ((), ("-t", cpu["threads"] + 7)):
            report = self.good_json("bench", "-p", 0, "-n", 1, "--rows", 1, "--reps", 1, "--json", *threads)
            self.assertEqual(report["machine"]["threads"], cpu["threads"])
        with open("/proc/cpuinfo") as file:
            info = file.read()
        self.assertIn(cpu["cpu"], info)
        for name in cpu["isa"]:
            self.assertIn(f" {name}", info)
        self.assertIn("avx2" in info, ("avx2" in cpu["isa"],))

    def test_drivers_and_devices_that_are_too_old(self):
        for changes, says in (({}, "the driver speaks CUDA 12.4, this program needs 13.0: install driver 580 or newer"),
                              ({"FAKE_CUDA": "old_gpu"}, "its compute capability is 7.0, the kernels need 7.5 or newer"),
                              ({"FAKE_CUDA": "small_gpu"}, "a block has 48 KB of shared memory, the kernels need 64 KB"),
                              ({"FAKE_CUDA": "no_grid"}, "cooperative launch")):
            env = self.with_library(**changes)
            cuda = self.by_name(env=env)["cuda"]
            self.assertFalse(cuda["usable"])
            self.assertIn(says, cuda["reason"])
            self.assertEqual(cuda["driver"], "13.0" if changes else "12.4")
            self.assertEqual([(device["bytes"], device["usable"]) for device in cuda["devices"]],
                             [(7 * 10**9, False), (8 * 10**9, False)])
            text = self.good("devices", env=env).decode()
            self.assertIn("cuda:0  First, 7.00 GB, compute capability 7.", text)
            self.assertIn("cuda:1  Second\\x1b[31m", text)

    def test_drivers_that_do_not_work(self):
        for data, changes, says in ((None, {"FAKE_CUDA": "none"}, "no device"),
                                    (None, {"FAKE_CUDA": "broken"}, "error 999, unknown error"),
                                    (b"no library", {}, "can't be loaded")):
            cuda = self.by_name(env=self.with_library(data, **changes))["cuda"]
            self.assertIn(says, cuda["reason"])
            self.assertEqual(cuda["devices"], [])

    def test_it_takes_no_model(self):
        self.fails(WRONG_USAGE, "devices", SOURCE / "models" / "demo")
        self.assertNotIn(b"MODEL", self.good("devices", "--help"))


if __name__ == "__main__":
    unittest.main()
