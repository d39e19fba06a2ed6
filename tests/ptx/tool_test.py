"""sluice-ptx from outside: arguments, results, exit codes, and one clear line for what is wrong."""

import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

TOOL = os.environ["SLUICE_PTX_TOOL"]
GOOD, FAULTS, FAILED = 0, 1, 2

PTX = """.version 8.4
.target sm_80
.address_size 64
.visible .entry store(.param .u64 buffer, .param .%s value)
{
.reg .pred %%p;
.reg .b64 %%a;
.reg .b32 %%t;
.reg .%s %%v;
ld.param.u64 %%a, [buffer];
ld.param.%s %%v, [value];
mov.u32 %%t, %%tid.x;
setp.eq.u32 %%p, %%t, 0;
@%%p st.global.%s [%%a], %%v;
ret;
}
"""
STRUCTURE = """.version 8.4
.target sm_80
.address_size 64
.visible .entry sum(.param .u64 buffer, .param .align 4 .b8 pair[8])
{
.reg .b64 %a;
.reg .b32 %r<3>;
ld.param.u64 %a, [buffer];
ld.param.u32 %r0, [pair];
ld.param.u32 %r1, [pair+4];
add.u32 %r2, %r0, %r1;
st.global.u32 [%a], %r2;
ret;
}
"""


def npy(data, kind):
    count = len(data) // int(kind[2:])
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({count},), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


