"""Greedy answers to held-out questions, through transformers in fp32, and their exactness.

    python evaluate.py --model models/demo --each 200

A question counts only if the whole answer is right, to the letter. Prompts of one length go
through the model together, so that there is no padding.
"""

import argparse
import collections
import json
import math
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import heldout


def answer_all(model, tokenizer, rows, batch):
    by_length = collections.defaultdict(list)
    for row in rows:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": row["prompt"]}], tokenize=True,
                                            add_generation_prompt=True, return_dict=False)
        by_length[len(ids)].append((row, ids))
    for length, group in sorted(by_length.items()):
        for at in range(0, len(group), batch):
            part = group[at:at + batch]
            ids = torch.tensor([i for _, i in part])
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=48)
            for (row, _), tail in zip(part, out[:, length:]):
                row["said"] = tokenizer.decode(tail, skip_special_tokens=True)


def perplexity(model, tokenizer, text, window=512):
    ids = torch.tensor(tokenizer(text)["input_ids"])
    loss = n = 0
    for part in ids.split(window):
        with torch.no_grad():
            logits = model(part[None]).logits[0, :-1]
        loss += torch.nn.functional.cross_entropy(logits, part[1:], reduction="sum").item()
        n += len(part) - 1
    return math.exp(loss / n), n


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--each", type=int, default=200, help="questions per family")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--file", type=pathlib.Path, help="a heldout.jsonl instead of fresh questions")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--wrong", type=int, default=0, help="show that many wrong answers per family")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()

    if args.file:
        rows = [json.loads(line) for line in args.file.read_text().splitlines()]
    else:
        rows = heldout.questions(args.seed, args.each)
    answer_all(model, tokenizer, rows, args.batch)
    families = collections.defaultdict(list)
    for row in rows:
        families[row["family"]].append(row)
    for family, group in families.items():
        wrong = [r for r in group if r["said"] != r["answer"]]
        share = 100 * (1 - len(wrong) / len(group))
        print(f"| {family} | {share:.1f} % | {len(group) - len(wrong)} of {len(group)} |")
        for r in wrong[:args.wrong]:
            print(f"    {r['prompt'][-70:]!r}: wants {r['answer']!r}, said {r['said']!r}")
    text = args.model / "heldout.txt"
    if text.exists():
        value, n = perplexity(model, tokenizer, text.read_text())
        print(f"perplexity of heldout.txt, windows of 512: {value:.4f} over {n} tokens")
    said = [{"prompt": p} for p in ("What is 17 + 25?", "Tell me a story about a fox.", "Who are you?")]
    answer_all(model, tokenizer, said, 1)
    for row in said:
        print(f"{row['prompt']} -> {row['said']}")


if __name__ == "__main__":
    main()
