"""What a chat template is given: turns and tools, laid out the way that a family of models was trained on.

Templates that know tools get them, calls and results as structure; the others get text. `as_text` is for conversations
that hold calls while no tools are offered to a model whose template knows none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TypeAlias

from replicas.engine import Message, Role, ToolCall
from replicas.tools.syntax import HERMES, PHI, CallSyntax
from replicas.tools.tool import JsonObject, Tool, object_of, written

Turn: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The variables `messages` and `tools` of a chat template."""

    turns: tuple[Turn, ...]
    tools: tuple[JsonObject, ...] | None = None


LayOut: TypeAlias = Callable[[Sequence[Message], Sequence[Tool]], Prompt]


def native(messages: Sequence[Message], tools: Sequence[Tool]) -> Prompt:
    """For templates that take `tools` and `tool_calls` as Hugging Face passes them."""
    functions = tuple({"type": "function", "function": _described(tool)} for tool in tools)
    return Prompt(tuple(map(_native_turn, messages)), functions or None)


def one_call_a_turn(messages: Sequence[Message], tools: Sequence[Tool]) -> Prompt:
    """`native`, for templates that refuse several calls in a turn."""
    return native([turn for message in messages for turn in _split(message)], tools)


def phi(messages: Sequence[Message], tools: Sequence[Tool]) -> Prompt:
    """Phi-4-mini's: a JSON list beside the text of the system turn; its template puts the tags around it."""
    turns: list[dict[str, object]] = []
    for message in messages:
        role = "tool_response" if message.role == "tool" else message.role
        turns.append({"role": role, "content": _with_calls(message, PHI)})
    if tools:
        if not turns or turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": ""})
        turns[0]["tools"] = written([_described(tool) for tool in tools])
    return Prompt(tuple(turns))


def in_system_turn(result_role: Role) -> LayOut:
    """For models whose template knows no tools: a line each in the system turn, as the bundled adapter was trained.

    Results are turns of `result_role`; as the user's they say what they are.
    """

    def lay_out(messages: Sequence[Message], tools: Sequence[Tool]) -> Prompt:
        if not tools:
            return as_text(messages)
        head = messages[0].content if messages and messages[0].role == "system" else ""
        rest = messages[1:] if head else messages
        system = Message("system", "\n\n".join(part for part in (head, _instructions(tools)) if part))
        turns = [system, *rest]
        said = [_result(m, result_role) if m.role == "tool" else (m.role, _with_calls(m, HERMES)) for m in turns]
        return _joined(said, _results(turns))

    return lay_out


def as_text(messages: Sequence[Message], _tools: Sequence[Tool] = ()) -> Prompt:
    """Calls and results as words in brackets, results in the user's turns."""
    said = [_result(m, "user") if m.role == "tool" else (m.role, _spoken(m)) for m in messages]
    return _joined(said, _results(messages))


def _instructions(tools: Sequence[Tool]) -> str:
    lines = [written({**_described(tool), "parameters": _bare_parameters(tool)}) for tool in tools]
    return "\n".join(
        [
            "You can use these tools:",
            *lines,
            "To use a tool, answer only with",
            '<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>',
            "If no tool fits, answer in plain text.",
        ]
    )


def _bare_parameters(tool: Tool) -> JsonObject:
    schema = object_of(tool.schema) or {}
    named = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return {"properties": schema.get("properties", {}), "required": schema.get("required", []), **named}


def _described(tool: Tool) -> dict[str, object]:
    return {"name": tool.name, "description": tool.description, "parameters": object_of(tool.schema) or {}}


def _native_turn(message: Message) -> Turn:
    turn: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        turn |= {"tool_call_id": message.tool_call_id, "name": message.tool_name}
    return turn


def _split(message: Message) -> Iterator[Message]:
    if len(message.tool_calls) < 2:
        yield message
        return
    for i, call in enumerate(message.tool_calls):
        yield replace(message, content="" if i else message.content, tool_calls=(call,))


def _with_calls(message: Message, syntax: CallSyntax) -> str:
    if not message.tool_calls:
        return message.content
    block = syntax.block([syntax.call(call.name, _arguments(call)) for call in message.tool_calls])
    return f"{message.content}\n{block}" if message.content else block


def _spoken(message: Message) -> str:
    calls = [f"[tool call {call.name} {call.arguments}]" for call in message.tool_calls]
    return "\n".join([message.content, *calls] if message.content else calls)


def _result(message: Message, role: Role) -> tuple[Role, str]:
    if role == "tool":
        return role, message.content
    return role, f"[tool {'error' if message.is_error else 'result'}]\n{message.content or '(empty)'}"


def _results(messages: Sequence[Message]) -> frozenset[int]:
    return frozenset(i for i, message in enumerate(messages) if message.role == "tool")


def _arguments(call: ToolCall) -> JsonObject:
    return object_of(call.arguments) or {}


def _joined(said: Sequence[tuple[Role, str]], results: Set[int]) -> Prompt:
    """Turns; the `results` (places in `said`) that became words of the user's join the user's other words beside them,
    because templates expect roles to alternate."""
    turns: list[dict[str, object]] = []
    for i, (role, text) in enumerate(said):
        if role == "user" and i and said[i - 1][0] == "user" and not results.isdisjoint((i - 1, i)):
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{text}"
        else:
            turns.append({"role": role, "content": text})
    return Prompt(tuple(turns))
