"""What keeps an answer within the money that is reserved for it, where there are budgets.

A draft says the limit that was reserved, by one name alone: a service that is told two may read either. What would have
another model answer, at another price, or would call what is paid for apart from tokens, is refused. Pictures and files
are reckoned by the piece: those by address have some bytes here and thousands of tokens there.
"""

from collections.abc import Mapping
from typing import TypeAlias

from replicas.cloud.fields import Fields, fields, objects, text
from replicas.errors import InvalidRequest
from router.translate.chat import LimitKey

PICTURE_TOKENS = 5_000
"""Of a picture at most: the vendors' own formulas give less than that for the largest that they do not scale down."""
FILE_TOKENS = 200_000
"""Of a document, a recording or a film: as much as most models can read at all."""

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
    "service_tier": ("auto", "default", "standard", "standard_only", "flex"),
    "speed": ("standard",),
    "inference_geo": ("global",),
    "mcp_servers": ([],),
    "container": (),
}
"""Members of both protocols that change the price, by the values beside null that do not."""
_SERVER_TOOLS = ("web_search", "web_fetch", "code_execution")
"""How the types of those of Anthropic's tools begin that its servers run. The rest, callers run themselves."""
_PIECES = {
    "image": PICTURE_TOKENS,
    "image_url": PICTURE_TOKENS,
    "document": FILE_TOKENS,
    "file": FILE_TOKENS,
    "container_upload": FILE_TOKENS,
    "input_audio": FILE_TOKENS,
    "video_url": FILE_TOKENS,
}


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
    for tool in objects(body.get("tools")):
        kind = text(tool.get("type"))
        if kind.startswith(_SERVER_TOOLS) or ":" in kind:
            raise InvalidRequest(f"tools: {kind} is paid for apart, which no budget knows of; leave it out", "tools")


def media_tokens(value: object) -> int:
    """The most that the pictures and files anywhere in `value` can be."""
    if isinstance(value, list):
        return sum(media_tokens(one) for one in value)
    if not isinstance(value, dict):
        return 0
    kind, source = value.get("type"), fields(value.get("source"))
    is_words = kind == "document" and source.get("type") in ("text", "content")
    own = 0 if is_words or not isinstance(kind, str) else _PIECES.get(kind, 0)
    return own or sum(media_tokens(one) for one in value.values())
