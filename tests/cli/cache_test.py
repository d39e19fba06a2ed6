"""--cache: the packed file is made once, read afterwards, never believed blindly, and never needed."""

import os
import pathlib
import shutil
import unittest

from harness import GOLDEN, WRONG_USAGE, CliTest, environment, read_npy, write_known_model

TOKENS = ["--tokens", "1,2,3,4,5", "-t", 2]


class Cache(CliTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        shutil.copytree(GOLDEN / "nested_tied", self.model)
        self.cache = self.folder / "cache"
        self.env = environment(SLUICE_CACHE_DIR=self.cache)

    def logits(self, *args, model=None, env=None, warns=0):
        """The bytes of the logits; `warns` lines on standard error."""
        output = self.folder / "out.npy"
        result = self.sluice("logits", model or self.model, *TOKENS, *args, "-o", output, env=env or self.env)
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stderr.decode().splitlines()
        self.assertEqual(len(lines), warns, lines)
        self.assertTrue(all(line.startswith("sluice: warning: ") for line in lines), lines)
        return read_npy(output)[2]

    def packed(self):
        return sorted(self.cache.glob("packed/*.packed"))

    def test_a_file_is_made_once_and_then_read(self):
        plain = self.logits()
        self.assertFalse(self.cache.exists(), "only --cache keeps anything")
        self.assertEqual(self.logits("--cache"), plain)
        (file,) = self.packed()
        made = os.stat(file)
        self.assertEqual(made.st_mode & 0o777, 0o600)
        self.assertEqual(self.logits("--cache"), plain)
        self.assertEqual(os.stat(file).st_mtime_ns, made.st_mtime_ns)
        self.assertEqual([file], self.packed())
        self.assertEqual(self.logits("--cache", model=shutil.copytree(self.model, self.folder / "copy")), plain)
        self.assertEqual([file], self.packed(), "a copy is the same model")

    def test_a_damaged_file_is_mended(self):
        plain = self.logits("--cache")
        (file,) = self.packed()
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        self.assertEqual(self.logits("--cache", warns=1), plain)
        self.assertEqual(file.read_bytes(), data, "mended")

    def test_a_changed_model(self):
        self.logits("--cache")
        weights = self.model / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-3] ^= 1
        weights.write_bytes(data)
        self.assertEqual(self.logits("--cache"), self.logits())
        self.assertEqual(len(self.packed()), 2)

    def test_where_it_lies(self):
        home, base = self.folder / "home", self.folder / "base"
        home.mkdir()
        plain = self.logits()
        for env, place in ((environment(HOME=home), home / ".cache" / "sluice"),
                           (environment(HOME=home, XDG_CACHE_HOME=base), base / "sluice"),
                           (environment(HOME=home, XDG_CACHE_HOME=base, SLUICE_CACHE_DIR=self.cache), self.cache)):
            self.assertEqual(self.logits("--cache", env=env), plain)
            self.assertEqual(len(list(place.glob("packed/*.packed"))), 1)
            shutil.rmtree(place)
        self.assertEqual(self.logits("--cache", env=environment(HOME=None), warns=1), plain)
        self.assertEqual(self.logits("--cache", env=environment(HOME=home, XDG_CACHE_HOME="relative")), plain)
        self.assertFalse(pathlib.Path("relative").exists())

    def test_a_folder_that_cannot_be_written(self):
        plain = self.logits()
        self.cache.write_text("a file, not a folder")
        self.assertEqual(self.logits("--cache", warns=1), plain)
        result = self.sluice("logits", self.model, *TOKENS, "--cache", "-o", self.folder / "o.npy", env=self.env)
        self.assertEqual(result.stderr.decode(), "sluice: warning: the packed weights are not kept: the folder can't be made: Not a directory "
                         f"({self.cache}/packed): set SLUICE_CACHE_DIR to a folder that can be written\n")

    def test_the_folder_is_no_value_of_the_option(self):
        result = self.sluice("logits", self.model, *TOKENS, "--cache=/x", "-o", self.folder / "o.npy")
        self.assertEqual(result.returncode, WRONG_USAGE)
        self.assertEqual(result.stderr.decode(), 'sluice: error: takes no value, but is given "/x" (--cache): see sluice logits --help\n')

    def test_other_commands(self):
        model = write_known_model(self.folder / "known")
        for _ in range(2):
            self.assertEqual(self.good("run", model, "--raw", "-p", "a", "-n", 5, "--cache", env=self.env), b"bcdef\n")
        text = self.folder / "text"
        text.write_text("abcdefghij" * 10)
        self.good("perplexity", model, "-f", text, "-c", 8, "--cache", env=self.env)
        json = self.good_json("bench", model, "-p", 4, "-n", 2, "--rows", 1, "--reps", 1, "--cache", "--json", env=self.env)
        self.assertTrue(json["load"]["from_cache"])
        self.good("logits", self.model, *TOKENS, "--device", "oracle", "--cache", "-o", self.folder / "o.npy", env=self.env)


if __name__ == "__main__":
    unittest.main()
