#!/usr/bin/env python3
"""Writes src/model/unicode_tables.cpp: character classes and NFC data as Hugging Face `tokenizers` sees them.

Libraries follow different Unicode versions, and an id that differs is a wrong answer. So the data comes from the
reference itself: its regular expressions and its normalizers are asked about every code point.

    tools/unicode_tables.py            write the file
    tools/unicode_tables.py --check    exit 1 if the committed file is not what would be written
"""

import argparse
import pathlib
import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

TARGET = pathlib.Path(__file__).resolve().parent.parent / "src" / "model" / "unicode_tables.cpp"
PINNED = "0.22.2"

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
PAGE = 128  # code points a page of the class table; kPageSize in unicode_tables.h
CLASSES = {r"\p{L}": 1, r"\p{M}": 2, r"\p{N}": 4, r"\s": 8}  # the enum in unicode_tables.h
NFC_ACTIVE = 16
HANGUL = range(0xAC00, 0xAC00 + 11172)

nfc = normalizers.NFC().normalize_str
nfd = normalizers.NFD().normalize_str


def matched(expression, texts):
    """Those of `texts` that `expression` matches as a whole."""
    split = pre_tokenizers.Split(Regex(expression), "removed")
    return [text for text in texts if not split.pre_tokenize_str(text)]


def members(expression):
    """The code points that the one-character `expression` matches."""
    split = pre_tokenizers.Split(Regex(expression), "removed")
    found = []
    for first in range(0, len(CODE_POINTS), 4096):
        chunk = CODE_POINTS[first : first + 4096]
        rest = split.pre_tokenize_str("".join(map(chr, chunk)))
        unmatched = {ord(c) for piece, _ in rest for c in piece}
        found += [c for c in chunk if c not in unmatched]
    return found


def check_contractions():
    """pretokenizer.cpp has the contractions by hand: ASCII in either case, and U+017F for s."""
    expression = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    got = matched(expression, ["'" + chr(c) for c in CODE_POINTS])
    want = ["'" + c for c in "DMSTdmst\u017f"]
    assert got == want, f"contractions of one letter: {got}"
    alone = matched(expression, map(chr, CODE_POINTS))
    assert not alone, f"single characters that match a contraction: {alone}"
    for second, firsts in (("e", "RVrv"), ("l", "Ll")):
        got = matched(expression, ["'" + chr(c) + second for c in CODE_POINTS])
        assert got == ["'" + c + second for c in firsts], got
    for first, second in ("re", "ve", "ll"):
        got = matched(expression, ["'" + first + chr(c) for c in CODE_POINTS])
        assert got == ["'" + first + c for c in (second.upper(), second)], got


def combining_classes():
    """Code point -> canonical combining class, for those that are not 0.

    Two marks swap in NFD exactly if the second has the lower class, so a class shows by comparison with one mark of
    every class. Those marks come from Python's own data; that they are ordered as it says is checked."""
    marks = {}
    for c in CODE_POINTS:
        value = unicodedata.combining(chr(c))
        known = value == 240 or nfd("\u0345" + chr(c)) == chr(c) + "\u0345"  # U+0345 has class 240, the highest
        if value and value not in marks and known:
            marks[value] = chr(c)
    ranks = sorted(marks)
    for low, high in zip(ranks, ranks[1:]):
        pair = marks[high] + marks[low]
        assert nfd(pair) == pair[::-1], f"classes {low} and {high} don't swap"

    def below(a, b):  # class of a < class of b, both not 0
        return a != b and nfd(b + a) == a + b

    result = {}
    for c in CODE_POINTS:
        mark = chr(c)
        if nfd(mark) != mark:
            continue  # only decomposed characters are ever reordered
        if not below(marks[ranks[0]], mark) and not below(mark, marks[ranks[-1]]):
            continue
        equal = [r for r in ranks if not below(marks[r], mark) and not below(mark, marks[r])]
        assert len(equal) == 1, f"U+{c:04X} has a combining class of its own"
        result[c] = equal[0]
    return result


