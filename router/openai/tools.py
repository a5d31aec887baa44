"""The tools of a chat completions body: `tools` and `tool_choice`, or the older `functions` and `function_call`."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

from replicas.tools.tool import Tool, ToolChoice
from router.body import Flag, Wire, member
from router.shapes import ChatChoice, ChatTools, Functions
from router.tools import an_object, distinct, listed, named_choice, tool, wrong

_MODES = ("auto", "none", "required")
_CHOICES = "'auto', 'none', 'required' or an object that names a function"


class ToolFields(Wire):
    """The members of a body that speak of tools."""

    tools: ChatTools = None
    tool_choice: ChatChoice = None
    parallel_tool_calls: Flag | None = None
    functions: Functions = None
    function_call: ChatChoice = None

    @property
    def is_legacy(self) -> bool:
        """The caller knows `function_call` alone."""
        return self.tools is None and self.functions is not None

    def offered(self) -> tuple[tuple[Tool, ...], ToolChoice]:
        """The tools and how they may be used. Raises InvalidRequest."""
        is_parallel = self.parallel_tool_calls is not False
        if self.is_legacy:
            fields = listed(self.functions, "functions")
            tools = distinct([(path, tool(function, "parameters", path)) for path, function in fields])
            return tools, _choice(self.function_call, tools, "function_call", is_parallel=False)
        tools = distinct([_function(item, path) for path, item in listed(self.tools, "tools")])
        if member(self.tool_choice, "type") == "allowed_tools":
            return _allowed(an_object(self.tool_choice, "tool_choice"), tools, is_parallel=is_parallel)
        return tools, _choice(self.tool_choice, tools, "tool_choice", is_parallel=is_parallel)


def _function(item: Mapping[str, object], path: str) -> tuple[str, Tool]:
    if item.get("type", "function") != "function":
        raise wrong(f"{path}.type", "'function'; no other kind of tool is possible here")
    where = f"{path}.function"
    return where, tool(an_object(item.get("function"), where), "parameters", where)


def _choice(value: object, tools: Sequence[Tool], path: str, *, is_parallel: bool) -> ToolChoice:
    if value is None:
        return ToolChoice(is_parallel=is_parallel)
    if isinstance(value, str):
        return _mode(value, tools, path, is_parallel=is_parallel)
    if not isinstance(value, Mapping):
        raise wrong(path, _CHOICES)
    place = path if path == "function_call" else f"{path}.function"
    fields = value if path == "function_call" else an_object(value.get("function"), place)
    return named_choice(fields.get("name"), [one.name for one in tools], f"{place}.name", is_parallel=is_parallel)


def _mode(value: object, tools: Sequence[Tool], path: str, *, is_parallel: bool) -> ToolChoice:
    if value not in _MODES:
        raise wrong(path, _CHOICES)
    if value == "required" and not tools:
        raise wrong(path, "'auto' or 'none' when there are no tools")
    return ToolChoice(cast("Literal['auto', 'none', 'required']", value), is_parallel=is_parallel)


def _allowed(
    choice: Mapping[str, object], tools: Sequence[Tool], *, is_parallel: bool
) -> tuple[tuple[Tool, ...], ToolChoice]:
    """The choice among some of the tools; the others are as if they were not there."""
    path = "tool_choice.allowed_tools"
    fields = an_object(choice.get("allowed_tools"), path)
    known = [one.name for one in tools]
    places = [
        (f"{where}.function", item.get("function")) for where, item in listed(fields.get("tools"), f"{path}.tools")
    ]
    picked = {
        named_choice(member(function, "name"), known, f"{where}.name", is_parallel=True).name
        for where, function in places
    }
    allowed = tuple(one for one in tools if one.name in picked)
    return allowed, _mode(fields.get("mode"), allowed, f"{path}.mode", is_parallel=is_parallel)
