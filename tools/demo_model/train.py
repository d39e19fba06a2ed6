"""Trains the demo model: one command, seeded, resumable.

    python train.py --out RUN --hours 1.5

Data-parallel over `--workers` processes of one thread. The rates are Muon's for matrices
and AdamW's for the rest, constant until the last `--decay` share of the run and then linear to
zero. Progress is elapsed training time over --hours, or step over --steps; with --steps a run
is reproducible to the bit on one machine. A killed run goes on from RUN/checkpoint.pt.
"""

import argparse
import os
import pathlib
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from tokenizers import Tokenizer

import tokenizer as tokenizer_module
from data import BUCKETS, INDEX, NAMES, Batches, Mix, grade
from model import Config, DemoModel, Layer, Packing
from muon import Muon

MUON_RATE, ADAM_RATE, WARM_UP = 0.02, 3e-3, 30
SAVE_EVERY = 120   # seconds


def share_word_embeddings(model, vocabulary):
    """Start " word" near "word": the same vector plus one common "after a space" vector. Copying
    a word from the middle of a text to the start of an answer then needs nothing but copying."""
    table = model.model.embed_tokens.weight
    with torch.no_grad():
        space = torch.randn(table.shape[1]) * 0.03
        for token, i in sorted(vocabulary.items()):
            bare = vocabulary.get(token[1:]) if token.startswith("Ġ") and len(token) > 1 else None
            if bare is not None:
                table[i] = 0.2 * table[i] + table[bare] + space


