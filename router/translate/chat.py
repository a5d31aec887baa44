"""A Messages body as a chat completions body.

Tools that Anthropic's servers run are left out, thinking and marks for its cache too. The results of tools come before
what else a user's turn holds, whatever the order was: a chat completion wants them right after the calls. Whoever the
answer is for, the usage of a stream is asked for: what it cost has to be known.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from replicas.cloud.fields import Fields, fields, objects, text
from replicas.tools.tool import written
from router.anthropic.request import BILLING_HEADER
from router.content import text_of
from router.translate.form import wanted_form
from router.translate.media import Part, chat_part

LimitKey: TypeAlias = Literal["max_completion_tokens", "max_tokens"]

NO_ARGUMENTS = {"type": "object", "properties": {}}


def chat_body(body: Fields, model: str, limit_key: LimitKey) -> Mapping[str, object]:
    """`body` for `model`, the limit on tokens by the name `limit_key`. Raises InvalidRequest."""
    is_stream = body.get("stream") is True
    form = wanted_form(body, "anthropic")
    said: dict[str, object] = {
        "model": model,
        "messages": [*_system(body.get("system")), *_turns(body.get("messages"))],
        limit_key: body.get("max_tokens"),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "seed": body.get("seed"),
        "frequency_penalty": body.get("frequency_penalty"),
        "presence_penalty": body.get("presence_penalty"),
        "logit_bias": body.get("logit_bias"),
        "stop": body.get("stop_sequences") or None,
        **_tools(body),
        "response_format": None if form is None else form.chat_format(),
        "stream": True if is_stream else None,
        "stream_options": {"include_usage": True} if is_stream else None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _tools(body: Fields) -> Mapping[str, object]:
    own = [tool for tool in objects(body.get("tools")) if tool.get("type") in (None, "custom")]
    if not own:
        return {}
    choice = fields(body.get("tool_choice"))
    named = {"type": "function", "function": {"name": choice.get("name")}}
    modes: dict[object, object] = {"auto": "auto", "any": "required", "none": "none"}
    if choice.get("type") == "tool" and any(tool.get("name") == choice.get("name") for tool in own):
        modes["tool"] = named
    return {
        "tools": [{"type": "function", "function": _function(tool)} for tool in own],
        "tool_choice": modes.get(choice.get("type")),
        "parallel_tool_calls": False if choice.get("disable_parallel_tool_use") is True else None,
    }


def _function(tool: Fields) -> Mapping[str, object]:
    told = {
        "name": tool.get("name"),
        "description": tool.get("description"),
        "parameters": tool.get("input_schema") or NO_ARGUMENTS,
        "strict": tool.get("strict"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _system(value: object) -> Iterator[Part]:
    """The system text, without the block in which a Claude client counts its requests."""
    blocks = value if isinstance(value, list) else []
    if blocks and text(fields(blocks[0]).get("text")).startswith(BILLING_HEADER):
        value = blocks[1:]
    said = text_of(value, "system")
    if said:
        yield {"role": "system", "content": said}


def _turns(messages: object) -> Iterator[Part]:
    for i, turn in enumerate(objects(messages)):
        content = turn.get("content")
        if turn.get("role") == "user" and isinstance(content, list):
            yield from _user(objects(content))
        elif turn.get("role") == "assistant" and isinstance(content, list):
            yield from _assistant(objects(content))
        elif said := text_of(content, f"messages[{i}].content"):
            yield {"role": text(turn.get("role")), "content": said}


def _assistant(blocks: list[Fields]) -> Iterator[Part]:
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    said = _joined([part for block in blocks if block.get("type") != "tool_use" and (part := chat_part(block))])
    if said or calls:
        yield {"role": "assistant", "content": said or None, **({"tool_calls": calls} if calls else {})}


def _call(block: Fields) -> Part:
    function = {"name": text(block.get("name")), "arguments": written(fields(block.get("input")))}
    return {"id": text(block.get("id")), "type": "function", "function": function}


def _user(blocks: list[Fields]) -> Iterator[Part]:
    """The results that a turn holds, each a message, then all the rest in one."""
    results = [block for block in blocks if block.get("type") == "tool_result"]
    rest: list[Part] = []
    for result in results:
        message, media = _result(result)
        yield message
        rest += media
    rest += [part for block in blocks if block.get("type") != "tool_result" and (part := chat_part(block))]
    if rest:
        is_text = all(part["type"] == "text" for part in rest)
        yield {"role": "user", "content": _joined(rest) if is_text else rest}


def _result(block: Fields) -> tuple[Part, list[Part]]:
    """The message of a result, which is text alone, and the pictures and documents in it."""
    id_, content = text(block.get("tool_use_id")), block.get("content")
    parts: list[Part] = [{"type": "text", "text": content}] if isinstance(content, str) else []
    parts += [part for inner in objects(content) if (part := chat_part(inner))]
    said = _joined([part for part in parts if part["type"] == "text"])
    media = [part for part in parts if part["type"] != "text"]
    note: list[Part] = [{"type": "text", "text": f"From the result of {id_}:"}] if media else []
    told = f"Error: {said}" if block.get("is_error") is True else said
    return {"role": "tool", "tool_call_id": id_, "content": told}, note + media


def _joined(parts: list[Part]) -> str:
    return "\n".join(text(part.get("text")) for part in parts)
