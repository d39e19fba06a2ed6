#!/usr/bin/env python3
"""Programs that know nothing of the PTX machine, run on it through LD_LIBRARY_PATH.

Needs nvcc and its cuda.h (tools/get_nvcc.sh). PTX_LIBRARY is the folder of libcuda.so.1."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parents[2]
LIBRARY = pathlib.Path(os.environ["PTX_LIBRARY"])
SKIPPED = 77


def run(*command, fails=False, **environment):
    result = subprocess.run([str(each) for each in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            timeout=120, env=os.environ | {"LD_LIBRARY_PATH": str(LIBRARY)} | environment)
    if (result.returncode != 0) != fails:
        raise AssertionError(f"{command}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout + result.stderr


class Program(unittest.TestCase):
    nvcc = ""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def compile(self, *arguments, fails=False):
        return run(self.nvcc, "-std=c++20", *arguments, fails=fails)

    def test_declarations_are_those_of_cuda_h(self):
        check = (HERE / "abi_check.cpp", "-I", SOURCE / "src", "-Xcompiler", "-Wno-deprecated-declarations", "-c", "-o",
                 self.folder / "check.o")
        self.compile(*check)
        self.assertIn("cuMemAlloc of 3020 differs", self.compile("-DSLUICE_ABI_MISTAKE", *check, fails=True))

    def test_the_newest_form_of_each_function_is_there(self):
        """A program that asks for it must not get an older one."""
        includes = self.compile(HERE / "abi_check.cpp", "-I", SOURCE / "src", "-M")
        typedefs = re.search(r"\S+/cudaTypedefs\.h", includes).group(0)
        newest = {}
        for name, version in re.findall(r"\*PFN_(cu\w+?)_v(\d+)\)", pathlib.Path(typedefs).read_text()):
            newest[name] = max(newest.get(name, 0), int(version))
        ours = {}
        for name, version in re.findall(r"FUNCTION\((cu\w+), \w*, (\d+),",
                                        (SOURCE / "src" / "ptx" / "driver" / "functions.inc").read_text()):
            ours[name] = max(ours.get(name, 0), int(version))
        self.assertGreater(len(ours), 60)
        self.assertEqual({name: newest[name] for name in ours}, ours)

    def test_only_the_api_is_exported(self):
        symbols = subprocess.run(["nm", "-D", "--defined-only", LIBRARY / "libcuda.so.1"], check=True, text=True,
                                 stdout=subprocess.PIPE).stdout.split()[2::3]
        self.assertIn("cuLaunchKernel", symbols)
        self.assertEqual([symbol for symbol in symbols if not symbol.startswith("cu")], [])

    def test_a_program_runs_unchanged(self):
        program, kernels = self.folder / "vector_add", HERE / "program" / "vector_add.cu"
        self.compile(HERE / "program" / "vector_add.cpp", "-o", program, "-L", LIBRARY, "-lcuda")
        images = []
        for mode in ("default", "speed", "none"):
            image = self.folder / f"{mode}.fatbin"
            self.compile("-fatbin", f"--compress-mode={mode}", "-gencode", "arch=compute_75,code=[sm_75,compute_75]",
                         "-gencode", "arch=compute_80,code=compute_80", "-o", image, kernels)
            images.append(image)
        ptx = self.folder / "kernels.ptx"
        self.compile("-ptx", "-arch=compute_75", "-o", ptx, kernels)
        for image in (*images, ptx):
            for gpu, name in (("rtx3090", "RTX 3090"), ("t4", "T4"), ("h100", "H100")):
                with self.subTest(image=image.name, gpu=gpu):
                    said = run(program, image, SLUICE_PTX_GPU=gpu, SLUICE_PTX_SEED="5")
                    self.assertIn("passed", said)
                    self.assertIn(name, said)
        self.assertIn("passed", run(program, ptx, SLUICE_PTX_CHECKS="off"))
        # What can't be used is said in one line.
        machine_code = self.folder / "only_sm.fatbin"
        self.compile("-fatbin", "-gencode", "arch=compute_80,code=sm_80", "-o", machine_code, kernels)
        self.assertIn("has no PTX", run(program, machine_code, fails=True))
        self.assertIn("rtx3090", run(program, ptx, fails=True, SLUICE_PTX_GPU="rtx9999"))
        self.assertIn("SLUICE_PTX_SEED", run(program, ptx, fails=True, SLUICE_PTX_SEED="x"))


if __name__ == "__main__":
    found = subprocess.run([SOURCE / "tools" / "get_nvcc.sh"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if found.returncode != 0:
        print(found.stderr.strip().splitlines()[-1])
        sys.exit(SKIPPED)
    Program.nvcc = found.stdout.strip()
    unittest.main()
