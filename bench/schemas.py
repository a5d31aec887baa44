"""JSON schemas as callers write them, from a seed.

Records with nested objects, lists, enums, bounds, patterns, formats, optional members, unions and references, also of
a schema to itself. Values are mostly bounded, as in an API that means to store them.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

NAMES = ("name", "city", "status", "count", "price", "tags", "note", "active", "owner", "size", "email", "level", "ids")
VALUES = ("red", "green", "blue", "open", "closed", "in progress", "é/ü", 'say "hi"', "", "a\\b", "日本")
PATTERNS = (
    "^[A-Z]{2}-[0-9]{4}$",
    "^[a-z]+(_[a-z]+){0,2}$",
    "^#[0-9a-f]{6}$",
    "^(yes|no|maybe)$",
    "^v[0-9]{1,2}\\.[0-9]$",
)
FORMATS = ("date", "time", "date-time", "uuid", "ipv4")
DEPTH = 3


def generated(seed: int) -> dict[str, Json]:
    """The schema that belongs to `seed`: an object at the root."""
    random = Random(seed)
    root = _record(random, DEPTH)
    if random.random() < 0.3:
        root["$defs"] = {"part": _record(random, 1), "link": _chain(random)}
        properties = root["properties"]
        assert isinstance(properties, dict)
        properties["part"] = {"$ref": "#/$defs/part"}
        properties["link"] = {"$ref": "#/$defs/link"}
    return root


def _record(random: Random, depth: int) -> dict[str, Json]:
    names = random.sample(NAMES, random.randint(1, 4))
    properties: dict[str, Json] = {name: _value(random, depth - 1) for name in names}
    required: list[Json] = [name for name in names if random.random() < 0.7]
    schema: dict[str, Json] = {"type": "object", "properties": properties, "required": required}
    if random.random() < 0.5:
        schema["additionalProperties"] = False
    return schema


def _value(random: Random, depth: int) -> Json:
    kinds: Sequence[Callable[[Random, int], Json]] = _NESTED + _PLAIN if depth > 0 else _PLAIN
    return random.choice(kinds)(random, depth)


def _list(random: Random, depth: int) -> Json:
    least = random.randint(0, 2)
    return {"type": "array", "items": _value(random, depth - 1), "minItems": least, "maxItems": least + 2}


def _union(random: Random, depth: int) -> Json:
    null: dict[str, Json] = {"type": "null"}
    return {"anyOf": [_value(random, depth - 1), random.choice((null, _record(random, depth - 1)))]}


def _integer(random: Random, _: int) -> Json:
    least = random.randint(-1000, 1000)
    bounds = random.choice(({"minimum": least}, {"minimum": least, "maximum": least + random.randint(0, 500)}, {}))
    return {"type": "integer", **bounds}


def _number(random: Random, _: int) -> Json:
    least = random.randint(-50, 50)
    bounds = {"exclusiveMinimum": least, "maximum": least + random.randint(1, 9) + 0.5}
    return {"type": "number", **random.choice((bounds, {"minimum": 0, "multipleOf": 0.25}))}


def _string(random: Random, _: int) -> Json:
    least = random.randint(0, 3)
    lengths: Json = {"type": "string", "minLength": least, "maxLength": least + random.randint(0, 12)}
    pattern: Json = {"type": "string", "pattern": random.choice(PATTERNS)}
    known: Json = {"type": "string", "format": random.choice(FORMATS)}
    return random.choice((lengths, pattern, known))


def _enum(random: Random, _: int) -> Json:
    others: tuple[Json, ...] = (None, True, 7, -2.5, ["x", 1], {"k": "v"})
    return {"enum": [*random.sample(VALUES, random.randint(1, 4)), random.choice(others)]}


def _const(random: Random, _: int) -> Json:
    return {"const": random.choice(VALUES)}


def _boolean(_: Random, __: int) -> Json:
    return {"type": "boolean"}


def _chain(random: Random) -> dict[str, Json]:
    """A list whose tail is a list of the same kind."""
    tail: Json = {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/link"}]}
    properties: dict[str, Json] = {"value": _value(random, 0), "next": tail}
    return {"type": "object", "properties": properties, "required": ["value", "next"], "additionalProperties": False}


_PLAIN: tuple[Callable[[Random, int], Json], ...] = (_integer, _number, _string, _enum, _const, _boolean)
_NESTED: tuple[Callable[[Random, int], Json], ...] = (_record, _list, _union)
