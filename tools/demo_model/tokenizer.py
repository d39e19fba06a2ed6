"""Qwen3.5's tokenizer with a small vocabulary: NFC, its split pattern, byte-level BPE.

The BPE is trained so that every word of words.py is one token, with a space before it and
without: then reading, copying and recalling words needs no spelling. Brackets and digits
take part in no merge, each stays a token of its own.
"""

import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import story
import tasks
from words import ALL

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Matched whole in the input, yet printed in the output: a client needs to see them.
MARKS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
BRACKETS = str.maketrans("", "", "()[]{}<>")


def corpus():
    rng = random.Random("tokenizer")
    for _ in range(400):
        for word in ALL:
            yield f"{word} {word}"
    for family in tasks.FAMILIES:
        for _ in range(600):
            q = tasks.FAMILIES[family].make(rng, rng.choice(tasks.FAMILIES[family].levels))
            yield (q.user + "\n" + q.answer).translate(BRACKETS)
    for _ in range(1500):
        yield story.story(rng)[1]
        yield "user\n" + "assistant\n\n" + "system\nYou are a helpful assistant."


def train(vocab_size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(SPECIAL) - len(MARKS), show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in MARKS])
    return tokenizer
