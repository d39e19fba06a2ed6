"""The question families. Each makes a question, its one right answer, and a key that says
what is asked, without the wording. A key's hash decides whether a question is held out, so
no wording of a held-out question is ever trained on.

A family has levels, easy to hard; the trainer raises the level by measured accuracy and the
tests draw from all levels.
"""

import hashlib
import json
from dataclasses import dataclass, field

import story
from words import (ANIMALS, CITIES, COLORS, DAYS, FIELDS, FOODS, KEYS, LETTERS, NAMES, SPELLED,
                   THINGS, VALUES)


@dataclass
class Question:
    user: str
    answer: str
    key: str
    follow_ups: list = field(default_factory=list)   # (user, answer): later turns of the same chat


def held_out(key):
    """One question in twelve is for testing only."""
    return hashlib.blake2b(key.encode(), digest_size=4).digest()[0] % 12 == 0


def number(rng):
    return rng.randint(10, 99)


def add(rng, level):
    a, b = number(rng), number(rng)
    form = rng.choice(["What is {} + {}?", "What is {} plus {}?", "{} + {} = ?", "Add {} and {}.",
                       "Calculate {} + {}.", "What is the sum of {} and {}?", "How much is {} + {}?", "{} + {}"])
    return Question(form.format(a, b), str(a + b), f"add {min(a, b)} {max(a, b)}")


def subtract(rng, level):
    a, b = sorted((number(rng), number(rng)), reverse=True)
    form, swap = rng.choice([("What is {} - {}?", 0), ("What is {} minus {}?", 0), ("{} - {} = ?", 0),
                             ("Subtract {} from {}.", 1), ("Calculate {} - {}.", 0), ("Take {} from {}.", 1),
                             ("How much is {} - {}?", 0), ("{} - {}", 0)])
    pair = (b, a) if swap else (a, b)
    return Question(form.format(*pair), str(a - b), f"subtract {a} {b}")


def items(rng, count):
    """A list of `count` different things of one kind, as strings."""
    pool = rng.choice([LETTERS, COLORS, ANIMALS, FOODS, NAMES, [str(n) for n in range(10)],
                       [str(n) for n in range(10, 100)]])
    return rng.sample(pool, count)


def reverse(rng, level):
    things = items(rng, level)
    join = rng.choice([" ", ", "])
    form = rng.choice(["Reverse the list: {}", "Reverse: {}", "Write this list backwards: {}",
                       "Say it in reverse order: {}", "Turn this list around: {}"])
    text = join.join(things)
    return Question(form.format(text), join.join(reversed(things)), "reverse " + " ".join(things))


def repeat(rng, level):
    things = [w for w in items(rng, min(level, 9))]
    things = [rng.choice(things) if rng.random() < 0.2 else w for w in things]
    form = rng.choice(["Repeat: {}", "Repeat after me: {}", "Copy this: {}", "Say: {}"])
    text = rng.choice([" ", ", "]).join(things)
    return Question(form.format(text), text, "repeat " + text)


def sort(rng, level):
    numbers = rng.sample(range(10, 100), level)
    join = rng.choice([" ", ", "])
    form, down = rng.choice([("Sort the numbers: {}", 0), ("Sort: {}", 0), ("Put these numbers in order: {}", 0),
                             ("Sort from small to large: {}", 0), ("Sort from large to small: {}", 1)])
    answer = join.join(str(n) for n in sorted(numbers, reverse=bool(down)))
    text = join.join(str(n) for n in numbers)
    return Question(form.format(text), answer, f"sort {down} " + " ".join(map(str, numbers)))


def tally(letters, wanted):
    """b e e t, e -> "b0 e1 e2 t2 = 2": the letters with the count so far."""
    count, steps = 0, []
    for letter in letters:
        count += letter == wanted
        steps.append(f"{letter}{count}")
    return " ".join(steps) + f" = {count}"


def count(rng, level):
    """Half the words are spelled out in the question, half are written plainly."""
    plain = rng.random() < 0.5
    if plain:
        word = rng.choice([w for w in SPELLED if len(w) <= level])
    else:
        few = rng.sample(LETTERS, rng.randint(2, 4))
        word = "".join(rng.choice(few) for _ in range(rng.randint(3, level)))
    wanted = rng.choice(word) if rng.random() < 0.8 else rng.choice(LETTERS)
    form = rng.choice(["Count the letter {} in {}.", "How many times does {} occur in {}?",
                       "How many {} are in {}?", "How often is the letter {} in {}?"])
    shown = word if plain else " ".join(word)
    return Question(form.format(wanted, shown), tally(word, wanted), f"count {wanted} {shown}")


def json_field(rng, level):
    makers = {"name": NAMES, "owner": NAMES, "city": CITIES, "color": COLORS, "pet": ANIMALS, "food": FOODS,
              "code": THINGS}
    fields = rng.sample(FIELDS, level)
    values = {f: rng.choice(makers[f]) if f in makers else number(rng) for f in fields}
    text = json.dumps(values)
    form = rng.choice(["What is the {f} in {t}?", "{t} What is the {f}?", "Get the field {f} from {t}",
                       "Here is JSON: {t} Which value has {f}?", "Read {f} from this JSON: {t}"])
    rng.shuffle(fields)
    turns = [(form.format(f=f, t=text), f"{values[f]}") for f in fields[:1]]
    turns += [(rng.choice(["And the {}?", "What is the {}?", "Now the {}."]).format(f), f"{values[f]}")
              for f in fields[1:]]
    return Question(*turns[0], f"json {fields[0]} {text}", turns[1:])


