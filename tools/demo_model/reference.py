"""What transformers (fp32, greedy) makes of the bundled model's held-out questions and text: the reference that
tests/demo compares the program with.

    python reference.py --model models/demo --out tests/golden-demo/transformers.json
"""

import argparse
import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import evaluate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    rows = [json.loads(line) for line in (args.model / "heldout.jsonl").read_text().splitlines()]
    evaluate.answer_all(model, tokenizer, rows, 32)
    value, n = evaluate.perplexity(model, tokenizer, (args.model / "heldout.txt").read_text())
    reference = {"perplexity": value, "predicted_tokens": n, "answers": [row["said"] for row in rows]}
    args.out.write_text(json.dumps(reference, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
