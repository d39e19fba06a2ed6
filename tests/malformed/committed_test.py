"""The malformed files under files/: short ones that once broke something, or well might. A file's folder says as what the
program gets it."""

import unittest
import pathlib

from formats import safetensors_bytes, tiny_config, tiny_tensors
from harness import byte_tokenizer
from json_cases import text
from judge import INSPECT, LOGITS, TOKENIZE, Case, MalformedTest

FILES = pathlib.Path(__file__).resolve().parent / "files"
CONFIG = tiny_config(max_position_embeddings=4096)
SOUND = {"config.json": text(CONFIG), "tokenizer.json": text(byte_tokenizer()),
         "model.safetensors": safetensors_bytes(tiny_tensors(CONFIG))}
CHAT = ("run", "{model}", "--seed", "1", "-n", "1", "--messages", "{folder}/chat.json")
# Folder -> the file that it stands for, and what is done with it.
USES = {"safetensors": ("model.safetensors", INSPECT), "gguf": ("model.gguf", LOGITS), "config_json": ("config.json", INSPECT),
        "tokenizer_json": ("tokenizer.json", TOKENIZE), "chat_messages": ("chat.json", CHAT)}


def cases():
    for folder, (name, command) in USES.items():
        for path in sorted((FILES / folder).iterdir()):
            model = name if folder == "gguf" else "."
            yield Case(f"{folder}/{path.name}", SOUND | {name: path.read_bytes()}, command, (name, "messages"), model)


class Committed(MalformedTest):
    def test_they_are_refused(self):
        self.assertGreaterEqual(len(list(cases())), 40)
        self.refuse(cases())


if __name__ == "__main__":
    unittest.main()
