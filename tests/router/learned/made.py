"""Requests and labels for the tests of learned routing, from seeds."""

import random
from functools import cache

from replicas.engine import Message, Sampling
from router.call import Call
from router.learned.model import Model
from router.learned.training import Example, train
from router.learned.traits import traits_of

EASY = ("Tell me the colour of the {}.", "Name the {} again, please.", "Which {} do you like?")
HARD = ("Compute {} * {} - {}.", "What is {} / {} + {}?", "Solve {} = {} * x + {} for x.")
THINGS = ("sky", "sea", "barn", "clover", "lamp", "kettle", "violin", "harbour")


def asked(text: str, id_: str = "call-1") -> Call:
    return Call(id_, None, (Message("user", text),), Sampling(100))


def question(draw: random.Random, *, is_hard: bool) -> str:
    """One that a small model does (words), or does not (sums)."""
    if is_hard:
        return draw.choice(HARD).format(*(draw.randint(10, 9999) for _ in range(3)))
    return draw.choice(EASY).format(draw.choice(THINGS)) + " " + " ".join(draw.sample(THINGS, 3))


def examples(count: int, seed: int = 0, noise: float = 0.1) -> list[Example]:
    """Half are hard; the local model does the easy ones, but for `noise`."""
    draw, found = random.Random(seed), []
    for at in range(count):
        is_hard = at % 2 == 0
        is_good = is_hard == (draw.random() < noise)
        found.append(Example(traits_of(asked(question(draw, is_hard=is_hard))), float(is_good)))
    return found


@cache
def trained(count: int = 400, local: str = "small", seed: int = 0) -> Model:
    """A model of so many examples; made once."""
    return train(examples(count, seed), local)
