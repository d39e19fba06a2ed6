"""Wrong usage, help and version: exit codes, and one clear line."""

import subprocess
import unittest

from harness import FAILED, GOOD, SLUICE, WRONG_USAGE, CliTest, environment, write_known_model

COMMANDS = ("run", "perplexity", "logits", "tokenize", "inspect", "bench", "devices")
COMMON = ("--device", "-t", "--threads", "-c", "--ctx", "--seed", "-v", "--verbose", "-h", "--help", "--version")
OWN = {
    "run": ("-p", "-f", "-n", "--raw", "--system", "--thinking", "--temp", "--top-k", "--top-p", "--min-p",
            "--presence-penalty", "--frequency-penalty", "--repeat-penalty", "--stop", "--messages", "--json"),
    "perplexity": ("-f", "-n", "--chunks", "--json"),
    "logits": ("--tokens", "--split", "-o"),
    "tokenize": ("-p", "-f", "--decode", "--messages", "--thinking", "--json"),
    "inspect": ("--json", "--tensor", "-o"),
    "bench": ("-p", "-n", "--rows", "--reps", "--shape", "--head", "--json"),
    "devices": ("--json",),
}


class Usage(CliTest):
    def test_help_names_every_option_of_the_interface(self):
        for command in COMMANDS:
            words = self.good(command, "--help").decode().replace(",", " ").split()
            for option in COMMON + OWN[command]:
                self.assertIn(option, words, command)
        self.assertEqual(self.good("run", "-h"), self.good("run", "--help"))

    def test_help_shows_the_commands_that_exist_and_no_others(self):
        words = self.good("--help").decode().split()
        for command in COMMANDS:
            self.assertIn(command, words)
        for absent in ("chat", "serve", "completion", "man"):
            self.assertNotIn(absent, words)

    def test_version_says_what_is_built_in(self):
        text = self.good("--version").decode()
        self.assertRegex(text, r"\Asluice \d+\.\d+\.\d+ \(commit [0-9a-z-]+\)\nisa: .+\ndevices: cpu, oracle(, cuda, emulated)?\ncuda: .+\n\Z")
        for command in COMMANDS:
            self.assertEqual(self.good(command, "--version").decode(), text)

    def test_wrong_usage(self):
        model = write_known_model(self.folder / "model")
        out = self.folder / "x.npy"
        for args in (
            [], ["frobnicate"], ["--frobnicate"], ["run", "--frobnicate"], ["run", model, "extra", "-p", "x"],
            ["run", model, "-p"], ["run", model, "-p", "x", "-f", "y"], ["run", model, "-p", ""],
            ["run", model, "-p", "x", "-n", "0"], ["run", model, "-p", "x", "-n", "-1"],
            ["run", model, "-p", "x", "-n", "many"], ["run", model, "-p", "x", "-n", "1e3"],
            ["run", model, "-p", "x", "-n", "0x10"], ["run", model, "-p", "x", "-n", "99999999999999999999999"],
            ["run", model, "-p", "x", "--temp", "nan"], ["run", model, "-p", "x", "--temp", "-0.1"],
            ["run", model, "-p", "x", "--temp", "inf"], ["run", model, "-p", "x", "--top-p", "1.5"],
            ["run", model, "-p", "x", "--min-p", "-1"], ["run", model, "-p", "x", "--top-k", "-3"],
            ["run", model, "-p", "x", "--repeat-penalty", "0"], ["run", model, "-p", "x", "--thinking", "maybe"],
            ["run", model, "-p", "x", "--raw", "--system", "y"], ["run", model, "-p", "x", "--stop", ""],
            ["run", model, "-p", "x", "--stop", "\udcff"], ["run", model, "-p", "x", "--stop", "a", "--stop", "\udcc3x"],
            ["run", model, "-p", "x", "--head", "half"], ["run", model, "-p", "x", "--device", "oracle", "--head", "screened"],
            ["inspect", model, "--device", "oracle", "--head", "screened"],
            ["run", model, "-p", "x", "-c", "0"], ["run", model, "-p", "x", "-t", "0"],
            ["run", model, "-p", "x", "--seed", "-1"], ["run", model, "-p", "x", "--seed", "18446744073709551616"],
            ["run", model, "-p", "x", "--seed", ""], ["run", model, "-p", "x", "-c", 1 << 40],
            ["run", model, "-p", "x", "--device", "gpu"], ["run", model, "-p", "x", "--device", "cuda:"],
            ["logits", model], ["logits", model, "--tokens", "1"], ["logits", model, "-o", out],
            ["logits", model, "--tokens", "", "-o", out], ["logits", model, "--tokens", "1;2", "-o", out],
            ["logits", model, "--tokens", "1,two", "-o", out], ["logits", model, "--tokens", "1", "-o", ""],
            ["logits", model, "--tokens", "1,2,3", "--split", "1,1", "-o", out],
            ["logits", model, "--tokens", "1,2,3", "--split", "1,3", "-o", out],
            ["logits", model, "--tokens", "1,2,3", "--split", "0,3", "-o", out],
            ["logits", model, "--tokens", "1,2,3", "--split", "4,-1", "-o", out],
            ["logits", model, "--tokens", "1,2,3", "--split", "", "-o", out],
            ["logits", model, "--tokens", "1,2,3", "--split", "18446744073709551615,4", "-o", out],
            ["logits", model, "--tokens", "1,,2", "-o", out], ["logits", model, "--tokens", ",1", "-o", out],
            ["logits", model, "--tokens", "1,", "-o", out], ["logits", model, "--tokens", "1 , , 2", "-o", out],
            ["logits", model, "--tokens", "1,2,3", "--split", "1,,2", "-o", out],
            ["inspect", model, "-c", 1 << 40], ["inspect", model, "-o", out],
            ["inspect", model, "--tensor", "lm_head.weight", "-o", ""],
            ["run", model, "--messages", "x", "-p", "y"], ["run", model, "--messages", "x", "-f", "y"],
            ["run", model, "--messages", "x", "--system", "y"], ["run", model, "--messages", "x", "--raw"],
            ["tokenize", model, "--messages", "x", "-p", "y"], ["tokenize", model, "--messages", "x", "--decode"],
            ["tokenize", model, "-p", "x", "--thinking", "on"], ["perplexity", model, "-n", "0"],
            ["perplexity", model, "-p", "x"], ["devices", model],
        ):
            with self.subTest(args=args):
                self.fails(WRONG_USAGE, *args)
        self.assertFalse(out.exists())

    def test_what_is_wrong_is_named(self):
        """`sluice: error: WHAT (WHERE): WHAT TO DO`"""
        self.fails(WRONG_USAGE, says="no command given: see sluice --help")
        self.fails(WRONG_USAGE, "--raw", says="no command given: see sluice --help")
        self.fails(WRONG_USAGE, "frob\n", says="there is no such command (frob\\x0a): see sluice --help")
        self.fails(WRONG_USAGE, "run", "--frob", says="not expected here (--frob): see sluice run --help")
        self.fails(WRONG_USAGE, "run", "-n", "0", says='"0" is not a whole number')
        self.fails(WRONG_USAGE, "run", "-n", "0", says="(-n,--n-predict): see sluice run --help")

    def test_devices_that_are_not_built_in(self):
        if b", emulated" in self.good("--version"):
            self.skipTest("the CUDA kernels are built in")
        model = write_known_model(self.folder / "model")
        for device in ("emulated", "cuda", "cuda:1"):
            for args in (["run", model, "-p", "x"], ["inspect", model], ["tokenize", model, "-p", "x"], ["devices"],
                         ["perplexity", model, "-f", model / "config.json"],
                         ["logits", model, "--tokens", "1", "-o", self.folder / "x.npy"]):
                self.fails(FAILED, *args, "--device", device, says="use --device cpu or --device oracle")
        self.good("inspect", model, "--device", "oracle")

    def test_closed_standard_streams(self):
        """Results must not go into a file that happens to get a standard stream's number."""
        model = write_known_model(self.folder / "model")
        command = f"exec '{SLUICE}' inspect '{model}' >&-"
        result = subprocess.run(["sh", "-c", command], capture_output=True, env=environment(), timeout=60)
        self.assertEqual(result.returncode, FAILED, result.stderr)
        self.assertIn(b"standard output", result.stderr)
        command = f"exec '{SLUICE}' inspect '{model}' 2>&- <&-"
        result = subprocess.run(["sh", "-c", command], capture_output=True, env=environment(), timeout=60)
        self.assertEqual(result.returncode, GOOD)

    def test_results_that_cannot_be_written(self):
        model = write_known_model(self.folder / "model")
        for args in (["--help"], ["--version"], ["inspect", model], ["inspect", model, "--json"],
                     ["tokenize", model, "-p", "x"], ["run", model, "-p", "x"], ["run", model, "-p", "x", "--json"]):
            with self.subTest(args=args), open("/dev/full", "wb") as full:
                result = subprocess.run([SLUICE, *map(str, args)], stdout=full, stderr=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL, env=environment(), timeout=60)
                self.assertEqual(result.returncode, FAILED)
                self.assertRegex(result.stderr.decode(), r"sluice: error: [^\n]+standard output[^\n]+\n\Z")


if __name__ == "__main__":
    unittest.main()
