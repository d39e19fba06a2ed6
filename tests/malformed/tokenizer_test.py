"""Malformed tokenizer.json."""

import copy
import unittest

from formats import safetensors_bytes, tiny_config, tiny_tensors
from harness import byte_tokenizer
from json_cases import broken_documents, cut_documents, doubled_keys, text, without_marks
from judge import RUN, TOKENIZE, Case, MalformedTest

CONFIG = text(tiny_config())


def sound():
    tokenizer = byte_tokenizer()
    tokenizer["model"]["vocab"] |= {"he": 261, "ll": 262, "hell": 263}
    tokenizer["model"]["merges"] = [["h", "e"], ["l", "l"], ["he", "ll"]]
    return tokenizer


TOKENIZER = sound()


def case(name, tokenizer, mentions=("tokenizer.json",)):
    data = tokenizer if isinstance(tokenizer, bytes) else text(tokenizer)
    return Case("tokenizer: " + name, {"config.json": CONFIG, "tokenizer.json": data}, TOKENIZE, mentions)


ABSENT = object()

# Path -> values that can't stand there.
WRONG = {
    ("model",): (ABSENT, None, 5, "x", [], {}),
    ("model", "type"): (ABSENT, None, 5, "WordPiece", "Unigram", "bpe", "", []),
    ("model", "vocab"): (ABSENT, None, 5, "x", [], {}, [["a", 1]], {"a": 1}),
    ("model", "vocab", "a"): (ABSENT, None, -1, 1.5, "x", [], {}, True, 2**22, 2**31, 2**63, 2**64, 10**40, 98, 262),
    ("model", "vocab", "hell"): (ABSENT,),
    ("model", "vocab", "new"): (97, 256, 2**22, -5),
    ("model", "merges"): (ABSENT, None, 5, "x", {}, ["h"], ["h e l"], ["h  e"], [""], [[]], [["h"]], [["h", "e", "l"]],
                          [["h", 5]], [["h", None]], [5], [None], [{}], [[["h"], "e"]], [["h", "x"]], [["no", "such"]],
                          ["no such"], [["", "h"]], [["h", ""]]),
    ("model", "dropout"): (0.1, 0, "x", True, []),
    ("model", "continuing_subword_prefix"): ("##", 5, [], True),
    ("model", "end_of_word_suffix"): ("</w>", 5, {}),
    ("model", "byte_fallback"): (True, 1, "x", []),
    ("model", "ignore_merges"): (1, "x", []),
    ("normalizer",): (5, "x", [], {}, {"type": "NFD"}, {"type": 5}, {"type": "Sequence"},
                      {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]},
                      {"type": "Sequence", "normalizers": 5}, {"type": "Sequence", "normalizers": [None]}),
    ("pre_tokenizer",): (ABSENT, None, 5, "x", [], {}, {"type": "ByteLevel"}, {"type": "Sequence"},
                         {"type": "Sequence", "pretokenizers": []}, {"type": "Sequence", "pretokenizers": 5}),
    ("pre_tokenizer", "pretokenizers", 0, "type"): (ABSENT, "Whitespace", 5),
    ("pre_tokenizer", "pretokenizers", 0, "pattern"): (ABSENT, None, 5, "x", {}, {"String": "x"}, {"Regex": ""}, {"Regex": 5},
                                                       {"Regex": "("}, {"Regex": "(a+)+$" * 1000}, {"Regex": "\\s+"}),
    ("pre_tokenizer", "pretokenizers", 0, "behavior"): (ABSENT, "Removed", 5),
    ("pre_tokenizer", "pretokenizers", 0, "invert"): (True, 5, "x"),
    ("pre_tokenizer", "pretokenizers", 1, "type"): (ABSENT, "Split", 5),
    ("pre_tokenizer", "pretokenizers", 1, "add_prefix_space"): (ABSENT, True, 5),
    ("pre_tokenizer", "pretokenizers", 1, "use_regex"): (ABSENT, True, 5),
    ("decoder",): (ABSENT, None, 5, "x", {}, {"type": "WordPiece"}),
    ("post_processor",): (5, "x", [], {}, {"type": "TemplateProcessing"}, {"type": "Sequence"},
                          {"type": "Sequence", "processors": [{"type": "BertProcessing"}]}),
    ("added_tokens",): (5, "x", {}, [5], [None], [[]], [{}], ["x"]),
    ("added_tokens", 0, "id"): (ABSENT, None, -1, 1.5, "x", 2**22, 2**63, 2**64, True, 97, 257),
    ("added_tokens", 0, "content"): (ABSENT, None, 5, "", "x" * 100_000, [], "a", "<|endoftext|>"),
    ("added_tokens", 0, "special"): (5, "x", []),
    ("added_tokens", 0, "normalized"): (5, "x"),
    ("added_tokens", 0, "lstrip"): (True, 5, "x"),
    ("added_tokens", 0, "rstrip"): (True, 5),
    ("added_tokens", 0, "single_word"): (True, 5),
}


def changed(path, value):
    tokenizer = copy.deepcopy(TOKENIZER)
    holder = tokenizer
    for step in path[:-1]:
        holder = holder[step]
    if value is ABSENT:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return tokenizer


def fields():
    for path, values in WRONG.items():
        for value in values:
            shown = "absent" if value is ABSENT else repr(value)[:60]
            yield case(f"{'.'.join(map(str, path))} {shown}", changed(path, value))


