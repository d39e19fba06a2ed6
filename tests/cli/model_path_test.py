"""Where MODEL is found, and what is said when it isn't or isn't good."""

import os
import pathlib
import shutil
import unittest

from gguf_file import write_known_gguf, write_split_gguf
from harness import FAILED, SLUICE, SOURCE, CliTest, chat_template, environment, write_known_model


class ModelPath(CliTest):
    def setUp(self):
        super().setUp()
        self.model = write_known_model(self.folder / "model")

    def found(self, *args, **options):
        return pathlib.Path(self.good_json("inspect", "--json", *args, **options)["model"]).resolve()

    # --- the bundled model ---

    def lonely_program(self):
        """A copy of the program with no model near it."""
        folder = self.folder / "alone" / "bin"
        folder.mkdir(parents=True)
        return pathlib.Path(shutil.copy(SLUICE, folder / "sluice"))

    def test_the_bundled_model_from_anywhere(self):
        if not (SOURCE / "models" / "demo" / "config.json").exists():
            self.fail("models/demo has no config.json")
        for cwd in ("/", self.folder):
            self.assertEqual(self.found(cwd=cwd), (SOURCE / "models" / "demo").resolve())
        link = self.folder / "sluice-link"
        link.symlink_to(SLUICE)
        self.assertEqual(self.found(cwd="/", program=link), (SOURCE / "models" / "demo").resolve())

    def test_the_bundled_model_answers(self):
        text = self.good("run", "-p", "What is 17 + 25?", "-n", 16, cwd="/").decode()
        self.assertRegex(text, r"\A\S[^\0]*\n\Z")
        ids = self.good("tokenize", "-p", "What is 17 + 25?", cwd="/").decode()
        self.assertEqual(self.good("tokenize", "--decode", "-p", ids, cwd="/").decode(), "What is 17 + 25?")

    def test_beside_and_above_the_program(self):
        program = self.lonely_program()
        self.fails(FAILED, "inspect", program=program, cwd="/", says="SLUICE_MODEL_PATH")
        for place in (program.parent.parent / "share" / "sluice" / "models" / "demo",
                      program.parent / "models" / "demo", program.parent.parent / "models" / "demo"):
            write_known_model(place)
            self.assertEqual(self.found(program=program, cwd="/"), place.resolve())

    def test_sluice_model_path(self):
        demo = write_known_model(self.folder / "many" / "demo")
        program = self.lonely_program()
        for value, want in ((self.model, self.model), (self.folder / "many", demo), (demo, demo),
                            (f"/absent:{self.model}", self.model), (f":{self.folder / 'many'}::{self.model}", demo)):
            for runner in (SLUICE, program):
                got = self.found(program=runner, env=environment(SLUICE_MODEL_PATH=value))
                self.assertEqual(got, want.resolve(), value)
        self.fails(FAILED, "inspect", program=program, env=environment(SLUICE_MODEL_PATH="/absent"))
        # MODEL wins.
        self.assertEqual(self.found(self.model, env=environment(SLUICE_MODEL_PATH=demo)), self.model.resolve())

    # --- Hugging Face's cache ---

    def cache(self, hub, revision="0123456789abcdef0123456789abcdef01234567", model=None):
        folder = hub / "models--Qwen--Qwen3.5-0.8B"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(revision)
        snapshot = folder / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
        snapshot.mkdir(parents=True)
        for file in (model or self.model).iterdir():  # as the hub does: links to blobs
            (snapshot / file.name).symlink_to(file)
        return snapshot

    def test_an_id_in_the_cache(self):
        name = "Qwen/Qwen3.5-0.8B"
        cases = ((("HF_HUB_CACHE",), "a", "a"), (("HF_HOME",), "b", "b/hub"),
                 (("XDG_CACHE_HOME",), "c", "c/huggingface/hub"), (("HOME",), "d", "d/.cache/huggingface/hub"))
        for (variable,), value, hub in cases:
            env = environment(HOME=self.folder, **{})
            env[variable] = str(self.folder / value)
            self.fails(FAILED, "inspect", name, env=env, says="hf download Qwen/Qwen3.5-0.8B")
            snapshot = self.cache(self.folder / hub)
            self.assertEqual(self.found(name, env=env), snapshot.resolve(), variable)
            self.assertEqual(self.good("run", name, "-p", "x", env=env), b"FINE!\n")

    def test_a_partial_or_hostile_cache(self):
        env = environment(HF_HUB_CACHE=self.folder / "hub")
        for revision in ("", "../../../../model", ".", "a b", "\n", "x" * 300, "absent", "a\0b"):
            shutil.rmtree(self.folder / "hub", ignore_errors=True)
            self.cache(self.folder / "hub", revision)
            self.fails(FAILED, "inspect", "Qwen/Qwen3.5-0.8B", env=env, says=str(self.folder / "hub"))
        shutil.rmtree(self.folder / "hub")
        snapshot = self.cache(self.folder / "hub")
        (snapshot / "model-00002-of-00002.safetensors").symlink_to("../../blobs/0123")
        said = self.fails(FAILED, "inspect", "Qwen/Qwen3.5-0.8B", env=env, says="model-00002-of-00002.safetensors")
        self.assertIn("hf download Qwen/Qwen3.5-0.8B", said)
        for name in ("../absent", "Qwen/..absent", "./absent", "a/b/c", "Qwen/", "/absent/x"):
            self.fails(FAILED, "inspect", name, env=env, cwd=self.folder / "hub")

    # --- what is no model ---

    # --- GGUF ---

    def test_a_gguf_file_is_the_same_model(self):
        file = write_known_gguf(self.folder / "known.gguf", chat_template())
        self.assertEqual(self.found(file), file.resolve())
        self.assertEqual(self.good_json("inspect", "known.gguf", "--json", cwd=self.folder)["model"], "known.gguf")
        self.assertEqual(self.good_json("inspect", file, "--json")["config"]["model_type"], "qwen35")
        for args in (["run", "-p", "x", "--temp", 0], ["run", "--raw", "-p", "a", "-n", 30, "--temp", 0],
                     ["tokenize", "-p", "<think>abc<|im_end|>"], ["perplexity", "-c", 8, "-f", "-"]):
            want = self.good(*args, self.model, input=b"abcdefgh" * 3)
            self.assertEqual(self.good(*args, file, input=b"abcdefgh" * 3), want, args)
        outputs = []
        for model in (self.model, file):
            self.good("logits", model, "--tokens", "97,98,99", "-o", self.folder / "out.npy")
            outputs.append((self.folder / "out.npy").read_bytes())
        self.assertEqual(*outputs)

    def test_a_folder_with_gguf(self):
        folder = self.folder / "gguf"
        file = write_known_gguf(folder / "known-Q8_0.gguf", chat_template())
        (folder / "mmproj-F16.gguf").write_bytes(b"GGUF")  # the vision part is no model of its own
        (folder / "config.json").write_text("{}")
        self.assertEqual(self.found(folder), file.resolve())
        self.assertEqual(self.good("run", folder, "-p", "x"), b"FINE!\n")
        self.assertEqual(self.good("tokenize", folder, "-p", "ab"), b"97 98\n")
        shutil.copy(file, folder / "known-BF16.gguf")
        says = "2 GGUF models: known-BF16.gguf, known-Q8_0.gguf"
        self.fails(FAILED, "inspect", folder, says=says)
        self.fails(FAILED, "tokenize", folder, "-p", "x", says=says)
        shutil.copy(file, self.model)  # beside safetensors these win
        self.assertEqual(self.found(self.model), self.model.resolve())

    def test_a_split_gguf_is_one_model(self):
        folder = self.folder / "split"
        first, second = write_split_gguf(folder, "known", chat_template())
        for model in (folder, first, second):
            self.assertEqual(self.good("run", model, "-p", "x", "--temp", 0), b"FINE!\n")
        self.assertEqual(self.found(folder), first.resolve())
        second.unlink()
        self.fails(FAILED, "run", folder, "-p", "x", says="00002-of-00002")
        write_split_gguf(folder, "other")
        self.fails(FAILED, "inspect", folder, says="2 GGUF models: known-00001-of-00002.gguf, other-00001-of-00002.gguf")

    def test_an_id_in_the_cache_that_has_gguf(self):
        write_known_gguf(self.folder / "files" / "known.gguf", chat_template())
        env = environment(HF_HUB_CACHE=self.folder / "hub")
        snapshot = self.cache(self.folder / "hub", model=self.folder / "files")
        self.assertEqual(self.found("Qwen/Qwen3.5-0.8B", env=env), (snapshot / "known.gguf").resolve())
        self.assertEqual(self.good("run", "Qwen/Qwen3.5-0.8B", "-p", "x", env=env), b"FINE!\n")
        (snapshot / "second.gguf").symlink_to(snapshot / "known.gguf")
        self.fails(FAILED, "inspect", "Qwen/Qwen3.5-0.8B", env=env, says="2 GGUF models")

    def test_the_bundled_model_may_be_gguf(self):
        file = write_known_gguf(self.folder / "many" / "demo" / "known.gguf")
        for value in (file, file.parent, self.folder / "many"):
            self.assertEqual(self.found(env=environment(SLUICE_MODEL_PATH=value)), file.resolve())

    def test_bad_gguf_files(self):
        file = self.folder / "bad.gguf"
        for data in (b"", b"GGUF", b"\0" * 64, b"\xff" * 64):
            file.write_bytes(data)
            for args in (["inspect", file], ["run", file, "-p", "x", "--seed", 1], ["tokenize", file, "-p", "x"],
                         ["logits", file, "--tokens", 1, "-o", self.folder / "x.npy"]):
                self.fails(FAILED, *args, says=str(file))
        self.fails(FAILED, "inspect", self.folder / "absent.gguf", says="no such MODEL")
        self.fails(FAILED, "inspect", "absent/model.gguf", says="no such MODEL")  # no id, either
        folder = self.folder / "folder.gguf"
        folder.mkdir()
        self.fails(FAILED, "inspect", folder, says="config.json")

    def test_things_that_are_no_model(self):
        empty = self.folder / "empty"
        empty.mkdir()
        self.fails(FAILED, "inspect", empty, says="config.json")
        self.fails(FAILED, "inspect", self.model / "config.json", says="give its folder")
        self.fails(FAILED, "inspect", self.folder / "absent", says="absent")
        self.fails(FAILED, "inspect", "/dev/null")
        self.fails(FAILED, "inspect", "\x1b[31mred", says="\\x1b[31mred")

    def test_broken_models(self):
        weights = (self.model / "model.safetensors").read_bytes()
        (header,) = (int.from_bytes(weights[:8], "little"),)

        def broken(name, data):
            folder = self.folder / "broken"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.model, folder)
            if data is None:
                (folder / name).unlink()
            elif data == "folder":
                (folder / name).unlink()
                (folder / name).mkdir()
            elif data == "loop":
                (folder / name).unlink()
                (folder / name).symlink_to(name)
            else:
                (folder / name).write_bytes(data)
            for args in (["inspect", folder], ["run", folder, "-p", "x", "--seed", "1"],
                         ["logits", folder, "--tokens", "1", "-o", self.folder / "out.npy"]):
                self.fails(FAILED, *args)

        for name in ("config.json", "model.safetensors"):
            for data in (None, "folder", "loop", b"", b"{", b"null", b"\0" * 64, b"\xff" * 64, b"[" * 100_000):
                with self.subTest(file=name, data=str(data)[:20]):
                    broken(name, data)
        for length in (7, 8, 9, header, 8 + header, len(weights) - 1):
            with self.subTest(truncated=length):
                broken("model.safetensors", weights[:length])
        for data in (None, b"", b"{", b"{}", b"\0" * 64, b"[" * 100_000):
            with self.subTest(tokenizer=str(data)[:20]):
                if data is None:
                    (self.model / "tokenizer.json").unlink()
                else:
                    (self.model / "tokenizer.json").write_bytes(data)
                self.fails(FAILED, "run", self.model, "-p", "x", "--seed", "1", says="tokenizer.json")
        self.assertFalse((self.folder / "out.npy").exists())

    def test_unreadable_files(self):
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            path = self.model / name
            path.chmod(0)
            if os.access(path, os.R_OK):  # root reads everything: nothing to see then but a link to nowhere
                path.unlink()
                path.symlink_to("/absent")
            self.fails(FAILED, "run", self.model, "-p", "x", "--seed", "1")
            path.unlink()
            shutil.rmtree(self.model)
            self.model = write_known_model(self.folder / "model")

    def test_folders_that_may_not_be_entered(self):
        options = self.unprivileged()
        closed = self.folder / "closed"
        cached = closed / "models--a--b"
        cached.mkdir(parents=True)
        closed.chmod(0)
        self.addCleanup(closed.chmod, 0o700)
        for model in (closed / "x.gguf", closed / "x", closed):
            self.fails(FAILED, "inspect", model, says=f"Permission denied ({model})", **options)
        self.fails(FAILED, "inspect", "a/b", says="Permission denied", env=environment(HF_HUB_CACHE=closed), **options)
        loop = self.folder / "loop.gguf"
        loop.symlink_to(loop)
        self.fails(FAILED, "inspect", loop, says="Too many levels of symbolic links")


if __name__ == "__main__":
    unittest.main()
