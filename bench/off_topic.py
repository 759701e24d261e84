"""Queries about nothing that a developer's store holds: whatever is found for them is a false answer.

Hand-written templates over cooking, weather, geography, small talk, celebrities, law, medicine,
sports, gardening and travel, filled by a seed. Their words are those of daily life; some of them
(`branch`, `table`, `string`, `key`) are words of code as well, as they are for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

COUNT: Final = 200

TRIES: Final = 20
"""Queries made for each that is wanted, at most: some come twice."""

TEMPLATES: Final[Mapping[str, Sequence[str]]] = {
    "cooking": (
        "how long do I boil {food}",
        "what goes well with {food} for dinner",
        "can I freeze {food} after it was cooked",
        "a substitute for {spice} in a soup",
        "why did my {cake} not rise in the oven",
        "the recipe for {cake} that grandma used",
        "how much {spice} for a pot of {food}",
    ),
    "weather": (
        "will it rain in {city} this weekend",
        "when does the {season} begin this year",
        "is it too windy to sail near {city} tomorrow",
        "how cold does it get in {city} in {season}",
        "what to wear in {city} in {season}",
    ),
    "geography": (
        "which river flows through {city}",
        "how high is the highest mountain of {country}",
        "what language do they speak in {country}",
        "how far is it from {city} to the sea",
        "the capital and the population of {country}",
        "which countries border on {country}",
    ),
    "small talk": (
        "what should I give my {relative} for the birthday",
        "how was your weekend with your {relative}",
        "my {relative} is coming to visit on Sunday",
        "did you sleep well, you look tired",
        "let's have coffee near the {place} this afternoon",
        "nice shoes, where did you buy them",
    ),
    "celebrities": (
        "who was married to the singer of the {band}",
        "how old was the {star} when the first film came out",
        "which {star} won the most prizes last year",
        "what did the {star} wear at the gala",
        "is the drummer of the {band} still alive",
    ),
    "law": (
        "how many weeks notice does my landlord have to give for a {home}",
        "do I inherit the {home} of my {relative}",
        "can my neighbour forbid me to keep {animal}",
        "what is the fine for parking by the {place}",
        "who pays when {animal} bite a guest",
    ),
    "medicine": (
        "what helps against {ache} after a long flight",
        "is it safe to take pills for {ache} with grapefruit juice",
        "how long is one contagious with {illness}",
        "should a child with {illness} stay in bed",
        "which doctor do I see about {ache}",
    ),
    "sports": (
        "who won the {sport} final on Saturday",
        "how many players are there in a {sport} team",
        "how do I get fit for a {sport} season in {season}",
        "where can children learn {sport} in {city}",
    ),
    "garden": (
        "when do I prune the {plant} in {season}",
        "why are the leaves of my {plant} yellow",
        "how often does a {plant} need water",
        "which {plant} grows in the shade behind a {home}",
    ),
    "travel": (
        "the cheapest night train from {city} to {country}",
        "do I need a visa for {country}",
        "a quiet beach not far from {city}",
        "what to see in {city} in two days with {animal}",
        "is the {place} of {city} open on Mondays",
    ),
}

WORDS: Final[Mapping[str, Sequence[str]]] = {
    "food": (
        "chickpeas", "salmon", "lentils", "pumpkin", "mussels", "duck legs", "beetroot", "quail eggs",
    ),
    "spice": ("saffron", "nutmeg", "cumin", "tarragon", "lemon zest", "juniper berries"),
    "cake": ("sponge cake", "banana bread", "brioche", "plum tart", "soufflé"),
    "city": (
        "Marseille", "Helsinki", "Kyoto", "Quito", "Naples", "Galway", "Tbilisi", "Oslo", "Seville",
    ),
    "country": ("Bolivia", "Latvia", "Nepal", "Tunisia", "Uruguay", "Laos", "Slovakia", "Kenya"),
    "season": ("spring", "summer", "autumn", "winter", "the monsoon", "hay fever time"),
    "relative": ("aunt", "nephew", "mother-in-law", "grandfather", "sister", "godchild"),
    "place": ("cathedral", "zoo", "harbour", "botanical garden", "opera house", "old market"),
    "band": ("Beatles", "Rolling Stones", "Bee Gees", "Beach Boys", "Spice Girls"),
    "star": ("actress", "football player", "comedian", "opera singer", "prince", "fashion model"),
    "home": ("flat", "summer cottage", "farmhouse", "garage", "houseboat"),
    "animal": ("two dogs", "geese", "a parrot", "goats", "a rooster", "horses"),
    "ache": ("swollen ankles", "a stiff neck", "migraine", "heartburn", "an itchy scalp", "toothache"),
    "illness": ("chickenpox", "the flu", "scarlet fever", "measles", "a stomach bug"),
    "sport": ("handball", "curling", "rugby", "water polo", "cricket", "ice hockey"),
    "plant": ("rose bush", "lemon tree", "hydrangea", "ivy", "apple tree branch", "tomato", "fern"),
}  # fmt: skip

_SLOT: Final = re.compile(r"\{(\w+)\}")


def off_topic_queries(chance: np.random.Generator, count: int = COUNT) -> list[str]:
    """`count` different queries, evenly over the domains; fewer if there are not so many."""
    domains = list(TEMPLATES)
    made: dict[str, None] = {}
    for _ in range(TRIES * count):
        lines = TEMPLATES[domains[len(made) % len(domains)]]
        text = lines[int(chance.integers(len(lines)))]
        made[_SLOT.sub(lambda slot: _word(slot[1], chance), text)] = None
        if len(made) == count:
            break
    return list(made)


def _word(name: str, chance: np.random.Generator) -> str:
    values = WORDS[name]
    return values[int(chance.integers(len(values)))]