class Tool(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, data):
        (self.folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return name

    def kernel(self, kind):
        return self.write(f"{kind}.ptx", PTX % (kind, kind, kind, kind))

    def call(self, *args, limit=None):
        command = [TOOL, *map(str, args)]
        if limit:  # of the address space, in KiB
            command = ["sh", "-c", f'ulimit -v {limit}; exec "$0" "$@"', *command]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60)

    def run_store(self, kind, value, expected):
        result = self.call("run", self.kernel(kind), "--kernel", "store", "--arg", f"zeros:u8[{len(expected)}],out=out.npy",
                           "--arg", value)
        self.assertEqual((result.returncode, result.stderr), (GOOD, ""), value + result.stdout)
        self.assertEqual((self.folder / "out.npy").read_bytes()[128:], expected, value)

    def refused(self, *args, says=(), limit=None):
        result = self.call(*args, limit=limit)
        self.assertEqual((result.returncode, result.stdout), (FAILED, ""), args)
        self.assertRegex(result.stderr, r"\Asluice-ptx: [^\n]+\n\Z", args)
        for part in says:
            self.assertIn(part, result.stderr)

    def test_scalars(self):
        for value, expected in (("f16:1.5", 0x3e00), ("f16:-0", 0x8000), ("f16:65519", 0x7bff), ("f16:65520", 0x7c00),
                                ("f16:6e-8", 0x0001), ("f16:2.98e-8", 0x0000), ("f16:6.097e-5", 0x03ff),
                                ("f16:1.00048828125", 0x3c00), ("f16:1.000488281251", 0x3c01), ("f16:inf", 0x7c00),
                                ("f16:2047.5", 0x6800),
                                ("bf16:1.5", 0x3fc0), ("bf16:-3.140625", 0xc049), ("u16:65535", 0xffff), ("s16:-2", 0xfffe)):
            self.run_store("b16", value, struct.pack("<H", expected))
        self.run_store("b32", "f32:0.1", struct.pack("<f", 0.1))
        self.run_store("b64", "s64:-5", struct.pack("<q", -5))

    def test_structures_by_value(self):
        ptx = self.write("sum.ptx", STRUCTURE)
        self.write("pair.npy", npy(struct.pack("<II", 40, 2), "|u1"))
        result = self.call("run", ptx, "--kernel", "sum", "--block", 1, "--arg", "zeros:u32[1]", "--arg", "struct:pair.npy")
        self.assertEqual(result.returncode, GOOD, result.stdout + result.stderr)
        self.assertIn("zeros:u32[1]: 42\n", result.stdout)
        self.write("triple.npy", npy(bytes(12), "<u4"))
        self.refused("run", ptx, "--kernel", "sum", "--arg", "zeros:u32[1]", "--arg", "struct:triple.npy",
                     says=("struct:triple.npy has 12 bytes, parameter 2 takes 8",))

    def test_buffers_from_files(self):
        self.write("in.npy", npy(struct.pack("<3f", 1, 2, 3), "<f4"))
        result = self.call("run", self.kernel("f32"), "--kernel", "store", "--arg", "in.npy,out=out.npy", "--arg", "f32:7")
        self.assertEqual(result.returncode, GOOD, result.stdout + result.stderr)
        self.assertIn("in.npy,out=out.npy: 7 2 3\n", result.stdout)
        self.assertEqual((self.folder / "out.npy").read_bytes(), npy(struct.pack("<3f", 7, 2, 3), "<f4"))

    def test_random_numbers_lie_in_their_range(self):
        for kind, code, low, high in (("f16", "e", -1, 1), ("f32", "f", -1, 1), ("f64", "d", -1, 1), ("s32", "i", 0, 100)):
            result = self.call("run", self.kernel("b32"), "--kernel", "store", "--grid", 1, "--block", 1, "--arg",
                               f"random:{kind}[4096],out=out.npy", "--arg", "u32:0")
            self.assertEqual(result.returncode, GOOD, result.stdout + result.stderr)
            data = (self.folder / "out.npy").read_bytes()[128:]
            values = struct.unpack(f"<4096{code}", data)[4:]
            self.assertTrue(low <= min(values) < low + (high - low) / 4 and high - (high - low) / 4 < max(values) < high, kind)

    def test_counts_are_of_what_ran(self):
        good = self.call("run", self.kernel("b32"), "--kernel", "store", "--block", 1, "--arg", "zeros:u8[4]", "--arg", "u32:5")
        self.assertIn("6 warp instructions, 6 thread instructions, 0 block barriers\n", good.stdout)
        self.assertIn("global memory: 1 request, 1 sector of 32 bytes (100.0% of the ideal)\n", good.stdout)
        self.assertIn("critical path", good.stdout)
        # The store is out of bounds.
        fault = self.call("run", "b32.ptx", "--kernel", "store", "--block", 1, "--arg", "zeros:u8[1]", "--arg", "u32:5")
        self.assertEqual(fault.returncode, FAULTS)
        self.assertIn("out of bounds", fault.stdout)
        self.assertIn("the launch stopped there", fault.stdout)
        self.assertIn("5 warp instructions, 5 thread instructions, 0 block barriers\n", fault.stdout)
        self.assertNotIn("critical path", fault.stdout)

    def test_explain(self):
        store = ("--kernel", "store", "--arg", "zeros:u8[4]", "--arg", "u32:5")
        result = self.call("explain", self.kernel("b32"), *store)
        self.assertEqual(result.returncode, GOOD, result.stderr)
        self.assertRegex(result.stdout, r"%.* PTX line 14\n")
        self.refused("explain", "b32.ptx", *store, "--no-checks", says=("--no-checks",))

    def test_wrong_usage_and_input(self):
        ptx = self.kernel("b32")
        real, whole = self.kernel("f32"), self.kernel("u32")
        self.write("big.npy", npy(bytes(4), ">f4"))
        store = ("run", ptx, "--kernel", "store")
        both = (*store, "--arg", "zeros:u8[4]", "--arg", "u32:5")
        for args, *says in (
            ([],), (["frobnicate"],), (["run"],), (["run", ptx],), (["run", "absent.ptx", "--kernel", "k"], "absent.ptx"),
            ([*both, "--frobnicate"], "--frobnicate"), ([*both, "--grid", "x"], "--grid"), ([*both, "--seed", "-1"], "--seed"),
            ([*both, "--seed", "18446744073709551616"], "--seed"), ([*both, "--block", "1,4294967297"], "--block"),
            ([*both, "--gpu", "abacus"], "abacus"), (["run", ptx, "--kernel", "k"], "it has store"),
            ([*both, "--block", "0"], "block 0 x 1 x 1", "from 1 x 1 x 1"), ([*both, "--grid", "1,0"], "from 1 x 1 x 1"),
            ([*store, "--arg", "zeros:u8[4]"], "store takes 2 parameters, but --arg is given 1 time"),
            ([*store, "--arg", "zeros:u8[4]", "--arg", "u8:5"], "u8:5 has 1 byte, parameter 2 takes 4"),
            ([*store, "--arg", "zeros:u8[4]", "--arg", "f8:5"], "f8"), ([*store, "--arg", "zeros:u8", "--arg", "u32:5"], "shape"),
            ([*store, "--arg", "zeros:u8[4]", "--arg", "struct:absent.npy"], "absent.npy"),
            ([*store, "--arg", "zeros:u8[4]", "--arg", "u32:5,out=x.npy"], "only buffers"),
            ([*store, "--arg", "big.npy", "--arg", "u32:5"], "big.npy", ">f4", "little-endian"),
            (["run", real, *store[2:], "--arg", "zeros:u8[4]", "--arg", "s32:5"], "s32:5", "parameter 2 is a floating-point number"),
            (["run", whole, *store[2:], "--arg", "zeros:u8[4]", "--arg", "f32:5"], "f32:5", "parameter 2 is a whole number"),
            ([*both, "--gpu", "tiny", "--grid", "100", "--block", "1024", "--cooperative"], "100 blocks in a cooperative launch", "2, 1 on each SM, fit"),
        ):
            with self.subTest(args):
                self.refused(*args, says=says)
        self.assertEqual(self.call("--help").returncode, GOOD)
        self.assertIn("--max-instructions", self.call("run", "--help").stdout)

    def test_large_buffers_are_refused_before_they_are_made(self):
        store = ("run", self.kernel("b32"), "--kernel", "store", "--gpu", "tiny", "--arg", "u32:5")
        # The address space has room for the GPU's memory, but for no second copy of the buffer.
        self.refused(*store[:-2], "--arg", "random:u8[8000000000]", *store[-2:], says=("no room for 8000000000 bytes",),
                     limit=6 << 20)
        with open(self.folder / "large.npy", "wb") as file:
            file.write(npy(b"", "|u1").replace(b"(0,), }" + b" " * 10, b"(3000000000,), }" + b" "))
            file.truncate(128 + 3000000000)
        self.refused(*store[:-2], "--arg", "large.npy", *store[-2:], says=("no room for 3000000000 bytes",), limit=6 << 20)
        self.refused(*store[:-2], "--arg", "zeros:u8[4]", *store[-2:], says=("choose a GPU with less memory",), limit=1 << 20)

    def test_messages_name_what_the_text_has(self):
        for body, *says in (
            ("{ .reg .b32 %r<2>; } { .reg .b32 %r<2>; add.u64 %r1, %r1, 1; }", "%r1 has the wrong size"),
            ("{ .reg .b32 x; } { .reg .b32 x; add.u64 x, x, 1; }", "x has the wrong size"),
            (".shared .align 3 .b8 x[4];", "an alignment of 3", "power of 2"),
            (".shared .align 8192 .b8 x[4];", "an alignment of 8192", "at most 4096"),
        ):
            ptx = self.write("text.ptx", ".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n%s\nret;\n}\n"
                             % body.replace(";", ";\n"))
            self.refused("run", ptx, "--kernel", "k", says=says)
        ptx = self.write("text.ptx", ".version 8.4\n.target sm_80\n.address_size 64\n.alias a, b;\n")
        self.refused("run", ptx, "--kernel", "k", says=("'.alias'", "not supported", "text.ptx:4"))


if __name__ == "__main__":
    unittest.main()
