"""How fast the tokenizer is in one thread, beside Hugging Face `tokenizers`, with the real vocabulary.

    tools/peers/tokenizer_speed.py [--build DIR] [--pairs N] [--ranks FILE]

The two take turns, in processor time; `tokenizers` at its best: the faster of encode_batch_fast on the whole text and on its
lines. Prints the median and the spread of the ratio for each kind of text. Exit code 1 if a median is below 1, the ids
differ, or loading (wall clock) takes a median of half a second.
"""

import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import pydoc_data.topics  # noqa: E402

from tokenizers import Tokenizer  # noqa: E402

TOOLS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))

import qwen_tokenizer  # noqa: E402
import tokenizer_corpus  # noqa: E402
import tokenizer_golden  # noqa: E402

SIZE = 1_000_000
LOAD_LIMIT_MS = 500


def words_of_vocabulary(definition, first, last, joint):
    """Tokens whose letters all lie in [first, last], the commoner the more often, as running text."""
    inverse = {c: b for b, c in qwen_tokenizer.byte_alphabet().items()}
    words = []
    for token in definition["model"]["vocab"]:
        text = bytes(inverse[c] for c in token).decode("utf-8", "ignore").strip()
        if text and all(first <= c <= last for c in text):
            words.append(text)
    rng = random.Random(first)
    weights = [1 / (100 + i) for i in range(len(words))]
    return joint.join(w + rng.choice(["", "", "", "", "", "\uff0c", "\u3002\n"]) for w in rng.choices(words, weights, k=SIZE // 3))


def texts(definition):
    """Kind → about a megabyte of text."""
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    strings = tokenizer_golden.Strings(random.Random("speed"))
    kinds = {
        "English": "\n".join(pydoc_data.topics.topics.values()),
        "code": "".join(path.read_text(encoding="utf-8", errors="replace") for path in sorted(library.glob("*.py"))),
        "Chinese": words_of_vocabulary(definition, "\u4e00", "\u9fff", ""),
        "Russian": words_of_vocabulary(definition, "\u0400", "\u04ff", " "),
        "emoji and marks": "\n".join([*tokenizer_corpus.emoji(), *tokenizer_corpus.marks()]),
        "random strings": "".join(strings.draw() for _ in range(SIZE // 10)),
    }
    return {kind: text.encode()[:SIZE].decode("utf-8", "ignore") for kind, text in kinds.items()}


class Ours:
    """tokenizer_peer.cpp, compiled against the libraries of a build tree."""

    def __init__(self, build, folder):
        program = folder / "tokenizer_peer"
        subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-O2", f"-I{TOOLS.parent / 'src'}",
                        TOOLS / "peers" / "tokenizer_peer.cpp", build / "libsluice_model.a", build / "libsluice_base.a", "-lfmt",
                        "-o", program], check=True)
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, verb, path):
        self.process.stdin.write(f"{verb} {path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if not answer:
            sys.exit("tokenizer_peer ended")
        return answer


def hash_of(ids):
    value = 0xCBF29CE484222325
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def their_ms(tokenizer, parts):
    start = time.process_time()
    tokenizer.encode_batch_fast(parts, add_special_tokens=False)
    return 1e3 * (time.process_time() - start)


def compare(ours, theirs, kind, text, pairs, folder):
    """Prints a line; whether all is well."""
    path = folder / "text"
    path.write_bytes(text.encode())
    same = ours.ask("encode", path)[2] == hash_of(theirs.encode(text, add_special_tokens=False).ids)
    lines = text.splitlines(keepends=True)
    ratios, speeds = [], []
    for _ in range(pairs):
        ms = float(ours.ask("encode", path)[0])
        ratios.append(min(their_ms(theirs, [text]), their_ms(theirs, lines)) / ms)
        speeds.append(len(text.encode()) / ms / 1e3)
    ratio = statistics.median(ratios)
    print(f"{kind:16} {statistics.median(speeds):7.1f} MB/s   {ratio:6.1f} x ({min(ratios):.1f} to {max(ratios):.1f})"
          f"{'' if same else '   IDS DIFFER'}{'' if ratio >= 1 else '   SLOWER'}", flush=True)
    return same and ratio >= 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOOLS.parent / "build")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--ranks", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-speed-") as name:
        folder = pathlib.Path(name)
        definition = qwen_tokenizer.write(options.ranks or qwen_tokenizer.installed_ranks(), folder)
        ours = Ours(options.build.resolve(), folder)
        loads, their_loads = [], []
        for _ in range(5):
            loads.append(float(ours.ask("load", folder)[0]))
            start = time.perf_counter()
            theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
            their_loads.append(1e3 * (time.perf_counter() - start))
        load = statistics.median(loads)
        print(f"loading {(folder / 'tokenizer.json').stat().st_size / 1e6:.1f} MB: {load:.0f} ms ({min(loads):.0f} to "
              f"{max(loads):.0f}); tokenizers {statistics.median(their_loads):.0f} ms")
        good = load < LOAD_LIMIT_MS
        for kind, text in texts(definition).items():
            good = compare(ours, theirs, kind, text, options.pairs, folder) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
