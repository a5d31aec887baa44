"""The cases of `bench.tools`: made from a seed, so that anybody gets the same ones, and nobody has trained on them.

A case offers 2 to 5 tools. In 70 % one of them is asked for, every argument named in the text; of the rest half ask for
something that none of the offered tools does, and half ask for no tool at all. Half of the words are made up: a model
that has only learnt likely values gets those wrong.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bench.tools.domains import DOMAINS, TALK, Count, Domain, Kind, OneOf, Words
from replicas.tools.tool import Tool, written

CALL_SHARE = 0.7
Value: TypeAlias = str | int

_ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "h",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "z",
)
_VOWELS = ("a", "e", "i", "o", "u")
_ENDS = ("", "l", "n", "r", "s", "x", "m")


@dataclass(frozen=True, slots=True)
class Case:
    """One request. `tool` and `arguments` are what is right; None where no tool fits."""

    request: str
    tools: tuple[Tool, ...]
    tool: str | None
    arguments: Mapping[str, Value]


def cases(count: int, seed: int) -> list[Case]:
    """`count` cases, in an order that mixes the kinds."""
    draw = random.Random(seed)
    calls = round(count * CALL_SHARE)
    made = [_call(draw, DOMAINS[i % len(DOMAINS)]) for i in range(calls)]
    made += [_no_tool(draw, is_talk=i % 2 == 0) for i in range(count - calls)]
    draw.shuffle(made)
    return made


def _call(draw: random.Random, domain: Domain) -> Case:
    request, arguments = _asked(draw, domain)
    return Case(request, _offered(draw, domain, is_in=True), domain.name, arguments)


def _no_tool(draw: random.Random, *, is_talk: bool) -> Case:
    domain = draw.choice(DOMAINS)
    request = draw.choice(TALK) if is_talk else _asked(draw, domain)[0]
    return Case(request, _offered(draw, domain, is_in=False), None, {})


def _asked(draw: random.Random, domain: Domain) -> tuple[str, dict[str, Value]]:
    arguments = {name: _value(draw, kind) for name, kind in domain.arguments.items()}
    return draw.choice(domain.requests).format(**arguments), arguments


def _offered(draw: random.Random, domain: Domain, *, is_in: bool) -> tuple[Tool, ...]:
    others = draw.sample([one for one in DOMAINS if one is not domain], draw.randint(2, 5) - is_in)
    offered = [*others, domain] if is_in else others
    draw.shuffle(offered)
    return tuple(map(_tool, offered))


def _tool(domain: Domain) -> Tool:
    properties = {name: _schema(kind) for name, kind in domain.arguments.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return Tool(domain.name, domain.description, written(schema))


def _schema(kind: Kind) -> dict[str, object]:
    described = {"description": kind.description} if kind.description else {}
    if isinstance(kind, Count):
        return {"type": "integer", **described}
    return {"type": "string", **({"enum": list(kind.choices)} if isinstance(kind, OneOf) else {}), **described}


def _value(draw: random.Random, kind: Kind) -> Value:
    if isinstance(kind, Count):
        return draw.randint(kind.least, kind.most)
    if isinstance(kind, Words):
        return _made_up(draw) if draw.random() < 0.5 else draw.choice(kind.usual)
    return draw.choice(kind.choices)


def _made_up(draw: random.Random) -> str:
    syllables = [draw.choice(_ONSETS) + draw.choice(_VOWELS) + draw.choice(_ENDS) for _ in range(2)]
    return "".join(syllables).capitalize()