def build(cfg, vocabulary, seed):
    torch.manual_seed(seed)
    model = DemoModel(cfg)
    share_word_embeddings(model, vocabulary)
    vectors, matrices = [], []
    for name, p in model.named_parameters():
        large = p.dim() == 2 and min(p.shape) > 16 and "embed" not in name
        (matrices if large else vectors).append(p)
    adam = torch.optim.AdamW(vectors, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return model, Muon(matrices), adam


def losses(model, batch, cfg):
    """-> loss, draft loss, and the graded answers of the batch."""
    ids = batch["ids"]
    y = model.hidden(ids, Packing(batch["positions"], cfg))
    weights, answers = batch["weights"], batch["answers"]
    chosen = weights > 0
    target = torch.roll(ids, -1, 1)
    logits = model.head(y[chosen])
    each = F.cross_entropy(logits, target[chosen], reduction="none") * weights[chosen]
    hits = logits.detach().argmax(-1) == target[chosen]
    right, total = grade(hits, answers[chosen], batch["buckets"])

    # The draft layer rides along on one row. It is given no say in the trunk: detached.
    one = Packing(batch["positions"][:1], cfg)
    table = model.model.embed_tokens.weight.detach()
    drafted = model.draft_hidden(y[:1].detach(), target[:1], one, table)
    spoken = torch.roll(answers[:1], -1, 1) >= 0
    spoken[:, -2:] = False
    spoken &= answers[:1] >= 0                 # only drafts after an answer's own token
    guess = F.linear(drafted[spoken], table)
    after_next = torch.roll(ids[:1], -2, 1)[spoken]
    draft = F.cross_entropy(guess, after_next, reduction="sum") / max(1, len(guess))
    accepted = (guess.detach().argmax(-1) == after_next).float().sum()
    return (each.sum() / weights.sum(), draft, right, total,
            torch.tensor([accepted.item(), float(len(guess))]))


def average_gradients(parameters, extra, ranks):
    """One all-reduce: the mean gradient, and the sum of `extra`."""
    flat = torch.cat([p.grad.reshape(-1) if p.grad is not None else torch.zeros(p.numel())
                      for p in parameters] + [extra])
    dist.all_reduce(flat)
    at = 0
    for p in parameters:
        p.grad = flat[at:at + p.numel()].view_as(p) / ranks
        at += p.numel()
    return flat[at:]


class Run:
    """One rank's part of a training run. State that a checkpoint keeps: model, optimizers, mix,
    step and elapsed seconds. The data stream needs none, it follows from the step."""

    def __init__(self, rank, args):
        self.rank, self.args = rank, args
        tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
        self.cfg = Config(vocab_size=tokenizer.get_vocab_size(), dtype=torch.bfloat16)
        self.model, self.muon, self.adam = build(self.cfg, tokenizer.get_vocab(), args.seed)
        self.parameters = list(self.model.parameters())
        self.batches = Batches(tokenizer, args.rows, args.time, args.seed, rank)
        self.mix, self.step, self.elapsed = Mix(), 0, 0.0
        self.checkpoint = args.out / "checkpoint.pt"
        if self.checkpoint.exists():
            self.load()
        self.began = time.time() - self.elapsed

    def load(self):
        state = torch.load(self.checkpoint, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        self.muon.buffers = state["muon"]
        self.mix.load(state["mix"])
        self.step, self.elapsed = state["step"], state["elapsed"]

    def save(self):
        """To a file beside it first: a kill while writing leaves the last checkpoint whole."""
        partial = self.checkpoint.with_suffix(".part")
        torch.save({"model": self.model.state_dict(), "adam": self.adam.state_dict(),
                    "muon": self.muon.buffers, "mix": self.mix.state(), "step": self.step,
                    "elapsed": self.elapsed, "config": {k: v for k, v in vars(self.cfg).items() if k != "dtype"}},
                   partial)
        os.replace(partial, self.checkpoint)

    def progress(self):
        args = self.args
        return self.step / args.steps if args.steps else self.elapsed / (3600 * args.hours)

    def train_step(self):
        """One step on all ranks; -> mean loss, mean draft loss, drafts accepted, drafts made."""
        args, ranks = self.args, self.args.workers
        batch = self.batches.batch(self.step, self.mix)
        loss, draft, right, total, drafts = losses(self.model, batch, self.cfg)
        for p in self.parameters:
            p.grad = None
        (loss + draft).backward()
        # All ranks go by the clock of rank 0, so that their rates stay equal.
        clock = torch.tensor([time.time() - self.began if self.rank == 0 else 0.0])
        extra = torch.cat([right, total, batch["tokens"], batch["chats"], drafts,
                           torch.stack([loss.detach(), draft.detach()]), clock])
        extra = average_gradients(self.parameters, extra, ranks)
        n, m = len(BUCKETS), len(NAMES)
        right, total, tokens, chats, drafts, both, clock = extra.split([n, n, m, m, 2, 2, 1])
        self.elapsed = float(clock)
        left = 1 - self.progress()
        rate = min(1.0, (self.step + 1) / WARM_UP, max(0.0, left / args.decay))
        if left < args.decay:
            self.mix.open_all()
        self.muon.step(MUON_RATE * rate, self.rank, ranks)
        self.adam.param_groups[0]["lr"] = ADAM_RATE * rate
        self.adam.step()
        self.mix.update(right.double(), total.double(), tokens, chats)
        self.step += 1
        return torch.cat([both / ranks, drafts])


class Log:
    """A line every 50 steps: means over the steps since the last line, and the mix's figures."""

    EVERY = 50

    def __init__(self, run):
        self.run, self.path, self.rows = run, run.args.out / "log.txt", []
        self.since = time.time()

    def add(self, figures):
        self.rows.append(figures)
        if self.run.step % self.EVERY:
            return
        args, rows = self.run.args, torch.stack(self.rows)
        speed = len(rows) * args.rows * args.time * args.workers / (time.time() - self.since)
        loss, draft = rows[:, :2].mean(0)
        accepted, made = rows[:, 2:].sum(0)
        line = (f"{self.run.step} {self.run.elapsed / 60:.1f}min {speed:.0f}tok/s loss {loss:.3f} "
                f"draft {draft:.3f} accept {accepted / made.clamp(min=1):.2f} | " + " ".join(map(self.standing, NAMES)))
        print(line, flush=True)
        with open(self.path, "a") as f:
            f.write(line + "\n")
        self.rows, self.since = [], time.time()

    def standing(self, family):
        """Mean accuracy over all levels (accuracy @ the highest open level)."""
        mix = self.run.mix
        top = mix.accuracy[INDEX[family, mix.open[family]]]
        return f"{family}:{100 * mix.family_accuracy(family):.0f}({100 * top:.0f}@{mix.open[family]})"


def worker(rank, args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{args.out.resolve()}/rendezvous", rank=rank,
                            world_size=args.workers)
    if args.compile:
        Layer.before = torch.compile(Layer.before, dynamic=False)
        Layer.after = torch.compile(Layer.after, dynamic=False)
    run = Run(rank, args)
    log, saved = Log(run), time.time()
    while run.progress() < 1:
        figures = run.train_step()
        if rank == 0:
            log.add(figures)
            if time.time() - saved > SAVE_EVERY:
                run.save()
                saved = time.time()
    if rank == 0:
        run.save()
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--hours", type=float, default=1.6, help="training time, over all resumed runs")
    parser.add_argument("--steps", type=int, default=0, help="length in steps instead of hours")
    parser.add_argument("--decay", type=float, default=0.45, help="share of the run in which the rates fall")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=3, help="per worker and step")
    parser.add_argument("--time", type=int, default=640, help="tokens in a row")
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "tokenizer.json").exists():
        tokenizer_module.train(args.vocab).save(str(args.out / "tokenizer.json"))
    (args.out / "rendezvous").unlink(missing_ok=True)
    mp.spawn(worker, (args,), nprocs=args.workers)


if __name__ == "__main__":
    main()
