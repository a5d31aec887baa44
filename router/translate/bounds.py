"""What keeps an answer within the money that is reserved for it, where there are budgets.

A draft says the limit that was reserved, by one name alone: a service that is told two may read either. What would have
another model answer, at another price, or would call what is paid for apart from tokens, is refused, and so is what has
a prompt that is not in the body.
"""

from collections.abc import Iterable, Mapping
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
    "best_of": (1,),
    "use_beam_search": (False,),
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
_DEARER_BETAS = ("context-1m", "fast-mode")
"""How the names of those of Anthropic's betas begin in which the same tokens have another price."""
_LIMITS = ("max_completion_tokens", "max_tokens")
_OTHER_LIMITS = ("max_new_tokens", "max_output_tokens", "n_predict")
"""What single services call the same, and go by before all else."""
_CALLERS_TOOLS = ("bash_20", "text_editor_20", "computer_20", "memory_20")
"""How the types of those of Anthropic's tools begin that callers run themselves, as they do those that they define."""
_CLEARING = "clear_"
"""How the types of edits of a long conversation begin that only leave something out: to sum it up is an answer more."""


def limited(body: Fields, limit: int, key: LimitKey, *, is_only: bool) -> Mapping[str, object]:
    """`body` with `limit` as the most tokens of its answer: by the name that it uses itself, by `key` if it uses none
    or both, or if the service knows that name alone (`is_only`)."""
    named = [name for name in _LIMITS if body.get(name) is not None]
    rest = {name: value for name, value in body.items() if name not in {*_LIMITS, *_OTHER_LIMITS}}
    return {**rest, named[0] if len(named) == 1 and not is_only else key: limit}


def refuse_dearer(body: Fields, headers: Iterable[tuple[str, str]] = ()) -> None:
    """Raises InvalidRequest for what costs something else than the model's tokens."""
    _refuse_dearer_betas(headers)
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


def _refuse_dearer_betas(headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        if name == "anthropic-beta" and any(one.strip().startswith(_DEARER_BETAS) for one in value.split(",")):
            raise InvalidRequest(f"{name}: {value} can cost more than a budget knows of; leave it out", name)
