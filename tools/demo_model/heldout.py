"""The held-out questions, and a held-out text for perplexity.

    python heldout.py --out models/demo

No question here was ever trained on: `tasks.held_out` decides by the hash of what is asked.
"""

import argparse
import json
import pathlib
import random

import chat
import tasks
from tasks import FAMILIES, draw, held_out

PLAIN = [f for f in FAMILIES if FAMILIES[f].tested and f != "recall"]
RECALL = {"recall_4": 4, "recall_8": 8, "recall_16": 16, "recall_long": None}
LONG = [24, 32, 48, 64]          # facts of the long texts, which filler brings to 400 - 500 tokens


def questions(seed, each):
    """-> [{family, prompt, answer}], `each` per family, all levels alike."""
    rng = random.Random(f"held out {seed}")
    rows, seen = [], set()
    for family in PLAIN + list(RECALL):
        n = misses = 0
        while n < each and misses < 2000:
            if family in RECALL:
                q = recall(rng, RECALL[family])
            else:
                q = draw(rng, family, rng.choice(FAMILIES[family].levels), True)
            if q.user in seen:
                misses += 1         # a family of few questions may run out
                continue
            seen.add(q.user)
            rows.append({"family": family, "prompt": q.user, "answer": q.answer})
            n += 1
    return rows


def recall(rng, facts):
    while True:
        q = tasks.recall(rng, facts or rng.choice(LONG), filler=None if facts else True)
        if held_out(q.key) and (facts or 1250 < len(q.user) < 1900):
            return q


def text(seed, size):
    """Held-out chats as the model sees them: questions, and stories, which are about half the text."""
    rng = random.Random(f"text {seed}")
    out = ""
    while len(out) < size:
        family = rng.choice(["story", "story", "story"] + PLAIN + ["recall"])
        q = draw(rng, family, FAMILIES[family].levels[len(FAMILIES[family].levels) // 2], True)
        out += "".join(t for t, _ in chat.render([(q.user, q.answer)]))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in questions(args.seed, args.each)]
    (args.out / "heldout.jsonl").write_text("".join(lines))
    (args.out / "heldout.txt").write_text(text(args.seed, 3500))


if __name__ == "__main__":
    main()
