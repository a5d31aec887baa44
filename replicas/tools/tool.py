"""A tool that a caller offers to the model, and how free the model is to use it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic_core import from_json

JsonObject: TypeAlias = Mapping[str, object]

ANYTHING = '{"type": "object", "properties": {}}'
"""The schema of a tool that takes no arguments, or does not say which."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with a name of at most 64 letters, digits, `_` and `-`. `schema` is the JSON schema of its arguments:
    the text of a JSON object, so that a tool can be hashed, pickled and compared."""

    name: str
    description: str = ""
    schema: str = ANYTHING

    def parameters(self) -> JsonObject:
        """The schema as an object."""
        parsed: object = from_json(self.schema)
        assert isinstance(parsed, dict), "a tool's schema is an object"
        return parsed


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`auto` leaves it to the model, `none` hides the tools, `required` wants at least one call, `named` a call of
    `name`. Not `is_parallel`: at most one call an answer."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""
    is_parallel: bool = True


def written(value: object) -> str:
    """`value` as JSON the way that models were trained on: `", "` and `": "` between, no escapes but what must be."""
    return json.dumps(value, ensure_ascii=False)
