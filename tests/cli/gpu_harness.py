"""A model, and the PTX machine as the GPU that runs it."""

import os
import pathlib
import re

from harness import CliTest, environment, write_known_model

MACHINE = pathlib.Path(os.environ["SLUICE_BUILD"]) / "ptx"  # where its libcuda.so.1 lies


class GpuTest(CliTest):
    def setUp(self):
        super().setUp()
        built_in = re.search(r"(?m)^devices: (.+)$", self.good("--version").decode())[1]
        if "emulated" not in built_in:
            self.skipTest("the CUDA kernels are not built in")
        self.model = write_known_model(self.folder / "model")
        self.env = environment(SLUICE_PTX_GPU="tiny")
