"""A model's file that shrinks, is written to, goes or is replaced while the program computes with it. The program writes into a pipe
that nobody empties until the file is changed: so the file is in use by then, and the work is not done, whoever is faster."""

import os
import subprocess
import threading
import time
import unittest

from formats import safetensors_bytes, tiny_config, tiny_gguf, tiny_tensors
from harness import FAILED, GOOD, SLUICE, TIMEOUT, CliTest, environment, write_known_model
from json_cases import text

CONFIG = tiny_config(max_position_embeddings=1 << 20)
TOKENS = 3000  # a row of logits has 1 kB, a pipe holds 64
ROW = 4 * CONFIG["vocab_size"]


def watched(process, output, first_bytes, change):
    """Reads `first_bytes`, makes the change, reads the rest: (all bytes, exit code, standard error)."""
    killer = threading.Timer(TIMEOUT, process.kill)
    killer.start()
    try:
        with open(output, "rb", buffering=0) as pipe:
            data = b""
            while len(data) < first_bytes:
                piece = pipe.read(first_bytes - len(data))
                if not piece:
                    break
                data += piece
            change()
            while piece := pipe.read(1 << 16):
                data += piece
        return data, process.wait(), process.stderr.read().decode()
    finally:
        killer.cancel()
        process.kill()
        process.wait()
        process.stderr.close()


class Shrinking(CliTest):
    def setUp(self):
        super().setUp()
        (self.folder / "model").mkdir()
        (self.folder / "model" / "config.json").write_bytes(text(CONFIG))
        self.weights = self.folder / "model" / "model.safetensors"
        self.weights.write_bytes(safetensors_bytes(tiny_tensors(CONFIG)))
        self.gguf = self.folder / "model.gguf"
        self.gguf.write_bytes(tiny_gguf(CONFIG, "BF16").bytes())
        self.ids = self.folder / "ids"
        self.ids.write_text("1 2 3 " * (TOKENS // 3))

    def start(self, *command, stdout=subprocess.DEVNULL):
        return subprocess.Popen([SLUICE, *map(str, command)], stdin=subprocess.DEVNULL, stdout=stdout,
                                stderr=subprocess.PIPE, env=environment())

    def logits_while(self, model, change):
        pipe = self.folder / f"pipe{len(list(self.folder.iterdir()))}"
        os.mkfifo(pipe)
        process = self.start("logits", model, "--tokens", f"@{self.ids}", "-o", pipe)
        return watched(process, pipe, 3 * ROW, change)

    def assert_shrank(self, name, code, errors):
        self.assertEqual(code, FAILED, errors)
        self.assertRegex(errors, rf"\Asluice: error: [^\n]*shrank[^\n]*{name}[^\n]*\n\Z")

    def test_sound(self):
        for model in (self.weights.parent, self.gguf):
            data, code, errors = self.logits_while(model, lambda: None)
            self.assertEqual((code, errors), (GOOD, ""))
            self.assertGreater(len(data), TOKENS * ROW)

    def test_logits(self):
        for model, file in ((self.weights.parent, self.weights), (self.gguf, self.gguf)):
            whole = file.read_bytes()
            # In the last tensor, in the middle, to the header, to nothing.
            for size in (len(whole) - 1, len(whole) // 2, 100, 0):
                with self.subTest(file=file.name, size=size):
                    file.write_bytes(whole)
                    data, code, errors = self.logits_while(model, lambda: os.truncate(file, size))
                    self.assert_shrank(file.name, code, errors)
                    self.assertLess(len(data), TOKENS * ROW)

    def test_overwritten(self):
        """In place, by something of the same size: the results would be of neither."""
        def cp(data):
            return lambda file: file.write_bytes(data)

        def poke(file):
            with open(file, "r+b") as stream:
                stream.seek(-1, os.SEEK_END)
                stream.write(b"\1")

        for model, file in ((self.weights.parent, self.weights), (self.gguf, self.gguf)):
            whole = file.read_bytes()
            for name, change in (("zeros", cp(bytes(len(whole)))), ("same", cp(whole)), ("longer", cp(whole + b"x")),
                                 ("one byte", poke)):
                with self.subTest(file=file.name, change=name):
                    file.write_bytes(whole)
                    os.utime(file, (0, 0))
                    data, code, errors = self.logits_while(model, lambda: change(file))
                    self.assertEqual(code, FAILED, errors)
                    # Whoever writes over a file empties it first, and may be seen in between.
                    says = rf"(was changed|shrank from \d+ to \d+ bytes) while it was in use \([^\n]*{file.name}\)"
                    self.assertRegex(errors, rf"\Asluice: error: {says}[^\n]*\n\Z")
                    self.assertLess(len(data), TOKENS * ROW)

    def test_run(self):
        model = write_known_model(self.folder / "known")
        read_end, write_end = os.pipe()
        process = self.start("run", model, "--raw", "-p", "a", "-n", 1_000_000, stdout=write_end)
        os.close(write_end)
        data, code, errors = watched(process, read_end, 10, lambda: os.truncate(model / "model.safetensors", 5000))
        self.assertTrue(data.startswith(b"bcdefghijk"), data[:20])
        # What came before the change was right, and nothing came after it.
        alphabet = bytes(range(ord("a"), ord("z") + 1))
        text_ = data.rstrip(b"\n")
        self.assertEqual(text_, (alphabet * (len(text_) // 26 + 2))[1 : len(text_) + 1])
        self.assertEqual(code, FAILED, errors)
        self.assertRegex(errors, r"(\A|\n)sluice: error: [^\n]*shrank[^\n]*model.safetensors[^\n]*\n\Z")
        self.assertEqual(errors.count("sluice: error:"), 1)

    def test_bench(self):
        process = self.start("bench", self.weights.parent, "-p", 0, "-n", 64, "--rows", 1, "--reps", 1000, "-t", 1)
        maps = f"/proc/{process.pid}/maps"
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline and process.poll() is None:  # by then it has been loaded at least once
            with open(maps, encoding="utf-8") as file:
                if str(self.weights) in file.read():
                    break
        time.sleep(1)  # loading takes a few milliseconds; if it is still on, it has words of its own
        os.truncate(self.weights, 5000)
        code = process.wait(TIMEOUT)
        with process.stderr:
            errors = process.stderr.read().decode()
        self.assertEqual(code, FAILED, errors)
        self.assertRegex(errors, r"\Asluice: error: [^\n]*(shrank[^\n]*model.safetensors|can't be read again)[^\n]*\n\Z")

    def test_gone_or_replaced_is_harmless(self):
        def replace(file):
            (self.folder / "other").write_bytes(b"x")
            os.replace(self.folder / "other", file)

        for change in (os.remove, replace):
            for model, file in ((self.weights.parent, self.weights), (self.gguf, self.gguf)):
                whole = file.read_bytes()
                data, code, errors = self.logits_while(model, lambda: change(file))
                self.assertEqual((code, errors), (GOOD, ""))
                self.assertGreater(len(data), TOKENS * ROW)
                file.write_bytes(whole)


if __name__ == "__main__":
    unittest.main()
