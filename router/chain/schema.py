"""Whether a value plainly breaks a JSON schema, in so many steps and no more.

For the gate alone: schemas come from callers and may be bombs, and the ways of the usual validators through `pattern`
and nested references take time without bound. So the keywords that say most are looked at, all others pass, and what
takes more than STEPS passes too: whatever fits the schema is never called broken (a test holds that against the
`jsonschema` package). A local model's own grammar keeps far more of a schema than this.
"""

import operator
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeGuard

STEPS = 50_000
"""Keywords, and entries of lists in them, that are looked at for one value: some tens of milliseconds."""

DEPTH = 64
"""Of schemas in schemas, references followed; deeper ones pass."""

Fits: TypeAlias = Callable[["Reader", object, object, Mapping[str, object]], bool]
"""Whether a value may be, by one keyword: reader, value, the keyword's own value, the schema it stands in."""

_TYPES: Mapping[str, Callable[[object], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "number": lambda value: _is_number(value),  # noqa: PLW0108 - defined below
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


class Reader:
    """Reads one value by the schema `root`."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._steps = STEPS
        self._depth = 0

    def fits(self, value: object, schema: object) -> bool:
        """Whether `value` may be as it is, by `schema`: a part of the root, or all of it."""
        if not isinstance(schema, Mapping):
            return schema is not False
        if not self.goes_on(1 + len(schema)) or self._depth >= DEPTH:
            return True
        self._depth += 1
        try:
            return all(_KEYWORDS[word](self, value, said, schema) for word, said in schema.items() if word in _KEYWORDS)
        finally:
            self._depth -= 1

    def same(self, one: object, other: object) -> bool:
        """Whether two values are equal as JSON has it: true is not 1, 1.0 is."""
        if not self.goes_on(1):
            return True
        if isinstance(one, bool) or isinstance(other, bool):
            return one is other
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(map(self.same, one, other))
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(self.same(one[key], other[key]) for key in one)
        return one == other

    def goes_on(self, steps: int) -> bool:
        """Take so many steps; False when there are no more, and all passes."""
        self._steps -= steps
        return self._steps > 0

    def part(self, reference: str) -> object:
        """The schema inside the root that `reference` points to; True, which all fits, if there is none."""
        if reference != "#" and not reference.startswith("#/"):
            return True
        found = self._root
        for name in reference.split("/")[1:]:
            found = found.get(name.replace("~1", "/").replace("~0", "~"), True) if isinstance(found, Mapping) else True
        return found


def breaks(value: object, schema: object) -> bool:
    """`value` plainly breaks `schema`."""
    return not Reader(schema).fits(value, schema)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _type(_: Reader, value: object, said: object, __: Mapping[str, object]) -> bool:
    names = said if isinstance(said, list) else [said]
    return any(not isinstance(name, str) or name not in _TYPES or _TYPES[name](value) for name in names[: len(_TYPES)])


def _enum(reader: Reader, value: object, said: object, __: Mapping[str, object]) -> bool:
    return not isinstance(said, list) or any(reader.same(value, one) for one in said)


def _const(reader: Reader, value: object, said: object, __: Mapping[str, object]) -> bool:
    return reader.same(value, said)


def _required(reader: Reader, value: object, said: object, _: Mapping[str, object]) -> bool:
    if not isinstance(value, dict) or not isinstance(said, list) or not reader.goes_on(len(said)):
        return True
    return all(name in value for name in said if isinstance(name, str))


def _properties(reader: Reader, value: object, said: object, _: Mapping[str, object]) -> bool:
    if not isinstance(value, dict) or not isinstance(said, Mapping):
        return True
    return all(reader.fits(value[name], said[name]) for name in value if name in said)


def _additional(reader: Reader, value: object, said: object, schema: Mapping[str, object]) -> bool:
    if not isinstance(value, dict) or "patternProperties" in schema:
        return True
    known = schema.get("properties")
    names = known if isinstance(known, Mapping) else {}
    return all(reader.fits(value[name], said) for name in value if name not in names)


def _items(reader: Reader, value: object, said: object, schema: Mapping[str, object]) -> bool:
    before = schema.get("prefixItems")
    skipped = len(before) if isinstance(before, list) else 0
    return not isinstance(value, list) or all(reader.fits(one, said) for one in value[skipped:])


def _prefix_items(reader: Reader, value: object, said: object, _: Mapping[str, object]) -> bool:
    if not isinstance(value, list) or not isinstance(said, list):
        return True
    return all(reader.fits(one, schema) for one, schema in zip(value, said, strict=False))


def _any_of(reader: Reader, value: object, said: object, _: Mapping[str, object]) -> bool:
    """Of `oneOf` too: that no other one fits as well cannot be said without knowing every keyword."""
    return not isinstance(said, list) or any(reader.fits(value, schema) for schema in said)


def _all_of(reader: Reader, value: object, said: object, _: Mapping[str, object]) -> bool:
    return not isinstance(said, list) or all(reader.fits(value, schema) for schema in said)


def _ref(reader: Reader, value: object, said: object, _: Mapping[str, object]) -> bool:
    return not isinstance(said, str) or reader.fits(value, reader.part(said))


def _bound(holds: Callable[[float, float], bool]) -> Fits:
    """A bound on a number."""
    return lambda _, value, said, __: not (_is_number(value) and _is_number(said)) or holds(value, said)


def _size(kind: type[str] | type[list[object]], holds: Callable[[float, float], bool]) -> Fits:
    """A bound on the length of a text or a list."""
    return lambda _, value, said, __: not (isinstance(value, kind) and _is_number(said)) or holds(len(value), said)


_KEYWORDS: Mapping[str, Fits] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "prefixItems": _prefix_items,
    "anyOf": _any_of,
    "oneOf": _any_of,
    "allOf": _all_of,
    "$ref": _ref,
    "minimum": _bound(operator.ge),
    "maximum": _bound(operator.le),
    "exclusiveMinimum": _bound(operator.gt),
    "exclusiveMaximum": _bound(operator.lt),
    "minLength": _size(str, operator.ge),
    "maxLength": _size(str, operator.le),
    "minItems": _size(list, operator.ge),
    "maxItems": _size(list, operator.le),
}
