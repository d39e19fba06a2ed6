#!/usr/bin/env python3
"""NVIDIA's cuda-bindings from PyPI, which looks up the driver's functions by cuGetProcAddress, on the PTX machine.

PTX_LIBRARY is the folder of libcuda.so.1, PTX_VENV where the package is installed (12 MB to fetch, the first time)."""

import ctypes
import os
import pathlib
import subprocess
import sys
import unittest

PACKAGES = ["cuda-bindings==13.0.3", "cuda-pathfinder==1.3.2"]
SKIPPED = 77

PTX = b"""
.version 8.0
.target sm_75
.address_size 64
.visible .entry scale(.param .u64 values, .param .f32 factor, .param .u32 count)
{
  .reg .pred %p<2>; .reg .b32 %r<6>; .reg .f32 %f<4>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [values]; ld.param.f32 %f1, [factor]; ld.param.u32 %r1, [count];
  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 ret;
  mul.wide.u32 %rd2, %r5, 4; add.s64 %rd3, %rd1, %rd2;
  ld.global.f32 %f2, [%rd3]; mul.f32 %f3, %f1, %f2; st.global.f32 [%rd3], %f3;
  ret;
}
"""


class CudaBindings(unittest.TestCase):
    def setUp(self):
        self.good(driver.cuInit(0))
        self.device = self.good(driver.cuDeviceGet(0))
        self.context = self.good(driver.cuDevicePrimaryCtxRetain(self.device))
        self.good(driver.cuCtxSetCurrent(self.context))
        self.addCleanup(lambda: driver.cuDevicePrimaryCtxRelease(self.device))

    def good(self, results):
        self.assertEqual(results[0], driver.CUresult.CUDA_SUCCESS)
        return results[1] if len(results) > 1 else None

    def test_the_device(self):
        name = self.good(driver.cuDeviceGetName(100, self.device))
        self.assertIn(b"RTX 4090", name)
        attribute = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        self.assertEqual(self.good(driver.cuDeviceGetAttribute(attribute, self.device)), 128)

    def scaled(self, function, stream):
        count = 300
        values = (ctypes.c_float * count)(*range(count))
        size = ctypes.sizeof(values)
        memory = self.good(driver.cuMemAlloc(size))
        self.good(driver.cuMemcpyHtoDAsync(memory, ctypes.addressof(values), size, stream))
        arguments = ((memory, 2.5, count), (None, ctypes.c_float, ctypes.c_uint32))
        self.good(driver.cuLaunchKernel(function, 3, 1, 1, 128, 1, 1, 0, stream, arguments, 0))
        self.good(driver.cuMemcpyDtoHAsync(ctypes.addressof(values), memory, size, stream))
        self.good(driver.cuStreamSynchronize(stream))
        self.good(driver.cuMemFree(memory))
        self.assertEqual(list(values), [2.5 * i for i in range(count)])

    def test_a_module(self):
        module = self.good(driver.cuModuleLoadData(PTX))
        stream = self.good(driver.cuStreamCreate(0))
        self.scaled(self.good(driver.cuModuleGetFunction(module, b"scale")), stream)
        begin, end = (self.good(driver.cuEventCreate(0)) for _ in range(2))
        self.good(driver.cuEventRecord(begin, stream))
        self.good(driver.cuEventRecord(end, stream))
        self.good(driver.cuEventSynchronize(end))
        self.assertGreaterEqual(self.good(driver.cuEventElapsedTime(begin, end)), 0)
        self.good(driver.cuModuleUnload(module))

    def test_a_library(self):
        library = self.good(driver.cuLibraryLoadData(PTX, [], [], 0, [], [], 0))
        kernel = self.good(driver.cuLibraryGetKernel(library, b"scale"))
        self.scaled(self.good(driver.cuKernelGetFunction(kernel)), self.good(driver.cuStreamCreate(1)))
        self.good(driver.cuLibraryUnload(library))

    def test_errors_have_names(self):
        result, = driver.cuCtxSetCurrent(driver.CUcontext(12345))
        self.assertEqual(result, driver.CUresult.CUDA_ERROR_INVALID_CONTEXT)
        self.assertEqual(self.good(driver.cuGetErrorName(result)), b"CUDA_ERROR_INVALID_CONTEXT")
        result, _ = driver.cuModuleLoadData(b"no PTX")
        self.assertEqual(result, driver.CUresult.CUDA_ERROR_INVALID_PTX)

    def test_what_is_missing_says_so(self):
        with self.assertRaisesRegex(RuntimeError, "cuGraphCreate"):
            driver.cuGraphCreate(0)


def skip(reason):
    print(reason)
    sys.exit(SKIPPED)


def main():
    """Installs the package where it is missing, and starts again with the Python that has it."""
    venv = pathlib.Path(os.environ["PTX_VENV"])
    stamp = venv / "installed.txt"
    if not stamp.exists() or stamp.read_text() != str(PACKAGES):
        for command in ([sys.executable, "-m", "venv", "--clear", venv],
                        [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1",
                         "--no-deps", *PACKAGES]):
            if subprocess.run(command).returncode != 0:
                skip("cuda-bindings can't be installed from PyPI")
        stamp.write_text(str(PACKAGES))
    environment = os.environ | {"LD_LIBRARY_PATH": os.environ["PTX_LIBRARY"], "SLUICE_PTX_GPU": "rtx4090"}
    os.execve(venv / "bin" / "python", [str(venv / "bin" / "python"), "-B", __file__, "--here", *sys.argv[1:]], environment)


if __name__ == "__main__":
    if "--here" not in sys.argv:
        main()
    sys.argv.remove("--here")
    from cuda.bindings import driver
    unittest.main()
