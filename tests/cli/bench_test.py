"""sluice bench on the CPU: the schema, and figures that agree with each other. Speed itself is nobody's to test here."""

import math
import pathlib
import statistics
import unittest

from harness import FAILED, GOLDEN, WRONG_USAGE, CliTest, environment, write_known_model



def quick(**changes):
    """Options for a run that is over in a moment: quick(n=0) changes -n."""
    options = {"-p": 40, "-n": 3, "--rows": "1,3", "--reps": 1, "-t": 2, "--seed": 1,
               "--device": "cpu"}
    options |= {("-" if len(name) == 1 else "--") + name: value for name, value in changes.items()}
    return [part for option in options.items() for part in option]

OPS = {"embed", "mix_in", "kv_append", "mix", "mix_merge", "mix_out", "mlp_in", "mlp_out", "head", "skim", "screen",
       "select", "recompute", "sample", "wait"}


def read_cache_bytes():
    largest = 0
    for index in range(8):
        size = pathlib.Path(f"/sys/devices/system/cpu/cpu0/cache/index{index}/size")
        if not size.exists():
            continue
        text = size.read_text().strip()
        largest = max(largest, int(text.rstrip("KM")) << {"K": 10, "M": 20}.get(text[-1], 0))
    return largest


class Bench(CliTest):
    @classmethod
    def setUpClass(cls):
        cls.tiny = GOLDEN / "nested_tied"

    def test_the_schema(self):
        json = self.good_json("bench", self.tiny, *quick(reps=2), "--json")
        self.assertEqual(json["schema"], 1)
        self.assertEqual(json["machine"]["threads"], 2)
        self.assertIsInstance(json["machine"]["cpu"], str)
        inspected = self.good_json("inspect", self.tiny, "--json")
        self.assertEqual(json["model"]["params"], inspected["parameters"])
        self.assertGreater(json["model"]["weight_bytes"], 0)
        self.assertGreater(json["probe"]["read_gb_s"], 0)
        self.assertEqual(set(json["probe"]["matrix_tflops"]), {"bf16", "fp32", "int8"})
        kinds = [(result["kind"], result["rows"]) for result in json["results"]]
        self.assertEqual(kinds, [("decode", 1), ("decode", 3), ("prefill", 40), ("mixed", 43)])
        for result in json["results"]:
            self.check_result(json, result)

    def check_result(self, json, result):
        self.assertEqual(result["head"], "full")
        self.assertEqual(result["head_rows_recomputed"], 0)
        self.assertEqual(result["dispatches_per_step"], 1)
        self.assertGreater(result["tasks_per_step"], 4)
        speed = result["tok_s"]
        self.assertEqual(len(result["reps"]), 2)
        self.assertEqual(speed["min"], min(result["reps"]))
        self.assertEqual(speed["max"], max(result["reps"]))
        self.assertTrue(math.isclose(speed["median"], statistics.median(result["reps"])))
        # All of these steps feed as many tokens as they have rows.
        self.assertTrue(math.isclose(result["ms_per_step"], 1000 * result["rows"] / speed["median"]))
        self.assertEqual(set(result["op_share"]), OPS)
        self.assertAlmostEqual(sum(result["op_share"].values()), 1)
        self.assertTrue(all(share >= 0 for share in result["op_share"].values()), result["op_share"])
        # The floor: no less time than the bytes take, nor than the FLOPs at the fastest and slowest peak.
        peaks = [1e12 * peak for peak in json["probe"]["matrix_tflops"].values()]
        moving = result["bytes_per_step"] / (1e9 * json["probe"]["read_gb_s"])
        floor = result["rows"] / result["floor_tok_s"]
        self.assertGreaterEqual(floor, moving * (1 - 1e-9))
        self.assertLessEqual(floor, max(moving, result["flops_per_step"] / min(peaks)) * (1 + 1e-9))
        self.assertTrue(math.isclose(result["floor_fraction"], speed["median"] / result["floor_tok_s"]))

    def test_a_screened_head(self):
        """Of the bundled model, whose vocabulary is too small for it unless it is asked for. Bytes are those of the copy and of
        what is recomputed."""
        options = (*quick(p=0, n=20, rows="1,5"), "--json")
        full = self.good_json("bench", *options)["results"]
        report = self.good_json("bench", *options, "--head", "screened")
        screened, read_gb_s = report["results"], report["probe"]["read_gb_s"]
        self.assertEqual([result["head"] for result in full], ["full"] * 2)
        config = self.good_json("inspect", "--json")["config"]
        vocab, hidden = config["vocab_size"], config["hidden_size"]
        result = screened[0]
        self.assertEqual((result["head"], result["dispatches_per_step"], result["screened_share"]), ("screened", 1, 1))
        self.assertTrue(0 < result["head_rows_recomputed"] < vocab, result["head_rows_recomputed"])
        saved = vocab * (2 * hidden - (hidden + 8) - 2 * hidden * result["head_rows_recomputed"] / vocab)
        self.assertTrue(math.isclose(full[0]["bytes_per_step"] - result["bytes_per_step"], saved))
        self.assertEqual(result["flops_per_step"], full[0]["flops_per_step"])
        # The floor of all weights: no less time than they take.
        self.assertLessEqual(result["full_head_floor_tok_s"] * full[0]["bytes_per_step"], 1e9 * read_gb_s * (1 + 1e-9))
        self.assertEqual("cache_full_head_floor_tok_s" in result, "cache_floor_tok_s" in result)
        self.assertNotIn("full_head_floor_tok_s", full[0])
        self.assertGreater(result["op_share"]["screen"], 0)
        self.assertEqual((result["op_share"]["head"], full[0]["op_share"]["screen"]), (0, 0))
        text = self.good("bench", *quick(p=0, rows=1), "--head", "screened").decode()
        self.assertIn("rows recomputed", text)

    def test_a_screened_head_of_some_steps(self):
        """Sequences beside a prompt of two steps, as many as can be screened: the second step chooses a token more, so it can't."""
        options = (*quick(p=600, n=1, rows=5 if self.rounds_to_bf16() else 8), "--json")
        full = self.good_json("bench", *options)["results"][-1]
        screened = self.good_json("bench", *options, "--head", "screened")["results"][-1]
        self.assertEqual((full["kind"], screened["kind"]), ("mixed", "mixed"))
        self.assertEqual(screened["head"], "screened")
        config = self.good_json("inspect", "--json")["config"]
        vocab, hidden = config["vocab_size"], config["hidden_size"]
        saved = screened["screened_share"] * vocab * (2 * hidden - (hidden + 8)) / 2 - 2 * hidden * screened["head_rows_recomputed"]
        self.assertTrue(math.isclose(full["bytes_per_step"] - screened["bytes_per_step"], saved))

    def rounds_to_bf16(self):
        return "bf16" in self.good_json("bench", self.tiny, *quick(p=0, n=1, rows=1), "--json")["machine"]["isa"]

    def test_loading_beside_reading(self):
        load = self.good_json("bench", self.tiny, *quick(), "--json")["load"]
        self.assertEqual(load["file_bytes"], (self.tiny / "model.safetensors").stat().st_size)
        self.assertGreater(load["packed_bytes"], 0)
        self.assertFalse(load["from_cache"])
        for seconds in (load["seconds"], load["read_seconds"]):
            self.assertTrue(0 < seconds["min"] <= seconds["median"] <= seconds["max"], seconds)
        self.assertTrue(math.isclose(load["ratio"], load["seconds"]["median"] / load["read_seconds"]["median"]))
        self.assertIn("times reading", self.good("bench", self.tiny, *quick()).decode())

    def test_bytes_and_flops_are_those_of_inspect(self):
        """A decode step at positions 3, 4, 5 (two warm it up) moves and computes what one at 4 does."""
        result = self.good_json("bench", self.tiny, *quick(p=0, rows=1), "--json")["results"][0]
        step = self.good_json("inspect", self.tiny, "--json", "-c", 4)["decode_step"]
        self.assertEqual(result["context"], 5)
        self.assertEqual(result["flops_per_step"], step["flops"])
        # inspect counts the small vectors too, which no op reads as weights.
        self.assertLess(result["bytes_per_step"], step["bytes"])
        self.assertGreater(result["bytes_per_step"], 0.9 * step["bytes"])

    def test_more_rows_share_the_weights(self):
        """Weights are read once a step, state and KV once a row."""
        json = self.good_json("bench", self.tiny, *quick(p=0, rows="1,2,3"), "--json")
        one, two, three = (result["bytes_per_step"] for result in json["results"])
        self.assertAlmostEqual(three - two, two - one)
        self.assertLess(two, 2 * one)
        flops = [result["flops_per_step"] for result in json["results"]]
        self.assertEqual(flops, [flops[0], 2 * flops[0], 3 * flops[0]])

    def test_a_model_within_the_cache_is_also_judged_by_the_cache(self):
        json = self.good_json("bench", self.tiny, *quick(p=0), "--json")
        fits = json["model"]["weight_bytes"] <= read_cache_bytes()
        self.assertEqual("cache_read_gb_s" in json["probe"], fits)
        for result in json["results"]:
            self.assertEqual("cache_floor_tok_s" in result, fits)

    def test_what_is_left_out(self):
        for left_out, kind in (("p", "decode"), ("n", "prefill")):
            json = self.good_json("bench", self.tiny, *quick(**{left_out: 0}), "--json")
            self.assertEqual({result["kind"] for result in json["results"]}, {kind})

    def test_a_prompt_of_several_steps(self):
        json = self.good_json("bench", write_known_model(self.folder / "model"), *quick(p=700, n=0), "--json")
        (result,) = json["results"]
        self.assertEqual((result["rows"], result["context"], result["dispatches_per_step"]), (512, 700, 1))
        self.assertTrue(math.isclose(result["ms_per_step"], 1000 * 350 / result["tok_s"]["median"]))

    def test_the_text(self):
        text = self.good("bench", self.tiny, *quick()).decode()
        for part in ("memory ", "peaks ", "decode ", "prefill ", "mixed ", "40+3", "reached", "%", "wait"):
            self.assertIn(part, text)
        self.assertNotIn("\x1b", text)

    def test_no_tokenizer_is_needed(self):
        model = write_known_model(self.folder / "model")
        (model / "tokenizer.json").write_text("{")
        self.good("bench", model, *quick())

    def test_an_instruction_set_can_be_forced(self):
        json = self.good_json("bench", self.tiny, *quick(), "--json", env=environment(SLUICE_ISA="portable"))
        self.assertEqual(json["machine"]["isa"], "portable")
        peaks = json["probe"]["matrix_tflops"]
        self.assertEqual(peaks["bf16"], peaks["fp32"])  # the only way that such kernels multiply
        self.fails(FAILED, "bench", self.tiny, *quick(), env=environment(SLUICE_ISA="abacus"), says="SLUICE_ISA")

    def test_wrong_usage(self):
        for args in (["--rows", ""], ["--rows", "0"], ["--rows", "1,x"], ["--rows", "-1"], ["--rows", "5000"],
                     ["--reps", "0"], ["-p", "-1"], ["-p", "0", "-n", "0"], ["--head", "half"],
                     ["--shape", "qwen3.5-0.8b"], ["-c", "16", "-p", "40"], ["-p", 1 << 22]):
            with self.subTest(args=args):
                self.fails(WRONG_USAGE, "bench", self.tiny, *args)
        self.fails(WRONG_USAGE, "bench", "--shape", "qwen3.5-80b", says="qwen3.5-0.8b, qwen3.5-2b, qwen3.5-4b")
        self.fails(FAILED, "bench", self.tiny, "--device", "oracle", says="use --device cpu")
        self.fails(WRONG_USAGE, "bench", self.tiny, "--device", "cpu", "--power-limits", "100", says="--device cuda")


if __name__ == "__main__":
    unittest.main()
