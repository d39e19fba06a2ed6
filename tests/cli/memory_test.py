"""How much memory the cpu device takes: anonymous memory, as the kernel counts it, beside what must be there.

    steady <= packed weights + state + KV + 64 MB, peak <= 128 MB above that
"""

import json
import pathlib
import re
import resource
import threading
import time
import unittest

from harness import (FAILED, GOLDEN, SLUICE, CliTest, config_json, environment, status_of, tensor_shapes, write_known_model,
                     write_safetensors)

MB = 1 << 20
SANITIZED = re.search(rb"__[atm]san_init", pathlib.Path(SLUICE).read_bytes()) is not None

# 6 layers as large as those of Qwen3.5-0.8B, and no vocabulary to speak of: 240 MB that take no room on the disk, since all
# but the embedding is zero. The answer to "a" goes on for ever.
BIG = dict(hidden_size=1024, intermediate_size=3584, num_hidden_layers=6,
           layer_types=["linear_attention"] * 4 + ["full_attention"] * 2, num_attention_heads=8, num_key_value_heads=2,
           head_dim=256, linear_num_key_heads=16, linear_num_value_heads=16, linear_key_head_dim=128,
           linear_value_head_dim=128)


def packed_bytes(config):
    """bf16 as it is: every matrix but the embedding, in panels of 16 columns."""
    total = 0
    for name, (_, shape) in tensor_shapes(config).items():
        if len(shape) == 2 and "embed_tokens" not in name:
            total += 2 * -(-shape[0] // 16) * 16 * shape[1]
    return total


def state_bytes(config):
    heads = config["linear_num_value_heads"]
    size, width = config["linear_key_head_dim"], config["linear_value_head_dim"]
    channels = 2 * config["linear_num_key_heads"] * size + heads * width
    return 4 * config["layer_types"].count("linear_attention") * (heads * size * width + 3 * channels)


def kv_bytes(config, positions):
    return 2 * 2 * config["num_key_value_heads"] * config["head_dim"] * config["layer_types"].count("full_attention") * positions


def anonymous(pid):
    return int(status_of(pid)["RssAnon"].split()[0]) << 10


class Watch:
    """The most anonymous memory that a process has had, and whether its mapped files came on top."""

    def __init__(self, process):
        self.process, self.peak, self.samples, self.most_file = process, 0, 0, 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while self.process.poll() is None:
            try:
                status = status_of(self.process.pid)
                self.peak = max(self.peak, int(status["RssAnon"].split()[0]) << 10)
                self.most_file = max(self.most_file, int(status["RssFile"].split()[0]) << 10)
                self.samples += 1
            except (OSError, KeyError):  # it has just ended
                pass
            time.sleep(0.002)


@unittest.skipIf(SANITIZED, "sanitizers take memory of their own")
class Memory(CliTest):
    @classmethod
    def setUpClass(cls):
        cls.config = config_json(**BIG)

    def setUp(self):
        super().setUp()
        self.model = write_known_model(self.folder / "model", **BIG)

    def watch(self, *args):
        """(steady, peak) bytes of anonymous memory while the answer streams."""
        process = self.start(*args)
        watch = Watch(process)
        self.assertEqual(process.stdout.read(20)[:3], b"bcd", process.stderr)
        reader = threading.Thread(target=lambda: process.stdout.read())
        reader.start()
        steady = []
        for _ in range(20):
            time.sleep(0.01)
            steady.append(anonymous(process.pid))
        process.kill()
        reader.join()
        watch.thread.join()
        self.assertGreater(watch.samples, 20)
        return max(steady), watch

    def allowed(self, positions, config=None):
        config = config or self.config
        return packed_bytes(config) + state_bytes(config) + kv_bytes(config, positions) + 64 * MB

    def test_packing(self):
        steady, watch = self.watch("run", self.model, "--raw", "-p", "a", "-t", 2, "-c", 4096)
        allowed = self.allowed(4096)
        self.assertGreater(steady, packed_bytes(self.config))
        self.assertLessEqual(steady, allowed)
        self.assertLessEqual(watch.peak, allowed + 128 * MB)
        # The file's pages go as they are packed: its 240 MB never stand beside the packed weights.
        self.assertLessEqual(watch.most_file, 100 * MB)

    def test_a_long_prompt_and_a_packed_file(self):
        prompt = self.folder / "prompt"
        prompt.write_text("a" * 1500)
        args = ["run", self.model, "--raw", "-f", prompt, "-t", 2, "-c", 4096, "--cache"]
        env = environment(SLUICE_CACHE_DIR=self.folder / "cache")
        for _ in range(2):
            process = self.start(*args, "-n", 5, env=env)
            watch = Watch(process)
            self.assertEqual(process.stdout.read()[:3], b"bcd")
            self.assertEqual(process.wait(), 0, process.stderr.read())
            watch.thread.join()
            self.assertLessEqual(watch.peak, self.allowed(4096) + 128 * MB)

    def test_what_a_prompt_takes_is_given_back(self):
        """And is bounded: 512 rows of so wide a model would take 207 MB."""
        wide = dict(intermediate_size=100_000)
        model = write_known_model(self.folder / "wide", **wide)
        prompt = self.folder / "prompt"
        prompt.write_text("a" * 600)
        steady, watch = self.watch("run", model, "--raw", "-f", prompt, "-t", 2, "-c", 4096)
        allowed = self.allowed(4096, config_json(**wide))
        self.assertLessEqual(steady, allowed)
        self.assertLessEqual(watch.peak, allowed + 128 * MB)

    def test_keys_and_values_come_as_they_are_needed(self):
        """A context of a gigabyte is no more than address space until its positions are used."""
        positions = 1 << 18
        self.assertGreater(kv_bytes(self.config, positions), 900 * MB)
        steady, _ = self.watch("run", self.model, "--raw", "-p", "a", "-t", 2, "-c", positions)
        self.assertLessEqual(steady, self.allowed(4096))

    def test_a_head_is_screened_only_if_the_copy_fits(self):
        """Large enough to be screened unless something speaks against it: 2^25 weights, whose copy takes 34 MB."""
        model = write_known_model(self.folder / "wide", hidden_size=8192, vocab_size=4096)

        def run(limit, *more, code=0):
            result = self.sluice("run", model, "--raw", "-p", "a", "-n", 3, "-t", 2, "-c", 64, *more,
                                 preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))
            self.assertEqual(result.returncode, code, result.stderr)
            return result

        def needed(result):
            return 1e6 * float(re.search(rb"needs (\d+) MB", result.stderr)[1])

        full = needed(run(40 * MB, code=FAILED))
        limit = int(full) + 16 * MB  # some of it is used by then
        screened = needed(run(limit, "--head", "screened", code=FAILED))
        self.assertAlmostEqual(screened - full, 4096 * (8192 + 8), delta=4e6)
        self.assertEqual(run(limit).stdout, b"bcd\n")

    def test_bench_measures_the_full_head_where_the_copy_does_not_fit(self):
        model = write_known_model(self.folder / "wide", hidden_size=8192, vocab_size=4096)

        def bench(limit, *more):
            return self.sluice("bench", model, "-p", 0, "-n", 1, "--rows", 1, "--reps", 1, "-t", 2, "--json", *more,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))

        # What it needs grows with what there is, by a quarter: a buffer to measure memory with. So look for the least, in steps that
        # are smaller than the copy of 34 MB.
        limit = 200 * MB
        while (full := bench(limit, "--head", "full")).returncode != 0:
            self.assertIn(b"needs ", full.stderr)
            limit += 16 * MB
            self.assertLess(limit, 1000 * MB)
        refused = bench(limit, "--head", "screened")
        self.assertEqual(refused.returncode, FAILED, refused.stderr)
        self.assertIn(b"needs ", refused.stderr)
        result = bench(limit)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads(result.stdout)["results"][0]["head"], "full")
        self.assertIn(b"measured with the full head", result.stderr)
        with_room = bench(limit + 64 * MB)
        self.assertEqual((with_room.returncode, json.loads(with_room.stdout)["results"][0]["head"]), (0, "screened"))
        self.assertNotIn(b"full head", with_room.stderr)

    def test_what_does_not_fit_is_refused_before_it_is_taken(self):
        limit = 200 * MB  # less than the packed weights

        def restrict():
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        begun = time.monotonic()
        for command in (("run", "-p", "a"), ("logits", "--tokens", "1", "-o", self.folder / "x.npy")):
            error = self.fails(FAILED, command[0], self.model, *command[1:], "-t", 2, preexec_fn=restrict, says="ulimit -d")
            needed = float(re.search(r"needs (\d+) MB, \d+ MB free", error)[1]) * 1e6
            self.assertGreater(needed, packed_bytes(self.config))
            self.assertLess(needed, self.allowed(4096) + 32 * MB)
        self.assertLess(time.monotonic() - begun, 20)
        self.assertFalse((self.folder / "x.npy").exists())

    def test_a_long_step_counts(self):
        """4,096 rows of activations, 246 MB, beside 190 MB of weights: --split asks for them."""
        ids = self.folder / "ids"
        ids.write_text(" 97" * 4096)

        def restrict():
            resource.setrlimit(resource.RLIMIT_DATA, (400 * MB, 400 * MB))

        args = ("logits", self.model, "--tokens", f"@{ids}", "-t", 2, "-o", self.folder / "x.npy")
        self.fails(FAILED, *args, "--split", 4096, preexec_fn=restrict, says="feed the tokens in smaller pieces (--split)")
        self.assertFalse((self.folder / "x.npy").exists())

    def test_vectors_that_are_copied_count_wherever_a_model_is_loaded(self):
        """Norms of 16 million zeros: none on the disk, 64 MB each in memory."""
        kinds = ["full_attention"] * 2
        config = config_json(vocab_size=2, hidden_size=1 << 24, intermediate_size=1, layer_types=kinds, eos_token_id=1)
        model = self.folder / "norms"
        model.mkdir()
        (model / "config.json").write_text(json.dumps(config))
        write_safetensors(model / "model.safetensors",
                          {name: (*tensor, None) for name, tensor in tensor_shapes(config).items()})

        def restrict():
            resource.setrlimit(resource.RLIMIT_DATA, (300 * MB, 300 * MB))  # less than five of them

        for more in (["inspect"], ["inspect", "--program"], ["inspect", "--model-gpu", "h100"], ["bench", "-n", "1", "-p", "0"]):
            error = self.fails(FAILED, more[0], model, *more[1:], preexec_fn=restrict, says="limit on data, ulimit -d")
            self.assertIn("needs 336 MB", error)

    def test_bench_keeps_to_the_limits_too(self):
        def restrict():
            resource.setrlimit(resource.RLIMIT_AS, (100 * MB, 100 * MB))

        self.fails(FAILED, "bench", GOLDEN / "tiny", "-p", 4, "-n", 2, "--rows", 1, "--reps", 1, "--device", "cpu", "-t", 2,
                   preexec_fn=restrict, says="limit on address space, ulimit -v")


if __name__ == "__main__":
    unittest.main()
