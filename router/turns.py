"""The turns of either dialect as messages: text flattened, calls and results of tools kept apart from it.

A result belongs to a call by its id; the name of the tool is looked up there, because some templates ask for it.
Neighbours of one role are merged, because chat templates expect roles to alternate; results are not, each is one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from replicas.engine import Message, Role, ToolCall
from replicas.errors import InvalidRequest
from replicas.tools.tool import object_of, written
from router.content import block_text, text_of


def merged(messages: Iterable[Message]) -> tuple[Message, ...]:
    """One conversation. Raises InvalidRequest if nothing is said in it."""
    turns = _neighbours(_question_last(_neighbours(_named(messages))))
    if not turns:
        raise InvalidRequest("messages: at least one message needs text content", "messages")
    return tuple(turns)


def _named(messages: Iterable[Message]) -> Iterator[Message]:
    """Results with the names of their tools."""
    names: dict[str, str] = {}
    for message in messages:
        names |= {call.id: call.name for call in message.tool_calls}
        is_result = message.role == "tool" and not message.tool_name
        yield replace(message, tool_name=names.get(message.tool_call_id, "")) if is_result else message


def _neighbours(messages: Iterable[Message]) -> list[Message]:
    """Neighbours of one role as one turn."""
    turns: list[Message] = []
    for message in messages:
        if turns and turns[-1].role == message.role != "tool":
            turns[-1] = _joined(turns[-1], message)
        else:
            turns.append(message)
    return turns


def _question_last(turns: list[Message]) -> list[Message]:
    """A system turn between a user's turn and its answer goes before the user's: small models answer what they read
    last. It does so too when the answer is there, so the next request of a conversation begins with the same tokens."""
    ordered = list(turns)
    for i in range(1, len(turns)):
        is_answered = i + 1 == len(turns) or turns[i + 1].role == "assistant"
        if turns[i].role == "system" and turns[i - 1].role == "user" and is_answered:
            ordered[i - 1], ordered[i] = turns[i], turns[i - 1]
    return ordered


def spoken(role: Role, text: str | None, calls: tuple[ToolCall, ...] = ()) -> Iterator[Message]:
    """The turn, unless it holds nothing: no text, or an assistant's empty one."""
    if calls or (text is not None and (text or role != "assistant")):
        yield Message(role, text or "", calls)


def block_turns(role: Role, content: object, path: str) -> Iterator[Message]:
    """An Anthropic turn: the assistant's `tool_use` blocks are its calls, the user's `tool_result` blocks turns."""
    if not isinstance(content, list):
        yield from spoken(role, text_of(content, path))
        return
    parts: list[str] = []
    calls: list[ToolCall] = []
    for i, block in enumerate(content):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "tool_result" and role == "user":
            yield from spoken(role, "\n".join(parts) if parts else None)
            yield _result(block, f"{path}[{i}]")
            parts = []
        elif kind == "tool_use" and role == "assistant":
            calls += called(block.get("id"), block.get("name"), block.get("input"))
        elif text := block_text(block, f"{path}[{i}]"):
            parts.append(text)
    yield from spoken(role, "\n".join(parts) if parts else None, tuple(calls))


def called(id_: object, name: object, arguments: object) -> Iterator[ToolCall]:
    """The call, if it has a name. `arguments` is an object or the text of one; other text is one argument `input`."""
    if not isinstance(name, str):
        return
    if isinstance(arguments, str) and arguments.strip():
        read = object_of(arguments)
        arguments = {"input": arguments} if read is None else read
    text = written(arguments if isinstance(arguments, Mapping) else {})
    yield ToolCall(id_ if isinstance(id_, str) else "", name, text)


def _result(block: Mapping[str, object], path: str) -> Message:
    id_ = block.get("tool_use_id")
    text = text_of(block.get("content"), f"{path}.content", 1) or ""
    is_error = block.get("is_error") is True
    return Message("tool", text, tool_call_id=id_ if isinstance(id_, str) else "", is_error=is_error)


def _joined(first: Message, second: Message) -> Message:
    text = "\n\n".join(part for part in (first.content, second.content) if part)
    return replace(first, content=text, tool_calls=first.tool_calls + second.tool_calls)
