"""Decodes with Hugging Face transformers for compare.py, which runs this with a Python that has torch and transformers.

    serve_transformers.py MODEL

It loads MODEL once per type and keeps the last. Each line of standard input is a JSON object, and gets one as its answer:
    {"variant": "eager fp32", "threads": 2, "tokens": 64, "prompt": 0} → {"tok_s": 91.2} or {"error": "..."}
Variants: eager or compiled, fp32 or bf16. A decode step is what generate() does for one greedy token, without its checks:
one forward pass over the cache and an argmax, so that nothing but the model is timed. With "prompt" it is one forward pass over
so many tokens instead, with the logits of the last one only.
"""

import json
import os
import sys
import time

import torch
import transformers

PROMPT = 2  # tokens before the timed ones, as in `sluice bench`
WARM_UP = 4


class Decoder:
    def __init__(self, folder: str, dtype: str):
        precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        self.dtype = dtype
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=precision).eval()
        self.forward = self.model
        self.compiled = {}  # number of threads → the model, compiled for them

    def choose(self, kind: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.forward = self.model
        if kind == "compiled":
            if threads not in self.compiled:
                torch.compiler.reset()
                self.compiled[threads] = torch.compile(self.model)
            self.forward = self.compiled[threads]

    def decode(self, tokens: int) -> float:
        """Tokens per second."""
        with torch.inference_mode():
            ids = torch.arange(1, 1 + PROMPT).unsqueeze(0)
            out = self.model(input_ids=ids, use_cache=True)  # eager: a compiled one would compile for this length too
            for step in range(WARM_UP + tokens):
                if step == WARM_UP:
                    start = time.perf_counter()
                token = out.logits[:, -1:].argmax(-1)
                out = self.forward(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
            return tokens / (time.perf_counter() - start)

    def prefill(self, tokens: int) -> float:
        with torch.inference_mode():
            for timed in (False, True):
                ids = (torch.arange(tokens) % 256).unsqueeze(0)
                start = time.perf_counter()
                self.forward(input_ids=ids, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1)
                if timed:
                    return tokens / (time.perf_counter() - start)


def main() -> int:
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # libraries write to 1 what they like
    os.dup2(2, 1)
    print(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__}), file=answers)
    decoder = None
    for line in sys.stdin:
        wish = json.loads(line)
        try:
            kind, dtype = wish["variant"].split()
            if decoder is None or decoder.dtype != dtype:
                decoder = None  # before the next one: a large model fits once
                decoder = Decoder(sys.argv[1], dtype)
            decoder.choose(kind, wish["threads"])
            answer = {"tok_s": decoder.prefill(wish["prompt"]) if wish["prompt"] else decoder.decode(wish["tokens"])}
        except Exception as problem:
            answer = {"error": f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"}
        print(json.dumps(answer), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
