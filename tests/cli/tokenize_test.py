"""sluice tokenize: ids as Hugging Face gives them, and the way back."""

import json
import unittest

from harness import FAILED, SOURCE, CliTest, write_known_model
from seeded import seeded

TOKENIZER = SOURCE / "tests" / "golden-tokenizer"


class Tokenize(CliTest):
    def test_golden_samples_there_and_back(self):
        samples = json.loads((TOKENIZER / "samples.json").read_text())
        samples = [sample for sample in samples if sample["variant"] == "base"]
        for sample in seeded(self.id()).sample(samples, 15):
            with self.subTest(sample=sample):
                # Bytes that are no UTF-8 stand there in hexadecimal.
                text = sample["text"].encode() if "text" in sample else bytes.fromhex(sample["hex"])
                ids = " ".join(map(str, sample["ids"]))
                self.assertEqual(self.good("tokenize", TOKENIZER, input=text).decode(), ids + "\n")
                self.assertEqual(self.good_json("tokenize", TOKENIZER, "--json", input=text)["ids"], sample["ids"])
                decoded = self.good("tokenize", TOKENIZER, "--decode", input=ids)
                json_ = self.good_json("tokenize", TOKENIZER, "--decode", "--json", input=ids)
                self.assertEqual(json_["text"], decoded.decode())
                again = self.good("tokenize", TOKENIZER, input=decoded).decode()
                self.assertEqual(self.good("tokenize", TOKENIZER, "--decode", input=again), decoded)

    def test_decoding_gives_exactly_the_text(self):
        model = write_known_model(self.folder / "model")
        for text in ("", " ", "\n", "a\n", "  two\n\n", "naïve €5 \U0001f600", "<|im_start|>x<|im_end|>"):
            ids = self.good("tokenize", model, input=text).decode()
            self.assertEqual(self.good("tokenize", model, "--decode", "-p", ids).decode(), text)
        self.assertEqual(self.good("tokenize", model, "--decode", "-p", "97,98 99").decode(), "abc")
        self.assertEqual(self.good("tokenize", model, "-p", "").decode(), "\n")

    def test_bytes_that_are_not_utf8(self):
        model = write_known_model(self.folder / "model")
        for data in (b"\xff", b"a\xc3", bytes(range(256))):
            ids = self.good("tokenize", model, input=data).decode()
            self.assertEqual(self.good("tokenize", model, "--decode", input=ids).decode(),
                             data.decode(errors="replace"))
        self.assertEqual(self.good_json("tokenize", model, "--decode", "--json", "-p", "195")["text"], "\ufffd")

    def test_only_the_tokenizer_is_needed(self):
        self.assertFalse((TOKENIZER / "config.json").exists())
        self.good("tokenize", TOKENIZER, "-p", "x")

    def test_bad_ids(self):
        model = write_known_model(self.folder / "model")
        for text in ("-1", "261", "99999999999999999999", "1 x", "1.5"):
            self.fails(FAILED, "tokenize", model, "--decode", input=text)

    def test_a_folder_without_tokenizer(self):
        model = write_known_model(self.folder / "model")
        (model / "tokenizer.json").unlink()
        self.fails(FAILED, "tokenize", model, "-p", "x", says="tokenizer.json")
        self.fails(FAILED, "run", model, "-p", "x", says="tokenizer.json")


if __name__ == "__main__":
    unittest.main()
