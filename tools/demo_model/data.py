"""Packed rows of fresh chats, and the adaptive mix they are drawn from.

Nothing is drawn twice, so whether the model's argmax hits every token of an answer, seen in
the training pass itself, is an unbiased estimate of its exact accuracy. `Mix` keeps that per
family and level, gives weak families more tokens and raises a level once it is mastered.
"""

import random

import torch

import chat
from tasks import FAMILIES, draw

NAMES = list(FAMILIES)
BUCKETS = [(f, i) for f in NAMES for i in range(len(FAMILIES[f].levels))]
INDEX = {bucket: n for n, bucket in enumerate(BUCKETS)}
IGNORE = -1

PROMPT_SAMPLE, PROMPT_WEIGHT, STORY_WEIGHT = 0.15, 0.1, 0.3
SYSTEMS = ["You are a helpful assistant.", "You are a tiny demo model.", "Answer briefly."]
THOUGHTS = {"add": "I add the two numbers.", "subtract": "I subtract the numbers.",
            "reverse": "I read it backwards.", "sort": "I put them in order.",
            "count": "I look at every letter.", "json": "I look for the field.",
            "weekday": "I count the days.", "brackets": "I close the last one first.",
            "recall": "I look for the fact.", "repeat": "I say it again.", "story": "I think of a story.",
            "talk": "I am polite."}


class Mix:
    MASTERED, ENOUGH, MEMORY = 0.80, 80, 0.99

    def __init__(self):
        self.accuracy = torch.zeros(len(BUCKETS), dtype=torch.float64)
        self.seen = torch.zeros(len(BUCKETS), dtype=torch.float64)      # answers since the level opened
        self.length = {f: 60.0 for f in NAMES}                          # tokens of a chat
        self.open = {f: FAMILIES[f].start for f in NAMES}               # highest level in use

    def state(self):
        return dict(self.__dict__)

    def load(self, state):
        self.__dict__.update(state)
        self.open = {f: max(self.open[f], FAMILIES[f].start) for f in NAMES}

    def family_accuracy(self, family):
        """Mean over all levels; those not open yet count as 0."""
        n = len(FAMILIES[family].levels)
        return sum(self.accuracy[INDEX[family, i]].item() for i in range(n)) / n

    def probabilities(self):
        weights = []
        for f in NAMES:
            need = 0.2 + (1 - self.family_accuracy(f)) if FAMILIES[f].tested else 0.5
            weights.append(FAMILIES[f].share * need / self.length[f])
        return weights

    def level(self, rng, family):
        top = self.open[family]
        if rng.random() < 0.7:
            return max(0, top - rng.randint(0, 2))
        return rng.randint(0, top)

    def open_all(self):
        """Every level but recall's: what the run shall end on, whether mastered or not."""
        for f in NAMES:
            if f != "recall":
                self.open[f] = len(FAMILIES[f].levels) - 1

    def update(self, right, total, tokens, chats):
        """Per bucket: answers wholly right and answers seen; per family: tokens and chats."""
        keep = self.MEMORY ** total
        rate = right / total.clamp(min=1)
        first = self.seen == 0
        self.accuracy = torch.where(total > 0, torch.where(first, rate, keep * self.accuracy + (1 - keep) * rate),
                                    self.accuracy)
        self.seen += total
        for n, f in enumerate(NAMES):
            if chats[n] > 0:
                self.length[f] += 0.05 * (float(tokens[n] / chats[n]) - self.length[f])
            top = INDEX[f, self.open[f]]
            last = self.open[f] + 1 == len(FAMILIES[f].levels)
            if not last and self.seen[top] >= self.ENOUGH and self.accuracy[top] >= self.MASTERED:
                self.open[f] += 1


