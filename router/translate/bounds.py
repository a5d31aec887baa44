"""What keeps an answer within the money that is reserved for it, where there are budgets.

A draft says the limit that was reserved, by one name alone: a service that is told two may read either. What would have
another model answer, at another price, or would call what is paid for apart from tokens, is refused, and so is what has
a prompt that is not in the body.
"""

from collections.abc import Mapping
from typing import TypeAlias

from replicas.cloud.fields import Fields, fields, objects, text
from replicas.errors import InvalidRequest
from router.budget.tokens import DEFINED, tools_in
from router.translate.chat import LimitKey

Values: TypeAlias = tuple[object, ...]

_DEARER: Mapping[str, Values] = {
    "models": ([],),
    "route": (),
    "provider": ({},),
    "preset": (),
    "plugins": ([],),
    "web_search_options": (),
    "prediction": (),
    "audio": (),
    "modalities": (["text"],),
    "service_tier": ("auto", "default", "standard", "standard_only", "flex"),
    "speed": ("standard",),
    "inference_geo": ("global",),
    "mcp_servers": ([],),
    "container": (),
    "fallbacks": ([],),
    "compaction": (),
    "thread": (),
}
"""Members of both protocols that change the price, by the values beside null that do not."""
_CALLERS_TOOLS = ("bash_20", "text_editor_20", "computer_20", "memory_20")
"""How the types of those of Anthropic's tools begin that callers run themselves, as they do those that they define."""
_CLEARING = "clear_"
"""How the types of edits of a long conversation begin that only leave something out: to sum it up is an answer more."""


def limited(body: Fields, limit: int, key: LimitKey) -> Mapping[str, object]:
    """`body` with `limit` as the most tokens of its answer: by the name that it uses itself, by `key` if it uses none
    or both."""
    named = [name for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    rest = {name: value for name, value in body.items() if name not in ("max_completion_tokens", "max_tokens")}
    return {**rest, named[0] if len(named) == 1 else key: limit}


def refuse_dearer(body: Fields) -> None:
    """Raises InvalidRequest for what costs something else than the model's tokens."""
    for name, usual in _DEARER.items():
        if (value := body.get(name)) is not None and value not in usual:
            raise InvalidRequest(f"{name}: it can cost more than a budget knows of; leave it out", name)
    for tool in tools_in(body):
        kind = text(tool.get("type"))
        if kind not in DEFINED and not kind.startswith(_CALLERS_TOOLS):
            raise InvalidRequest(f"tools: {kind} is paid for apart, which no budget knows of; leave it out", "tools")
    for edit in objects(fields(body.get("context_management")).get("edits")):
        if not (kind := text(edit.get("type"))).startswith(_CLEARING):
            words = f"{kind} asks the model once more, which no budget knows of; leave it out"
            raise InvalidRequest(f"context_management: {words}", "context_management")
