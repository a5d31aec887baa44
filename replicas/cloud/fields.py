"""JSON from a cloud, read without trust: whatever is not of the type that is asked for counts as absent."""

import json
from collections.abc import Mapping

from pydantic_core import from_json

from replicas.cloud.errors import CloudBroken

Fields = Mapping[str, object]
MOST = 1_000_000_000
"""Of tokens, dollars or seconds: more is a mistake, and would not fit where such numbers are added up."""
BROKEN = "the answer is not the JSON that it should be"


def parsed(cloud: str, text: str | bytes) -> Fields:
    """A JSON object that `cloud` sent. Raises CloudBroken for anything else."""
    try:
        value: object = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise CloudBroken(cloud, BROKEN) from error
    if not isinstance(value, dict):
        raise CloudBroken(cloud, BROKEN)
    return value


def fields(value: object) -> Fields:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Fields]:
    """The objects in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(value: object) -> str:
    """`value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def counted(value: object) -> int | None:
    """`value` if it is a whole number from 0 to MOST, else None."""
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def count(value: object) -> int:
    """The same, 0 for None."""
    return counted(value) or 0


def number(value: object) -> float | None:
    """`value` if it is a number from 0 to MOST, else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST
    return float(value) if is_number and isinstance(value, int | float) else None


def written(value: object) -> str:
    """`value` as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
