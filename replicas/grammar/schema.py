"""A client's JSON schema in the shape that llguidance follows: every answer is still valid under the client's own.

Formats that it does not know are dropped (JSON Schema says that they are annotations), and an object that lists its
properties takes no others unless the schema says so or composes schemas: a small model that may invent properties never
comes to an end. White space is what `json.dumps` writes: one space after a colon or a comma, so there is no loop of
blanks to fall into, and most tokens between values are forced.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from math import lcm
from typing import TypeAlias, TypeGuard
from urllib.parse import quote

from replicas.errors import InvalidRequest
from replicas.grammar.limits import JOINED_PATTERNS, MULTIPLE, RULES

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

PARAM = "json_schema"
"""Names the schema in errors; a JSON pointer into it follows."""

_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_IN_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_ALONE = frozenset(
    {"items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"}
)
_JOINING = frozenset({"allOf", "anyOf", "oneOf", "$ref", "enum", "const"})
_OTHERS = frozenset({"additionalProperties", "patternProperties", "minProperties"})
_SHAPING = _OTHERS | {"properties", "required", "maxProperties"}
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
_MARGIN = 1e-6
"""How far a closed bound lies from an open one, relative to it."""
_REFERENCE = "/#~!$&'()*+,;=:@?%[]"
"""Characters that a reference may hold; others are percent-encoded for llguidance."""

_STYLE: Json = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def parsed(text: str) -> Json:
    """The schema that `text` is. Raises InvalidRequest."""
    try:
        schema: Json = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"the schema is not valid JSON: {error}", PARAM) from error
    except RecursionError:
        raise InvalidRequest("the schema is nested too deeply", PARAM) from None
    return schema


def followable(schema: Json) -> Json:
    """`schema` for llguidance. Raises InvalidRequest with a JSON pointer in `param`."""
    if not isinstance(schema, dict | bool):
        raise InvalidRequest("the schema must be an object", PARAM)
    if schema is False:
        raise InvalidRequest("the schema is false, which nothing matches", PARAM)
    nodes = list(walk(schema))
    is_joined = any(_is_joined(node) for _, node in nodes)
    _check_cost(nodes, is_joined)
    try:
        edited = _edited(schema, is_closing=not is_joined)
    except RecursionError:
        raise InvalidRequest("the schema is nested too deeply", PARAM) from None
    return {**(edited if isinstance(edited, dict) else {}), "x-guidance": _STYLE}


def children(schema: Json) -> Iterator[tuple[str, Json]]:
    """The schemas right under `schema`, each with its JSON pointer from there."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in _BY_NAME and isinstance(value, dict):
            yield from ((f"/{key}/{_escaped(name)}", child) for name, child in value.items())
        elif key in _IN_LIST and isinstance(value, list):
            yield from ((f"/{key}/{place}", child) for place, child in enumerate(value))
        elif key in _ALONE:
            yield f"/{key}", value


def walk(schema: Json) -> Iterator[tuple[str, dict[str, Json]]]:
    """Every object schema in `schema`, itself included, with its JSON pointer; outer ones before inner ones."""
    ahead = [("", schema)]
    while ahead:
        pointer, node = ahead.pop()
        if isinstance(node, dict):
            yield pointer, node
        ahead += [(pointer + step, child) for step, child in children(node)]


def _check_cost(nodes: list[tuple[str, dict[str, Json]]], is_joined: bool) -> None:
    """What costs more than it says: chains of references, joined patterns, and multiples, which count states."""
    if is_joined and sum("pattern" in node or "format" in node for _, node in nodes) > JOINED_PATTERNS:
        words = f"a schema that joins others may have {JOINED_PATTERNS} patterns and formats at most"
        raise InvalidRequest(words, PARAM)
    if sum("$ref" in node for _, node in nodes) > RULES:
        raise InvalidRequest(f"the schema has more than {RULES} references", PARAM)
    multiple = 1
    for pointer, node in nodes:
        value = node.get("multipleOf")
        if isinstance(value, int | float) and value > 0:
            # Where schemas are joined, so are the automata: the least common multiple is what that gives.
            multiple = lcm(multiple, int("".join(map(str, Decimal(str(value)).as_tuple().digits))) or 1)
        if multiple > MULTIPLE:
            raise InvalidRequest(
                "this multiple, with the others, is too large to follow", f"{PARAM}#{pointer}/multipleOf"
            )


def _is_joined(node: dict[str, Json]) -> bool:
    """Whether an object may have to match several schemas at once: then none of them can be closed by itself."""
    joined = [key for key in node if key in _JOINING]
    every = node.get("allOf")
    return (
        len(joined) > 1
        or "oneOf" in node
        or (isinstance(every, list) and len(every) > 1)
        or (bool(joined) and not _SHAPING.isdisjoint(node))
    )


def _edited(schema: Json, *, is_closing: bool) -> Json:
    if not isinstance(schema, dict):
        return schema

    def edited(key: str, value: Json) -> Json:
        if key in _BY_NAME and isinstance(value, dict):
            return {name: _edited(child, is_closing=is_closing) for name, child in value.items()}
        if key in _IN_LIST and isinstance(value, list):
            return [_edited(child, is_closing=is_closing) for child in value]
        if key == "$ref" and isinstance(value, str):
            return quote(value, safe=_REFERENCE)
        return _edited(value, is_closing=is_closing) if key in _ALONE else value

    kept = {key: edited(key, value) for key, value in _inclusive(schema).items() if not _is_idle(key, value)}
    if is_closing and _is_open(kept):
        kept["additionalProperties"] = False
    return kept


def _inclusive(node: dict[str, Json]) -> dict[str, Json]:
    """Open bounds of numbers as closed ones a little further in.

    1.00000000000000001 is above 1, but not for those who read it as a float.
    """
    if node.get("type") == "integer":
        return node
    closed = dict(node)
    for opened, key, sign in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        bound, other = node.get(opened), node.get(key)
        if _is_number(bound):
            moved = bound + sign * max(1.0, abs(bound)) * _MARGIN
            closed[key] = sign * max(sign * moved, sign * other) if _is_number(other) else moved
            del closed[opened]
    low, high = closed.get("minimum"), closed.get("maximum")
    return node if _is_number(low) and _is_number(high) and low > high else closed


def _is_number(value: Json) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_idle(key: str, value: Json) -> bool:
    return key == "x-guidance" or (key == "format" and isinstance(value, str) and value not in _FORMATS)


def _is_open(node: dict[str, Json]) -> bool:
    """An object with named properties that says nothing of others, and needs none."""
    named, required = node.get("properties"), node.get("required", [])
    if not isinstance(named, dict) or not isinstance(required, list) or not _OTHERS.isdisjoint(node):
        return False
    return all(isinstance(name, str) and name in named for name in required)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
