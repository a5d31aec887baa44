"""A system prompt put before that of a request: in its messages, and in the body that a cloud would be sent."""

import json
from collections.abc import Mapping
from dataclasses import replace

from replicas.cloud.fields import fields, objects, text
from replicas.engine import Message
from router.anthropic.request import BILLING_HEADER
from router.body import parsed_json
from router.call import Call
from router.translate.source import Source

BETWEEN = "\n\n"
SYSTEM_ROLES = ("system", "developer")


def takes_system(call: Call) -> bool:
    """`call` is a conversation; a bare prompt to be continued has no place for a system prompt."""
    return call.raw is None


def with_system(call: Call, prefix: str) -> Call:
    """`call` with `prefix` before its system prompt, or as its system prompt."""
    first, *rest = call.messages
    if first.role == "system":
        messages = (Message("system", prefix + BETWEEN + first.content), *rest)
    else:
        messages = (Message("system", prefix), *call.messages)
    source = None if call.source is None else _source(call.source, prefix)
    return replace(call, messages=messages, source=source)


def _source(source: Source, prefix: str) -> Source:
    body = fields(parsed_json(source.body))
    said = _anthropic(body, prefix) if source.dialect == "anthropic" else _openai(body, prefix)
    return replace(source, body=json.dumps({**body, **said}).encode("ascii"))


def _anthropic(body: Mapping[str, object], prefix: str) -> Mapping[str, object]:
    """The block in which a Claude client counts its requests has to stay the first one."""
    system = body.get("system")
    if not isinstance(system, list):
        return {"system": prefix + BETWEEN + text(system) if text(system) else prefix}
    is_counted = bool(system) and text(fields(system[0]).get("text")).startswith(BILLING_HEADER)
    head, tail = system[:is_counted], system[is_counted:]
    return {"system": [*head, {"type": "text", "text": prefix}, *tail]}


def _openai(body: Mapping[str, object], prefix: str) -> Mapping[str, object]:
    first, *rest = objects(body.get("messages"))
    content = first.get("content")
    if first.get("role") in SYSTEM_ROLES and isinstance(content, str):
        return {"messages": [{**first, "content": prefix + BETWEEN + content}, *rest]}
    return {"messages": [{"role": "system", "content": prefix}, first, *rest]}