def vocabularies(rng):
    # Every byte of UTF-8 needs its token.
    characters = [c for c, id in TOKENIZER["model"]["vocab"].items() if id < 256 and c not in "hel"]
    for character in rng.sample(characters, 12):
        if TOKENIZER["model"]["vocab"][character] in (0xC0, 0xC1, *range(0xF5, 0x100)):
            continue  # never in UTF-8
        yield case(f"no token {character!r}", changed(("model", "vocab", character), ABSENT))
    for character in rng.sample(characters, 5):
        yield case(f"{character!r} has another's id", changed(("model", "vocab", character), 104))
    inside = text(TOKENIZER["model"]["vocab"])
    document = text(TOKENIZER)
    yield case("a token twice", document.replace(inside, inside[:-1] + b', "a": 97}'))
    yield case("a token twice with two ids", document.replace(inside, inside[:-1] + b', "a": 264}'))
    yield case("vocab twice", document.replace(b'"merges"', b'"vocab": {}, "merges"'))
    yield case("merges twice", document.replace(b'"merges"', b'"merges": [], "merges"'))
    yield case("model twice", document[:-1] + b', "model": {}}')
    yield case("merges without end", document.replace(b'"merges": [', b'"merges": [' + b"[" * 100_000))
    yield case("vocab without end", document.replace(b'"vocab": {', b'"vocab": {' + b'"x": {' * 100_000))
    yield case("a merge of 1 MB", changed(("model", "merges"), ["h" * 500_000 + " " + "e" * 500_000]))
    yield case("50,000 merges of nothing", changed(("model", "merges"), ["x y"] * 50_000))


def past_the_vocabulary():
    """Sound tokenizers with more ids than the model has embeddings. Nobody need use such an id."""
    weights = {"config.json": CONFIG, "model.safetensors": safetensors_bytes(tiny_tensors(tiny_config()))}
    size = tiny_config()["vocab_size"]
    perplexity = ("perplexity", "{model}", "-f", "{folder}/config.json")
    for id in (size, size + 1, 1 << 19):
        in_vocab = changed(("model", "vocab", "hell"), id)
        added = changed(("added_tokens",), TOKENIZER["added_tokens"] + [TOKENIZER["added_tokens"][0] | {
            "id": id, "content": "<new>"}])
        for tokenizer, name in ((in_vocab, "hell"), (added, "<new>")):
            for command in (RUN, perplexity):
                yield Case(f"tokenizer: {name} has id {id}, {command[0]}", weights | {"tokenizer.json": text(tokenizer)},
                           command, (f'the token "{name}" has the id {id}, past the model\'s vocabulary (',))


MOST = 3 << 17  # tokens and merges, each
MOST_ADDED = 1 << 15


def at_the_limits(tokens=0, merges=0, added=0, unused=0):
    """As much as is read, and short, so that as little as possible of the time is for bytes."""
    tokenizer = sound()
    vocab, pairs = tokenizer["model"]["vocab"], tokenizer["model"]["merges"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    level = list(letters)
    while len(vocab) < tokens or len(pairs) < merges:
        level = [left + right for left in level for right in letters]
        for text_ in level:
            if len(vocab) < tokens:
                vocab.setdefault(text_, len(vocab) + 300)
            splits = {1, len(text_) - 1} if text_ in vocab and text_ not in ("he", "ll", "hell") else ()
            pairs += [[text_[:at], text_[at:]] for at in splits if len(pairs) < merges]
    pairs = pairs[:max(merges, 3)]
    given = len(tokenizer["added_tokens"])
    tokenizer["added_tokens"] += [{"id": 2**20 - 1 - i, "content": f"<{i}>", "special": False, "normalized": False,
                                   "lstrip": False, "rstrip": False, "single_word": False} for i in range(added - given)]
    if unused:
        tokenizer["unused"] = {str(i): i for i in range(unused)}
    return tokenizer


def limits():
    """Wrong at the very end, when all the work is done; and one more than is read."""
    merges_end = at_the_limits(MOST, MOST - 1)
    merges_end["model"]["merges"].append(["no such", "x"])
    yield case("the last merge unknown", merges_end, ("model.merges[393215]",))
    all_of_it = at_the_limits(MOST, MOST - 1, MOST_ADDED, 50_000)
    all_of_it["model"]["merges"].append(["h", "e"])
    yield case("everything, the last merge twice", all_of_it, ("model.merges[393215]",))
    yield case("a token too many", at_the_limits(MOST + 1), ("model.vocab has more than 393216",))
    too_many = at_the_limits()
    too_many["model"]["merges"] += [["h", "e"]] * MOST
    yield case("a merge too many", too_many, ("model.merges has more than 393216",))
    yield case("an added token too many", at_the_limits(added=MOST_ADDED + 1), ("added_tokens has more than 32768",))
    yield case("two million values that nobody reads", at_the_limits(unused=2_000_000), ("JSON values",))


class TokenizerJson(MalformedTest):
    def test_limits(self):
        self.refuse(limits())

    def test_sound_ones(self):
        spaced = changed(("model", "merges"), ["h e", "l l", "he ll"])
        self.accept([case("as made", TOKENIZER), case("spaced merges", spaced), case("bytes alone", byte_tokenizer()),
                     case("nothing added", changed(("added_tokens",), []))])

    def test_fields(self):
        self.refuse(fields())

    def test_vocabularies(self):
        self.refuse(vocabularies(self.rng))

    def test_past_the_vocabulary(self):
        self.refuse(past_the_vocabulary())

    def test_documents(self):
        self.refuse(case(name, data) for documents in (
            broken_documents(TOKENIZER), doubled_keys(TOKENIZER), cut_documents(TOKENIZER, self.rng, 40),
            without_marks(TOKENIZER, self.rng, 40)) for name, data in documents)


if __name__ == "__main__":
    unittest.main()
