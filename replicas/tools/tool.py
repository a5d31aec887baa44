"""A tool that a caller offers to the model, and how free the model is to use it.

Schemas and arguments are kept as JSON text: such a tool can be hashed, compared and pickled. `object_of` reads them and
`written` writes them the one way that the models here were trained on.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pydantic_core import from_json

from replicas.engine import ToolCall

JsonObject: TypeAlias = Mapping[str, object]

ANYTHING = '{"type": "object", "properties": {}}'
"""The schema of a tool that takes no arguments, or does not say which."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with a name of at most 64 letters, digits, `_` and `-`; `schema` is the JSON schema of its arguments,
    an object, as text, and `place` the path of the field that a caller sent it in, for refusals."""

    name: str
    description: str = ""
    schema: str = ANYTHING
    place: str = field(default="tools", compare=False)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`auto` leaves it to the model, `none` hides the tools, `required` wants at least one call, `named` a call of
    `name`. Not `is_parallel`: at most one call an answer."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""
    is_parallel: bool = True


def object_of(text: str) -> JsonObject | None:
    """The JSON object that `text` is; None if it is none."""
    try:
        value: object = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def written(value: object) -> str:
    """`value` as JSON with `", "` and `": "` between, and nothing escaped that need not be."""
    return json.dumps(value, ensure_ascii=False)


def masked(tool: Tool, change: Callable[[str], str]) -> Tool:
    """The tool with `change` done to all its text. Its schema is written anew first, so that no escape hides any."""
    schema = written(object_of(tool.schema) or {})
    return Tool(change(tool.name), change(tool.description), change(schema))


def masked_call(call: ToolCall, change: Callable[[str], str]) -> ToolCall:
    """The same for a call, its name for it and its arguments."""
    arguments = written(object_of(call.arguments) or {})
    return ToolCall(change(call.id), change(call.name), change(arguments))
