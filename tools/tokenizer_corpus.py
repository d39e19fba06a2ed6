"""Texts on which tokenizers could differ, assembled from Unicode's data and this repository's own files; nothing is downloaded.

Everything here is the same in every run with the same Python; random strings are tokenizer_golden.py's.
"""

import collections
import itertools
import pathlib
import random
import sys
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCALARS = [c for c in range(sys.maxunicode + 1) if not 0xD800 <= c <= 0xDFFF]
VARIATION = ["\ufe0e", "\ufe0f", "\ufe00", "\U000e0100"]
JOINER = "\u200d"


def scripts():
    """Letters, marks and digits of each script (by the first word of their names), as words and run together."""
    by_script = collections.defaultdict(list)
    for c in map(chr, SCALARS):
        if unicodedata.category(c)[0] in "LMN":
            by_script[unicodedata.name(c, "UNNAMED").split()[0].split("-")[0]].append(c)
    rng = random.Random("scripts")
    for characters in by_script.values():
        for start in range(0, min(len(characters), 2000), 40):
            yield "".join(characters[start : start + 40])
        for _ in range(3):
            yield " ".join("".join(rng.choices(characters, k=rng.randint(1, 9))) for _ in range(12))


def marks():
    """Every mark on a base letter, alone at the start, and in pairs in both orders."""
    every = [chr(c) for c in SCALARS if unicodedata.category(chr(c))[0] == "M"]
    rng = random.Random("marks")
    for mark in every:
        other = rng.choice(every)
        yield f"{mark}a{mark} e{mark}{other} e{other}{mark} \u0915{mark}1{mark}.{mark}\n{mark}"
    yield "e" + "".join(rng.choices(every, k=5000))


def emoji():
    """Joined sequences, flags, keycaps, skin tones, tag sequences, text and emoji presentation."""
    symbols = [chr(c) for c in SCALARS if unicodedata.category(chr(c)) == "So" and c >= 0x2190]
    people = [chr(c) for c in [*range(0x1F466, 0x1F479), *range(0x1F481, 0x1F488), *range(0x1F645, 0x1F648), 0x1F64B, 0x1F6B4, 0x1F9D1, 0x270B]]
    tones = [chr(c) for c in range(0x1F3FB, 0x1F400)]
    indicators = [chr(c) for c in range(0x1F1E6, 0x1F200)]
    for start in range(0, len(symbols), 20):
        yield "".join(symbols[start : start + 20])
        yield " ".join(s + v for s in symbols[start : start + 20] for v in VARIATION)
    yield from ("".join(pair) for pair in itertools.product(indicators, indicators))
    yield "".join(indicators) * 3
    for key in "0123456789#*":
        yield f"{key}\ufe0f\u20e3{key}\u20e3 {key}\ufe0e{key}\ufe0f a{key}\ufe0f\u20e3b"
    for person, tone in itertools.product(people, tones):
        yield f"{person}{tone}{person}{JOINER}\u2642\ufe0f {person}{tone}{JOINER}\U0001f4bb x{person}{tone}\ufe0f."
    for first, second in itertools.product(people, people):
        yield JOINER.join([first, "\u2764\ufe0f", "\U0001f48b", second]) + JOINER.join([first, second, "\U0001f467", "\U0001f466"])
    for region in ["gbeng", "gbsct", "gbwls", "usca", "zz9"]:
        yield "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f" + " " + region
    yield "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f3f3\u200d\u26a7\ufe0f \U0001f3f4\u200d\u2620\ufe0f \u200d\ufe0f\u200d \U000e007f"