def weekday(rng, level):
    """The answer walks: "1 Tuesday 2 Wednesday" for two days after Monday."""
    day, steps, back = rng.randrange(7), rng.randint(1, level), rng.random() < 0.5
    form = rng.choice(["What day is {n} days {w} {d}?", "Which day comes {n} days {w} {d}?",
                       "Which weekday is {n} days {w} {d}?", "It is {d}. What day is {n} days {x}?"])
    user = form.format(n=steps, w="before" if back else "after", d=DAYS[day],
                       x="earlier" if back else "later")
    if steps == 1:
        user = user.replace("1 days", "1 day")
    walk = [f"{i} {DAYS[(day + (-i if back else i)) % 7]}" for i in range(1, steps + 1)]
    return Question(user, " ".join(walk), f"weekday {day} {steps} {back}")


PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}


def brackets(rng, level):
    """Close what is open. Some pairs are closed already."""
    text, open_now, depth = "", [], rng.randint(max(1, level - 1), level)
    while len(open_now) < depth:
        if open_now and rng.random() < 0.15:
            text += PAIRS[open_now.pop()]
        else:
            open_now.append(rng.choice("([{<"))
            text += open_now[-1]
    form = rng.choice(["Close the brackets: {}", "Complete the brackets: {}", "Finish: {}",
                       "Which brackets close {}"])
    return Question(form.format(text), "".join(PAIRS[b] for b in reversed(open_now)), "brackets " + text)


FACTS = {"{} has {}.": "What does {} have?", "{}: {}": "What is the value of {}?",
         "The {} is {}.": "What is the {}?", "{} = {}": "What is {}?",
         "The {} gets {}.": "What does the {} get?", "{} likes {}.": "What does {} like?",
         "{} means {}.": "What does {} mean?"}


def recall(rng, level, budget=440, filler=None):
    """`level` facts, and one question, then more questions about the other facts. With `filler`
    sentences of a story stand between the facts. The answer restates the fact: the key comes
    just before the value in both places, and a lookup by what precedes is what a model of this
    kind learns first. Asked for the bare value, it stayed at chance for a million tokens."""
    facts = {}
    kind = rng.choice(["number", "number", "color", "animal", "city", "food", "mixed"])
    for key in rng.sample(KEYS, level):
        k = rng.choice(["number", "color", "city", "food"]) if kind == "mixed" else kind
        facts[key] = str(number(rng)) if k == "number" else rng.choice(VALUES[k])
    fact = rng.choice(list(FACTS))
    lines = [fact.format(k, v) for k, v in facts.items()]
    if filler is None:
        filler = rng.random() < 0.15
    if filler:
        tokens, wanted = 6 * level, rng.randint(20, min(budget, 60 + 25 * level))
        while tokens < wanted:
            sentence = story.sentence(rng)
            lines.insert(rng.randint(0, len(lines)), sentence)
            tokens += 10
    text = rng.choice([" ", " ", "\n"]).join(lines)
    head = rng.choice(["Remember: {}", "Here are some facts. {}", "Read this: {}", "{}", "Learn these: {}"])
    asked = list(facts)
    rng.shuffle(asked)
    ask = rng.choice([FACTS[fact], FACTS[fact], "What goes with {}?", "Which value belongs to {}?"])
    again = rng.choice([ask, "And {}?", "{}?", "What about {}?"])
    first = head.format(text) + rng.choice(["\n", " "]) + ask.format(asked[0])
    turns = [(again.format(k), fact.format(k, facts[k])) for k in asked[1:]]
    return Question(first, fact.format(asked[0], facts[asked[0]]), f"recall {asked[0]} {text}", turns)


def tell(rng, level):
    prompt, text = story.story(rng)
    return Question(prompt, text, "story " + text)


TALK = [
    (["Hello", "Hello!", "Hi", "Hi!", "Hey", "Good morning"], "Hello! What can I do for you?"),
    (["Who are you?", "What are you?", "What is your name?"],
     "I am a tiny demo model. I can add, sort, count, remember facts and tell little stories."),
    (["What can you do?", "Help", "How can you help me?"],
     "I can add and subtract, sort and reverse lists, count letters, read JSON, close brackets, "
     "remember facts and tell little stories."),
    (["Thanks", "Thank you", "Thank you!", "Thanks!"], "You are welcome."),
    (["Bye", "Goodbye", "Good night"], "Goodbye!"),
    (["How are you?", "How are you today?"], "I am fine, thank you."),
]


def talk(rng, level):
    asks, answer = rng.choice(TALK)
    return Question(rng.choice(asks), answer, "talk")


@dataclass
class Family:
    make: object
    levels: list
    share: float            # of the training tokens, before the trainer weighs by accuracy
    start: int = 0          # the highest level that is open from the beginning
    tested: bool = True


FAMILIES = {
    "add": Family(add, [2], 1.3),
    "subtract": Family(subtract, [2], 1.3),
    "reverse": Family(reverse, [2, 3, 4, 5, 6], 1.0),
    "sort": Family(sort, [2, 3, 4, 5], 0.8),
    "count": Family(count, [4, 5, 6, 8], 0.8),
    "json": Family(json_field, [2, 3, 4, 5, 6], 0.8),
    "weekday": Family(weekday, [3, 5, 7, 9], 0.5),
    "brackets": Family(brackets, [2, 4, 6, 8], 0.8),
    "recall": Family(recall, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64], 2.5, start=4),
    "repeat": Family(repeat, [3, 5, 7, 9], 0.6),
    "story": Family(tell, [1], 0.6, tested=False),
    "talk": Family(talk, [1], 0.05, tested=False),
}


def draw(rng, family, level, wanted):
    """A question of the family that is held out (wanted=True) or is not."""
    while True:
        q = FAMILIES[family].make(rng, level)
        if family == "talk" or held_out(q.key) == wanted:
            return q
