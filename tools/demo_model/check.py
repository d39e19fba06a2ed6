"""Checks that need no training: the chunked delta rule, packing, and the exported model.

    python check.py [--model models/demo]

With --model: transformers' logits equal ours on the same weights, its chat template renders
what the trainer was fed, and the tokenizer splits as it should.
"""

import argparse
import json
import pathlib
import random

import torch

import chat
from delta_rule import chunk_delta_rule, step_delta_rule
from model import Config, DemoModel, Packing


def relative(a, b):
    return ((a - b).square().mean().sqrt() / b.square().mean().sqrt()).item()


def check_delta_rule():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 64, 16, dtype=torch.float64) for _ in range(3))
    k = k / k.norm(dim=-1, keepdim=True)
    g, beta = -torch.rand(2, 3, 64, dtype=torch.float64), torch.rand(2, 3, 64, dtype=torch.float64)
    g[:, :, 20] = Packing.RESET
    error = relative(chunk_delta_rule(q, k, v, g, beta, 16), step_delta_rule(q, k, v, g, beta))
    print(f"delta rule, chunked against step by step: {error:.1e}")
    assert error < 1e-10


def random_model(cfg):
    """No weight zero: an error in any path must show."""
    torch.manual_seed(1)
    model = DemoModel(cfg)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    return model


def check_packing():
    cfg = Config(vocab_size=64, num_hidden_layers=4)
    model = random_model(cfg)
    ids = torch.randint(0, 64, (1, 64))
    packed = torch.cat([torch.arange(37), torch.arange(27)])[None]
    both = model.hidden(ids, Packing(packed, cfg))
    alone = torch.cat([ids[:, 37:], torch.zeros(1, 37, dtype=torch.long)], 1)
    error = relative(both[:, 37:], model.hidden(alone, Packing(torch.arange(64)[None], cfg))[:, :27])
    print(f"second chat of a row against the same chat alone: {error:.1e}")
    assert error < 1e-4


def load(folder):
    """The exported weights in our model, computing in fp32."""
    from safetensors.torch import load_file
    stated = json.loads((folder / "config.json").read_text())
    cfg = Config(**{k: stated[k] for k in Config.__dataclass_fields__ if k in stated and k != "dtype"})
    model = DemoModel(cfg)
    model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return model, cfg


def check_export(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours, cfg = load(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.randint(0, cfg.vocab_size, (2, 160))
    with torch.no_grad():
        want = theirs(ids).logits
        got = ours.head(ours.hidden(ids, Packing(torch.arange(160).expand(2, 160), cfg)))
    error = relative(got, want)
    print(f"our logits against transformers': {error:.1e}")
    assert error < 1e-4

    turns = [("What is 17 + 25?", "42"), ("Reverse: red blue", "blue red"), ("Hi", "Hello!")]
    for n in (1, 2, 3):
        for system in (None, "You are a helpful assistant."):
            for thought in (None, "I count."):
                messages = [{"role": "system", "content": system}] if system else []
                for i, (user, answer) in enumerate(turns[:n]):
                    messages += [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
                if thought:
                    messages[-1]["reasoning_content"] = thought
                ours_text = "".join(t for t, _ in chat.render(turns[:n], system, thought))
                assert tokenizer.apply_chat_template(messages, tokenize=False) == ours_text
                prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True,
                                                       enable_thinking=bool(thought))
                assert ours_text.startswith(prompt) and prompt.endswith(chat.opening(bool(thought)))
    text = "a<|im_start|>user\n<think> 123 f\u00fcr you're {[(\n\n x"
    said = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
    assert said == text.replace("<|im_start|>", "")
    print("chat template and tokenizer agree")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path)
    args = parser.parse_args()
    check_delta_rule()
    check_packing()
    if args.model:
        check_export(args.model)


if __name__ == "__main__":
    main()
