"""sluice logits against Hugging Face's numbers, whole and split; what is written when something goes wrong."""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
import unittest

from harness import (FAILED, GOLDEN, INTERRUPTED, SLUICE, TIMEOUT, CliTest, config_json, environment, read_npy, relative_rms,
                     tensor_shapes, write_known_model, write_safetensors)
from seeded import seeded

# Of tests/oracle/golden_test.cpp, where it is derived: fp32 sums in another order than the reference's.
TOLERANCE = 1e-5


def cases():
    for folder in sorted(folder for folder in GOLDEN.iterdir() if folder.is_dir()):
        prompts = json.loads((folder / "tokens.json").read_text())["prompts"]
        yield folder, prompts


def list_of(ids):
    return ",".join(map(str, ids))


class Logits(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out.npy"

    def logits(self, model, *args):
        self.assertEqual(self.good("logits", model, "-o", self.out, "--device", "oracle", *args), b"")
        return read_npy(self.out)

    def test_every_golden_checkpoint(self):
        for folder, prompts in cases():
            i = max(range(len(prompts)), key=lambda i: len(prompts[i]))
            want_shape, want, _ = read_npy(folder / f"logits_{i}.npy")
            with self.subTest(case=folder.name, prompt=i):
                shape, got, _ = self.logits(folder, "--tokens", list_of(prompts[i]))
                self.assertEqual(shape, want_shape)
                self.assertLess(relative_rms(got, want), TOLERANCE)

    def test_a_head_of_its_own_counts_though_the_config_ties_it(self):
        """As fine-tunes are saved by some: transformers warns and takes the head."""
        for case in ("tiny", "nested_untied"):
            folder = self.folder / case
            shutil.copytree(GOLDEN / case, folder)
            config = json.loads((folder / "config.json").read_text())
            self.assertFalse(config["tie_word_embeddings"])
            config["tie_word_embeddings"] = True
            (folder / "config.json").write_text(json.dumps(config))
            for device in ("cpu", "oracle"):
                with self.subTest(case=case, device=device):
                    got, want = (self.good("logits", model, "--tokens", "1,2,3", "-o", "/dev/stdout", "--device", device)
                                 for model in (folder, GOLDEN / case))
                    self.assertEqual(got, want)

    def test_one_wrong_token_is_seen(self):
        folder, prompts = next(iter(cases()))
        i = max(range(len(prompts)), key=lambda i: len(prompts[i]))
        _, want, _ = read_npy(folder / f"logits_{i}.npy")
        changed = [(prompts[i][0] + 1) % 13, *prompts[i][1:]]
        _, got, _ = self.logits(folder, "--tokens", list_of(changed))
        self.assertGreater(relative_rms(got, want), 100 * TOLERANCE)

    def test_pieces_change_nothing(self):
        rng = seeded(self.id())
        for folder, prompts in rng.sample(list(cases()), 4):
            tokens = max(prompts, key=len)
            lengths, left = [], len(tokens)
            while left:
                lengths.append(rng.randint(1, min(left, 1 + len(tokens) // 3)))
                left -= lengths[-1]
            _, _, whole = self.logits(folder, "--tokens", list_of(tokens))
            with self.subTest(case=folder.name, split=lengths):
                _, _, split = self.logits(folder, "--tokens", list_of(tokens), "--split", list_of(lengths))
                self.assertEqual(whole, split)
            _, _, single = self.logits(folder, "--tokens", list_of(tokens), "--split", list_of([1] * len(tokens)))
            self.assertEqual(whole, single)

    def test_forms_of_the_token_list(self):
        folder, prompts = next(iter(cases()))
        tokens = max(prompts, key=len)
        _, _, want = self.logits(folder, "--tokens", list_of(tokens))
        ids = self.folder / "ids"
        for text in (list_of(tokens), " ".join(map(str, tokens)) + "\n", json.dumps(tokens),
                     "\n".join(map(str, tokens))):
            ids.write_text(text)
            self.assertEqual(self.logits(folder, "--tokens", f"@{ids}")[2], want)

    def test_no_tokenizer_and_no_other_file_is_needed(self):
        names = {path.name for path in (GOLDEN / "tiny").iterdir()}
        self.assertNotIn("tokenizer.json", names)
        self.assertEqual(self.logits(GOLDEN / "tiny", "--tokens", "5")[0], (1, 13))

    def test_ids_outside_the_vocabulary(self):
        for ids in ("13", "1,2,13", "-1", "2147483648", "99999999999999999999", "-99999999999999999999"):
            self.fails(FAILED, "logits", GOLDEN / "tiny", f"--tokens={ids}", "-o", self.out, says="vocabulary")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_bad_token_files(self):
        path = self.folder / "ids"
        self.fails(FAILED, "logits", GOLDEN / "tiny", "--tokens", f"@{path}", "-o", self.out, says=str(path))
        for text in ("", "one", "1,2.5", "[1,2", "\0"):
            path.write_text(text)
            self.fails(FAILED, "logits", GOLDEN / "tiny", "--tokens", f"@{path}", "-o", self.out, says=str(path))
        self.fails(FAILED, "logits", GOLDEN / "tiny", "--tokens", f"@{self.folder}", "-o", self.out)

    def test_more_tokens_than_the_context(self):
        self.fails(FAILED, "logits", GOLDEN / "tiny", "--tokens", "1,2,3", "-c", "2", "-o", self.out, says="context")

    def test_places_that_cannot_be_written(self):
        for place in ("/dev/full", self.folder, self.folder / "absent" / "out.npy", "/proc/out.npy"):
            with self.subTest(place=place):
                self.fails(FAILED, "logits", GOLDEN / "tiny", "--tokens", "1", "-o", place, says=str(place))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_failed_run_leaves_the_old_file(self):
        self.out.write_text("old")
        self.fails(FAILED, "logits", GOLDEN / "tiny", "--tokens", "99", "-o", self.out)
        self.fails(FAILED, "logits", self.folder, "--tokens", "1", "-o", self.out)
        self.assertEqual(self.out.read_text(), "old")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["out.npy"])

    def test_logits_that_are_no_numbers(self):
        model = write_known_model(self.folder / "model")
        config = config_json()
        tensors = {name: (*tensor, None) for name, tensor in tensor_shapes(config).items()}
        huge = struct.pack("<H", 0x7F7F) * (272 * 272)  # the largest bf16: two of them sum to infinity
        one = struct.pack("<H", 0x3F80) * (272 * 272)
        for name, data in (("model.embed_tokens.weight", one), ("lm_head.weight", huge)):
            tensors[name] = (*tensors[name][:2], data)
        write_safetensors(model / "model.safetensors", tensors)
        self.out.write_text("old")
        self.fails(FAILED, "logits", model, "--tokens", "1,2", "-o", self.out,
                   says="the logit of token id 0 at position 0 is inf")
        self.fails(FAILED, "logits", model, "--tokens", "1,2", "--split", "2", "-o", self.out, says="position 0")
        self.fails(FAILED, "perplexity", model, "-c", 4, input="abcdefgh", says="after token 2 of the text")
        self.assertEqual(self.out.read_text(), "old")
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"model", "out.npy"})
        tensors["lm_head.weight"] = (*tensors["lm_head.weight"][:2], struct.pack("<H", 0x7FC0) * (272 * 272))
        write_safetensors(model / "model.safetensors", tensors)
        self.fails(FAILED, "logits", model, "--tokens", "1,2", "-o", self.out, says="lm_head.weight")

    def test_a_disk_that_is_full(self):
        """A limit on file sizes stands for it: writing fails in the middle."""
        model = write_known_model(self.folder / "model")
        ids = self.folder / "ids"
        ids.write_text(" 97" * 100)
        self.out.write_text("old")
        limit = 50_000
        self.fails(FAILED, "logits", model, "--tokens", f"@{ids}", "-o", self.out, says=f"({self.out}): raise the limit",
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(self.out.read_text(), "old")
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"model", "ids", "out.npy"})

    def test_a_model_that_shrinks_in_use(self):
        process = self.start_long()
        os.truncate(self.folder / "model" / "model.safetensors", 4096)
        text, errors = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, text), (FAILED, b""))
        self.assertRegex(errors.decode(), r"\Asluice: error: [^\n]*model\.safetensors[^\n]*\n\Z")
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"model", "ids"})

    def test_pieces_that_do_not_fit_into_memory(self):
        model = write_known_model(self.folder / "model")
        (model / "config.json").write_text(json.dumps(config_json(vocab_size=1 << 24)))
        ids = self.folder / "ids"
        ids.write_text(" 97" * 500_000)
        self.fails(FAILED, "logits", model, "--tokens", f"@{ids}", "--split", "500000", "-o", self.out,
                   says="feed the tokens in smaller pieces (--split)")
        self.assertFalse(self.out.exists())

    def test_a_link_is_written_through(self):
        target = self.folder / "target.npy"
        self.out.symlink_to(target)
        self.logits(GOLDEN / "tiny", "--tokens", "1")
        self.assertTrue(self.out.is_symlink())
        self.assertEqual(read_npy(target)[0], (1, 13))

    def test_the_file_mode_follows_the_umask(self):
        self.logits(GOLDEN / "tiny", "--tokens", "1")
        mask = os.umask(0)
        os.umask(mask)
        self.assertEqual(self.out.stat().st_mode & 0o777, 0o666 & ~mask)

    def test_a_pipe_as_output(self):
        self.logits(GOLDEN / "tiny", "--tokens", "1")
        piped = self.good("logits", GOLDEN / "tiny", "--tokens", "1", "--device", "oracle", "-o", "/dev/stdout")
        self.assertEqual(piped, self.out.read_bytes())

    def start_long(self):
        model = write_known_model(self.folder / "model")
        ids = self.folder / "ids"
        ids.write_text(" 97" * 100_000)
        process = subprocess.Popen([SLUICE, "logits", str(model), "--tokens", f"@{ids}", "-o", str(self.out)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        deadline = time.monotonic() + TIMEOUT
        while not list(self.folder.glob("out.npy*.part")):  # it has begun
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(process.poll(), "ended too early")
            time.sleep(0.01)
        return process

    def test_interrupted(self):
        process = self.start_long()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT)
        self.assertEqual((process.returncode, errors), (INTERRUPTED, b""))
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"model", "ids"})


if __name__ == "__main__":
    unittest.main()
