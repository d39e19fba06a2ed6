"""Little stories from a grammar: a hero, a friend, a lost thing, a place, a happy end."""

from words import ANIMALS, COLORS, FOODS, NAMES, THINGS

PLACES = ["the forest", "the garden", "the river", "the old house", "the hill", "the lake",
          "the market", "the field"]
MOODS = ["happy", "sad", "tired", "hungry", "brave", "quiet", "kind", "proud"]
SIZES = ["little", "big", "young", "old", "clever", "small"]
WEATHER = ["The sun was warm.", "It was raining.", "The wind was cold.", "The sky was clear.",
           "It was a quiet day."]
ENDS = ["They were friends from that day on.", "Then they went home and slept.", 
        "And they laughed until the evening.",
        "They never forgot that day.", "That was a good day."]


def an(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def sentence(rng):
    """One sentence that states no fact of the recall kind."""
    return rng.choice(["It was raining.", "The sun was warm.", "They went to {place} and slept.",
                       "Then everyone was {mood}.", "It was a quiet day in {place}.",
                       "They laughed until the evening."]).format(place=rng.choice(PLACES), mood=rng.choice(MOODS))


def story(rng):
    """(prompt, text), four to seven sentences."""
    hero, friend = rng.sample(ANIMALS, 2)
    name = rng.choice(NAMES)
    thing, color, food = rng.choice(THINGS), rng.choice(COLORS), rng.choice(FOODS)
    place, size, mood = rng.choice(PLACES), rng.choice(SIZES), rng.choice(MOODS)
    prompt = rng.choice([f"Tell me a story about {an(hero)}.", f"Tell a little story about {an(hero)}.",
                         f"Write a short story about {an(hero)} named {name}.",
                         f"Tell me a story about {name} the {hero}.", "Tell me a story.", "Write a little story."])
    lines = [rng.choice([f"Once there was {an(size)} {hero} named {name}.",
                         f"In {place} lived {an(size)} {hero} named {name}."]),
             rng.choice(WEATHER),
             rng.choice([f"{name} had {an(color)} {thing} and was very {mood}.",
                         f"One day {name} found {an(color)} {thing} near {place}.",
                         f"One day {name} lost {an(color)} {thing} near {place}."]),
             rng.choice([f"{name} met {an(friend)} and asked for help.",
                         f"There {name} saw {an(friend)} who was {rng.choice(MOODS)}."]),
             rng.choice([f"\"Is this your {thing}?\" asked the {friend}.",
                         f"\"I like your {color} {thing},\" said the {friend}.",
                         f"\"Come with me,\" said the {friend}."])]
    if rng.random() < 0.5:
        lines.append(rng.choice([f"The {hero} gave the {friend} some {food}.",
                                 f"The {hero} and the {friend} ate some {food}."]))
    lines.append(rng.choice(ENDS))
    return prompt, " ".join(lines)