def digits():
    every = [chr(c) for c in SCALARS if unicodedata.category(chr(c))[0] == "N"]
    for start in range(0, len(every), 10):
        run = "".join(every[start : start + 10])
        yield f"{run} a{run}b -{run}.{run},{run}%"
    for length in [*range(1, 20), 100, 1000]:
        yield "1234567890"[: length % 10] + "1234567890" * (length // 10)


def spaces():
    """Every white space or invisible character: alone, in runs, in pairs, before, between and after others."""
    every = [chr(c) for c in SCALARS if chr(c).isspace() or unicodedata.category(chr(c)) in ("Zs", "Zl", "Zp", "Cc", "Cf")][:180]
    for space in every:
        for around in ["", "a", "1", ".", "\n", " ", "\u4f60", "\u0301"]:
            yield "".join(f"{around}{space * n}{around}" for n in (1, 2, 3, 7))
    rng = random.Random("spaces")
    short = [" ", "\n", "\r", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", "\x0b", "\x85"]
    for one, two in itertools.product(short, short):
        yield f"{one}{two}a{one}{one}{two}b{two}{two}{one}."
    for _ in range(500):
        yield "".join(rng.choice(short) * rng.choice([1, 1, 2, 3, 16]) + rng.choice(["", "", "x", "12", ");", "'s"]) for _ in range(rng.randint(1, 8)))


def code():
    """This repository: C++, Python, CMake, shell, JSON, Markdown, and SVG or other text; whole files and their lines."""
    for pattern in ["src/**/*.cpp", "src/**/*.h", "tools/*.py", "tools/*.sh", "docs/*.md", "*.md", "**/CMakeLists.txt", "Makefile", ".clang-*"]:
        for path in sorted(ROOT.glob(pattern)):
            if not any(part.startswith(("build", ".venv")) for part in path.relative_to(ROOT).parts):
                text = path.read_text(encoding="utf-8", errors="replace")[:100_000]
                yield text
                yield text.replace("\n", "\r\n")[:5000]
                yield text.expandtabs(8).replace("  ", "\t")[:5000]


def every_code_point():
    """Each between letters and after a space."""
    for start in range(0, len(SCALARS), 64):
        yield "".join(f"a{chr(c)}b {chr(c)}" for c in SCALARS[start : start + 64])


def long_lines(sentences):
    """About a megabyte each, without a newline."""
    rng = random.Random("lines")
    size = 1_000_000
    for piece in ["a", " ", "1", "!", "ab", "\u4f60\u597d", "\U0001f600", "\u0915\u094d", "x ", "\u00a0", "'s", "\u1100\u1161"]:
        yield piece * (size // len(piece.encode()))
    yield "\n" * size
    yield "e" + "\u0323\u0301" * 20_000
    words = [word for sentence in sentences for word in sentence.replace("\n", " ").split(" ") if word]
    for joint in [" ", "", "  "]:
        yield joint.join(rng.choices(words, k=size // 12))
    yield "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=size))
    yield "".join(chr(rng.choice(SCALARS)) for _ in range(size // 4))


def invalid_utf8():
    """Bytes that are not UTF-8: every first byte, every length, overlong forms, surrogates, and cut or damaged texts."""
    for first in range(0x80, 0x100):
        for rest in [b"", b"a", b"\x80", b"\xbf", b"\x80\x80", b"\x9f\xbf", b"\xa0\x80\x80", b"\x8f\xbf\xbf", b"\x90\x80\x80", b"\x80" * 5]:
            yield b"x" + bytes([first]) + rest + b" y" + bytes([first]) + rest
    rng = random.Random("bytes")
    whole = "Gr\u00fc\u00dfe \u4f60\u597d \U0001f600\u0301 \u0939\u093f".encode()
    yield from (whole[:n] for n in range(len(whole)))
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        yield bytes(data)
        yield rng.randbytes(rng.randint(1, 40))


def corpus(sentences):
    """Name → texts, as bytes."""
    texts = {
        "scripts": scripts(), "marks": marks(), "emoji": emoji(), "digits": digits(), "white space": spaces(), "code": code(),
        "every code point": every_code_point(), "long lines": long_lines(sentences),
    }
    encoded = {name: [text.encode() for text in part] for name, part in texts.items()}
    return encoded | {"invalid UTF-8": list(invalid_utf8())}
