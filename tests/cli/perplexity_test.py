"""sluice perplexity against the same score computed here from `sluice logits`, window by window."""

import math
import unittest

from harness import FAILED, GOLDEN, SOURCE, WRONG_USAGE, CliTest, read_npy, write_known_model
from seeded import seeded

DEMO = SOURCE / "models" / "demo"
# Each nll is summed in double from the same fp32 logits; only the order of at most 10^3 additions may differ.
TOLERANCE = 1e-9


def expected(rows_of_windows):
    """rows_of_windows: for each window its logits by position, and its tokens. llama-perplexity's definition."""
    nll = []
    for rows, tokens in rows_of_windows:
        n = len(tokens)
        for i in range(n // 2, n - 1):
            top = max(rows[i])
            log_sum = top + math.log(math.fsum(math.exp(x - top) for x in rows[i]))
            nll.append(log_sum - rows[i][tokens[i + 1]])
    mean = math.fsum(nll) / len(nll)
    variance = math.fsum(x * x for x in nll) / len(nll) - mean * mean
    perplexity = math.exp(mean)
    return perplexity, perplexity * math.sqrt(variance / (len(nll) - 1)), len(nll)


class Perplexity(CliTest):
    def windows(self, model, tokens, n):
        for at in range(0, len(tokens) - n + 1, n):
            piece = tokens[at : at + n]
            out = self.folder / "logits.npy"
            self.good("logits", model, "--tokens", ",".join(map(str, piece)), "--device", "oracle",
                      "-o", out)
            (rows, columns), values, _ = read_npy(out)
            yield [values[row * columns : (row + 1) * columns] for row in range(rows)], piece

    def test_against_the_logits_of_each_window(self):
        rng = seeded(self.id())
        words = "What is the colour of a carrot? 17 + 25 = 42, and so on; naïve €5\n".split(" ")
        for n in (3, rng.randint(4, 12), 2 * rng.randint(4, 12), 2 * rng.randint(4, 12) + 1):
            text = " ".join(rng.choice(words) for _ in range(2 * n + rng.randint(8, 30)))
            with self.subTest(window=n, text=text):
                path = self.folder / "text"
                path.write_text(text.rstrip("\n"))
                tokens = [int(id) for id in self.good("tokenize", DEMO, "-f", path).split()]
                want, error, count = expected(list(self.windows(DEMO, tokens, n)))
                json_ = self.good_json("perplexity", DEMO, "-f", path, "-c", n, "--device", "oracle", "--json")
                self.assertEqual((json_["scored_tokens"], json_["windows"]), (count, len(tokens) // n))
                self.assertEqual((json_["text_tokens"], json_["context"]), (len(tokens), n))
                self.assertAlmostEqual(json_["perplexity"] / want, 1, delta=TOLERANCE)
                self.assertAlmostEqual(json_["standard_error"] / error, 1, delta=1e-6)  # it cancels here
                self.assertAlmostEqual(json_["mean_nll"], math.log(want), delta=TOLERANCE)
                # bf16 moves logits by 1 to 5 % of their size (docs/testing.md), and with them what an improbable token costs.
                on_cpu = self.good_json("perplexity", DEMO, "-f", path, "-c", n, "--device", "cpu", "--json")
                self.assertAlmostEqual(on_cpu["mean_nll"], math.log(want), delta=2e-2 * (1 + math.log(want)))
                said = self.good("perplexity", DEMO, "-f", path, "-c", n, "--device", "oracle").decode()
                self.assertEqual(said, f"perplexity {json_['perplexity']:.4f} +/- {json_['standard_error']:.5f}, "
                                       f"{count} tokens scored in {len(tokens) // n} windows of {n}\n")

    def test_a_known_score(self):
        # "abc...": the right letter's logit is s, the others' 0, with s the norm's gain on a one-hot vector.
        model = write_known_model(self.folder / "model")
        s = 1 / math.sqrt(1 / 272 + 1e-6)
        right = math.log(math.exp(s) + 271) - s
        json_ = self.good_json("perplexity", model, "--json", "-c", 26, input="abcdefghijklmnopqrstuvwxyz" * 3)
        self.assertAlmostEqual(json_["mean_nll"], right, delta=1e-5)  # logits are fp32
        self.assertEqual((json_["windows"], json_["scored_tokens"]), (3, 3 * 12))
        self.assertLess(json_["standard_error"], 1e-5)
        # The default window, and the first ones only.
        text = "abcdefghijklmnopqrstuvwxyz" * 60
        self.assertEqual(self.good_json("perplexity", model, "--json", input=text)["context"], 512)
        self.assertEqual(self.good_json("perplexity", model, "--json", input=text)["scored_tokens"], 3 * 255)
        json_ = self.good_json("perplexity", model, "--json", "-n", 1, input=text)
        self.assertEqual((json_["windows"], json_["scored_tokens"]), (1, 255))

    def test_the_text_is_read_as_llama_perplexity_reads_it(self):
        model = write_known_model(self.folder / "model")

        def tokens(text):
            return self.good_json("perplexity", model, "--json", "-c", 4, input=text)["text_tokens"]

        self.assertEqual(tokens("abcdefgh"), 8)
        self.assertEqual(tokens("abcdefgh\n"), 8)  # one line feed at the end doesn't count
        self.assertEqual(tokens("abcdefgh\n\n"), 9)
        self.assertEqual(tokens("<|im_end|>"), len("<|im_end|>"))  # plain text
        self.assertEqual(tokens("abcdefg<think>"), 8)  # a tag that isn't special is one token

    def test_texts_that_are_too_short(self):
        model = write_known_model(self.folder / "model")
        self.fails(FAILED, "perplexity", model, "-c", 4, input="abcdefg", says="7 tokens, too few for two windows of 4")
        self.fails(FAILED, "perplexity", model, input="", says="0 tokens")
        self.fails(FAILED, "perplexity", model, "-c", 4, "-n", 1, input="abcdefgh", says="standard error")
        self.fails(WRONG_USAGE, "perplexity", model, "-c", 2, input="abcdefgh", says="-c")
        self.fails(FAILED, "perplexity", model, "-f", self.folder / "absent", says="absent")

    def test_a_tokenizer_is_needed(self):
        self.fails(FAILED, "perplexity", GOLDEN / "tiny", input="abc" * 1000, says="tokenizer.json")


if __name__ == "__main__":
    unittest.main()
