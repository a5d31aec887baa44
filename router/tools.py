"""What both dialects ask of the tools that a caller offers, and of the choice among them. A wrong one is a 400 that
says where: a model can only be held to a name and a schema that mean something.
"""

import re
from collections.abc import Mapping, Sequence

from replicas.errors import InvalidRequest
from replicas.tools.tool import ANYTHING, Tool, ToolChoice, written

LIMIT = 512
"""Tools of one request; a prompt with more would not fit a local model's context anyway."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def listed(value: object, path: str) -> list[tuple[str, Mapping[str, object]]]:
    """The objects of a list, each with its path; null is an empty list. Raises InvalidRequest."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(path, "a list of tools")
    if len(value) > LIMIT:
        raise InvalidRequest(f"{path}: {len(value)} tools are more than the {LIMIT} that are possible", path)
    return [(f"{path}[{i}]", an_object(item, f"{path}[{i}]")) for i, item in enumerate(value)]


def tool(fields: Mapping[str, object], schema_key: str, path: str) -> Tool:
    """A tool whose `fields` hold `name`, `description` and under `schema_key` the schema. Raises InvalidRequest."""
    name, description, schema = fields.get("name"), fields.get("description"), fields.get(schema_key)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise wrong(f"{path}.name", "1 to 64 letters, digits, '_' and '-'")
    if not isinstance(description, str | None):
        raise wrong(f"{path}.description", "a string")
    if schema is None:
        return Tool(name, description or "", ANYTHING)
    where = f"{path}.{schema_key}"
    if an_object(schema, where).get("type", "object") != "object":
        raise wrong(f"{where}.type", "'object': arguments are an object")
    return Tool(name, description or "", written(schema), where)


def distinct(tools: Sequence[tuple[str, Tool]]) -> tuple[Tool, ...]:
    """The tools of `(path, tool)` pairs. Raises InvalidRequest if two have one name."""
    seen: set[str] = set()
    for path, one in tools:
        if one.name in seen:
            raise InvalidRequest(f"{path}.name: {one.name!r} is the name of an earlier tool too", f"{path}.name")
        seen.add(one.name)
    return tuple(one for _, one in tools)


def named_choice(name: object, known: Sequence[str], path: str, *, is_parallel: bool) -> ToolChoice:
    """The choice of the tool `name` at `path`. Raises InvalidRequest if there is none."""
    if not isinstance(name, str) or name not in known:
        raise wrong(path, f"the name of a tool of this request; there {_these(known)}")
    return ToolChoice("named", name, is_parallel)


def an_object(value: object, path: str) -> Mapping[str, object]:
    """`value`, a JSON object. Raises InvalidRequest."""
    if not isinstance(value, Mapping):
        raise wrong(path, "an object")
    return value


def wrong(path: str, wanted: str) -> InvalidRequest:
    """The error for a field that is not what is wanted."""
    return InvalidRequest(f"{path}: Input should be {wanted}", path)


def _these(names: Sequence[str]) -> str:
    return f"are {', '.join(names)}" if names else "are none"
