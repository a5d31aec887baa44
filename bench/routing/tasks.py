"""The tasks of `bench.routing`: five kinds, made from a seed, each with what is right and a test for it."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from bench.routing.facts import questions
from bench.tools.cases import Case, cases
from replicas.tools.tool import object_of

TEXT_TOKENS, CALL_TOKENS = 32, 128
Call: TypeAlias = tuple[str, dict[str, object]]
"""A tool's name and its arguments."""

CITIES = ("Bergen", "Lima", "Dover", "Kyoto", "Porto", "Quito", "Turin", "Leeds", "Accra", "Perth", "Graz", "Oslo")
NAMES = ("Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Karin", "Leon")
GOODS = ("lamps", "chairs", "violins", "kettles", "carpets", "bicycles", "globes", "mirrors", "tents", "clocks")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
PRAISE = ("I loved it", "It was wonderful", "The best I ever had", "Everything was perfect", "I am very happy with it")
BLAME = ("I hated it", "It was terrible", "The worst I ever had", "Nothing worked", "I want my money back")
PLACES = ("hotel", "film", "meal", "book", "concert", "phone", "trip", "course", "bicycle", "coffee")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: its text, its calls as (name, arguments as JSON), and who gave it."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()
    model: str = ""
    prompt_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """`right` and `calls` are what a model that knows it says; `is_right` tells of any answer."""

    kind: str
    prompt: str
    right: str
    is_right: Callable[[Said], bool]
    calls: tuple[Call, ...] = ()
    tools: tuple[dict[str, object], ...] = field(default=())

    def body(self, model: str) -> dict[str, object]:
        """The request, as OpenAI's protocol has it."""
        limit = CALL_TOKENS if self.tools else TEXT_TOKENS
        offered = {"tools": list(self.tools), "parallel_tool_calls": False} if self.tools else {}
        turns = [{"role": "user", "content": self.prompt}]
        return {"model": model, "messages": turns, "max_tokens": limit, "temperature": 0, **offered}


def tasks(count: int, seed: int) -> list[Task]:
    """About `count` tasks, as many of each kind, none of whose prompts is part of another's; mixed."""
    draw = random.Random(seed)
    each = count // len(KINDS)
    found: dict[str, Task] = {}
    for make in KINDS:
        of_kind: dict[str, Task] = {}
        for task in make(draw, each * 4):
            if len(of_kind) < each and task.prompt not in found:
                of_kind[task.prompt] = task
        found |= of_kind
    prompts = "\x00".join(found)
    kept = [task for prompt, task in found.items() if prompts.count(prompt) == 1]
    draw.shuffle(kept)
    return kept


def _arithmetic(draw: random.Random, count: int) -> Iterator[Task]:
    for at in range(count):
        most = (9, 20, 99, 999)[at % 4]
        first, second = draw.randint(1, most), draw.randint(1, most)
        sign, result = draw.choice((("+", first + second), ("-", first - second), ("*", first * second)))
        yield Task("arithmetic", f"What is {first} {sign} {second}?", str(result), _ends_in(result))


def _extraction(draw: random.Random, count: int) -> Iterator[Task]:
    for _ in range(count):
        name, city, goods = draw.choice(NAMES), draw.choice(CITIES), draw.choice(GOODS)
        day, number = draw.choice(DAYS), draw.randint(2, 90)
        text = f"On {day} {name} sent {number} {goods} to {city}."
        wanted, right = draw.choice(
            (("Who sent them", name), ("Where to", city), ("On which day", day), ("How many were sent", str(number)))
        )
        yield Task("extraction", f"{text} {wanted}? Answer with one word.", right, _has(right))


def _classification(draw: random.Random, count: int) -> Iterator[Task]:
    for _ in range(count):
        is_good = draw.random() < 0.5
        said, place, day = draw.choice(PRAISE if is_good else BLAME), draw.choice(PLACES), draw.choice(DAYS)
        review = f"About the {place} of last {day}: {said}."
        right, other = ("positive", "negative") if is_good else ("negative", "positive")
        prompt = f"{review} Is this review positive or negative? Answer with one word."
        yield Task("classification", prompt, right, _has(right, other))


def _tools(draw: random.Random, count: int) -> Iterator[Task]:
    for case in cases(count, draw.randint(0, 10**6)):
        calls: tuple[Call, ...] = () if case.tool is None else ((case.tool, dict(case.arguments)),)
        right = "" if calls else "None of the tools fits."
        yield Task("tools", case.request, right, _calls(case), calls, _offered(case))


def _open(draw: random.Random, _: int) -> Iterator[Task]:
    asked = questions()
    draw.shuffle(asked)
    yield from (Task("open", question, f"It is {word}.", _has(word)) for question, word in asked)


KINDS = (_arithmetic, _extraction, _classification, _tools, _open)


def _ends_in(number: int) -> Callable[[Said], bool]:
    def is_right(said: Said) -> bool:
        found = re.findall(r"-?\d+", said.text.replace(",", ""))
        return bool(found) and int(found[-1]) == number

    return is_right


def _has(word: str, *others: str) -> Callable[[Said], bool]:
    def is_right(said: Said) -> bool:
        flags = re.IGNORECASE if len(word) > 2 else 0
        told = [re.search(rf"\b{re.escape(one)}\b", said.text, flags) is not None for one in (word, *others)]
        return told[0] and not any(told[1:])

    return is_right


def _calls(case: Case) -> Callable[[Said], bool]:
    def is_right(said: Said) -> bool:
        if case.tool is None or len(said.calls) != 1:
            return case.tool is None and not said.calls
        name, arguments = said.calls[0]
        return name == case.tool and object_of(arguments) == dict(case.arguments)

    return is_right


def _offered(case: Case) -> tuple[dict[str, object], ...]:
    return tuple(
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": object_of(tool.schema),
            },
        }
        for tool in case.tools
    )