def compose(rng, mix):
    """One chat: [(bucket, user, answer)], later turns of the same or of other families."""
    weights = mix.probabilities()
    family = rng.choices(NAMES, weights)[0]
    level = mix.level(rng, family)
    q = draw(rng, family, FAMILIES[family].levels[level], False)
    turns = [(INDEX[family, level], q.user, q.answer)]
    if q.follow_ups:
        if rng.random() < 0.75:
            turns += [(INDEX[family, level], u, a) for u, a in q.follow_ups[:20]]
    elif rng.random() < 0.4:
        for _ in range(rng.randint(1, 3)):
            other = rng.choices(NAMES, weights)[0]
            if other != "recall":
                level = mix.level(rng, other)
                q = draw(rng, other, FAMILIES[other].levels[level], False)
                turns.append((INDEX[other, level], q.user, q.answer))
    return family, turns


class Batches:
    """batch(step) depends on the seed, the rank, the step and the mix only: a run can resume."""

    def __init__(self, tokenizer, rows, time, seed, rank):
        self.rows, self.time, self.seed, self.rank = rows, time, seed, rank
        self.encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        self.end = tokenizer.token_to_id("<|endoftext|>")

    def tokens(self, turns, rng):
        """-> ids, and per id (answer number or IGNORE, weight) of predicting that id."""
        system = rng.choice(SYSTEMS) if rng.random() < 0.06 else None
        family = BUCKETS[turns[-1][0]][0]
        thought = THOUGHTS[family] if rng.random() < 0.03 else None
        ids, marks, answer = [], [], 0
        for text, spoken in chat.render([t[1:] for t in turns], system, thought):
            part = self.encode(text)
            weight = STORY_WEIGHT if BUCKETS[turns[min(answer, len(turns) - 1)][0]][0] == "story" else 1.0
            ids += part
            marks += [(answer, weight) if spoken else (IGNORE, PROMPT_WEIGHT)] * len(part)
            answer += spoken
        return ids, marks

    def batch(self, step, mix):
        rng = random.Random(f"{self.seed} {self.rank} {step}")
        shape = (self.rows, self.time)
        ids = torch.full(shape, self.end)
        positions = torch.zeros(shape, dtype=torch.long)
        answers = torch.full(shape, IGNORE)             # the answer that the NEXT token belongs to
        weights = torch.zeros(shape)                    # of predicting the next token
        buckets, fill, failures = [], [0] * self.rows, 0
        tokens, chats = torch.zeros(len(NAMES)), torch.zeros(len(NAMES))
        while failures < 6 and min(fill) < self.time - 24:
            family, turns = compose(rng, mix)
            part, marks = self.tokens(turns, rng)
            while len(part) > self.time - min(fill) and len(turns) > 1:
                turns = turns[: max(1, len(turns) * 3 // 4)]
                part, marks = self.tokens(turns, rng)
            row = min(range(self.rows), key=fill.__getitem__)
            if len(part) > self.time - fill[row]:
                failures += 1
                continue
            at = fill[row]
            span = slice(at, at + len(part))
            ids[row, span] = torch.tensor(part)
            positions[row, span] = torch.arange(len(part))
            for i, (answer, weight) in enumerate(marks[1:]):
                if answer != IGNORE:
                    answers[row, at + i] = len(buckets) + answer
                    weights[row, at + i] = weight
                elif rng.random() < PROMPT_SAMPLE:
                    weights[row, at + i] = weight
            buckets += [t[0] for t in turns]
            fill[row] += len(part)
            tokens[NAMES.index(family)] += len(part)
            chats[NAMES.index(family)] += 1
        return dict(ids=ids, positions=positions, answers=answers, weights=weights,
                    buckets=torch.tensor(buckets), tokens=tokens, chats=chats)


def grade(hits, answers, buckets):
    """hits, answers: per predicted token. -> per bucket (answers wholly right, answers)."""
    spoken = answers != IGNORE
    missed = torch.zeros(len(buckets)).index_add_(0, answers[spoken], (~hits[spoken]).float())
    right, total = torch.zeros(len(BUCKETS)), torch.zeros(len(BUCKETS))
    right.index_add_(0, buckets, (missed == 0).float())
    total.index_add_(0, buckets, torch.ones(len(buckets)))
    return right, total