def normalization():
    """(decompositions {c: [..]}, compositions {(a, b): c}, code points that NFC may touch)."""
    classes = combining_classes()
    decompositions, compositions = {}, {}
    active = set(classes)
    for c in CODE_POINTS:
        text, full = chr(c), nfd(chr(c))
        if nfc(text) != text:
            active.add(c)
        if full == text:
            continue
        if c not in HANGUL:
            decompositions[c] = [ord(x) for x in full]
        if nfc(text) == text:
            first = nfc(full[:-1])
            assert len(first) == 1 and nfc(first + full[-1]) == text, f"U+{c:04X} is composed in an unknown way"
            active.add(ord(full[-1]))
            if c not in HANGUL:
                compositions[ord(first), ord(full[-1])] = c
    check_hangul()
    for c in CODE_POINTS:  # what nfc.cpp relies on: text can be cut before an inactive code point
        assert c in active or ord(nfd(chr(c))[0]) not in active, f"U+{c:04X} is no boundary"
    check_compositions(compositions)
    return classes, decompositions, compositions, active


def check_hangul():
    for c in HANGUL:
        index = c - 0xAC00
        parts = [0x1100 + index // 588, 0x1161 + index % 588 // 28, 0x11A7 + index % 28]
        want = "".join(map(chr, parts if index % 28 else parts[:2]))
        assert nfd(chr(c)) == want and nfc(want) == chr(c), f"U+{c:04X} is not arithmetic"


def check_compositions(compositions):
    firsts = sorted({a for a, _ in compositions})
    for b in sorted({b for _, b in compositions}):
        for a in firsts:
            if nfd(chr(a) + chr(b)) != nfd(chr(a)) + nfd(chr(b)):
                continue  # reordered: another pair meets
            want = compositions.get((a, b))
            got = nfc(chr(a) + chr(b))
            assert got == (chr(want) if want else nfc(chr(a)) + chr(b)), f"U+{a:04X} U+{b:04X}"


def rows(values, width=108):
    lines, line = [], ""
    for value in values:
        item = f"{value},"
        if len(line) + len(item) > width:
            lines.append(line)
            line = ""
        line += item
    return "\n".join(lines + [line])


def class_table(active):
    flags = [0] * 0x110000
    for expression, bit in CLASSES.items():
        for c in members(expression):
            flags[c] |= bit
    for c in active:
        flags[c] |= NFC_ACTIVE
    while not any(flags[-PAGE:]):
        del flags[-PAGE:]
    pages, index = {}, []
    for first in range(0, len(flags), PAGE):
        index.append(pages.setdefault(tuple(flags[first : first + PAGE]), len(pages)))
    return index, [flag for page in pages for flag in page]


def render():
    check_contractions()
    classes, decompositions, compositions, active = normalization()
    index, pages = class_table(active)
    assert max(index) < 1 << 16
    data, entries = [], []
    for c, parts in sorted(decompositions.items()):
        entries.append(f"{{0x{c:X},{len(data)},{len(parts)}}}")
        data += [f"0x{p:X}" for p in parts]
    marks = [f"{{0x{c:X},{value}}}" for c, value in sorted(classes.items())]
    pairs = [f"{{0x{a:X},0x{b:X},0x{c:X}}}" for (a, b), c in sorted(compositions.items())]
    return f"""// Written by tools/unicode_tables.py from Hugging Face tokenizers {PINNED}: change that, not this.
#include "model/unicode_tables.h"

// clang-format off
namespace sluice::model::unicode::tables {{

const std::uint16_t kPageOf[kIndexedPages] = {{
{rows(index)}
}};
static_assert(kIndexedPages == {len(index)});

const std::uint8_t kPages[] = {{
{rows(pages)}
}};

const CombiningClass kCombiningClasses[{len(marks)}] = {{
{rows(marks)}
}};
const std::size_t kCombiningClassCount = {len(marks)};

const char32_t kDecompositionData[{len(data)}] = {{
{rows(data)}
}};

const Decomposition kDecompositions[{len(entries)}] = {{
{rows(entries)}
}};
const std::size_t kDecompositionCount = {len(entries)};

const Composition kCompositions[{len(pairs)}] = {{
{rows(pairs)}
}};
const std::size_t kCompositionCount = {len(pairs)};

}}  // namespace sluice::model::unicode::tables
// clang-format on
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
    options = parser.parse_args()
    if tokenizers.__version__ != PINNED:
        sys.exit(f"tokenizers {PINNED} is the reference, this is {tokenizers.__version__}")
    text = render()
    if options.check:
        if TARGET.read_text() != text:
            sys.exit(f"{TARGET.name} is not what tokenizers {PINNED} says: run tools/unicode_tables.py")
        return
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
