"""The turns of a Messages body, checked as a conversation: blocks by kind, tool results after their calls, signatures.

A thinking block that comes back must carry the signature that it left with: a gateway that rewords it is found out.
"""

import base64
import hashlib
import json

from cluster.upstream.asked import Json, Problem
from cluster.upstream.checking import a_text, an_object, objects, wrong

MEDIA_TOKENS = 1500
_MEDIA = ("image", "document", "container_upload")
_KINDS = frozenset(
    [
        "text",
        "image",
        "document",
        "search_result",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "server_tool_use",
        "mcp_tool_use",
        "container_upload",
        "compaction",
        "tool_addition",
        "tool_removal",
        "mcp_tool_listing",
        "fallback",
    ]
)
_USER_ONLY = ("tool_result", "document", "image")


def signature(thinking: str) -> str:
    """The signature of a thinking block."""
    return base64.b64encode(hashlib.sha256(f"signed: {thinking}".encode()).digest()).decode()


class Turns:
    """Reads `messages`. Raises Problem."""

    def __init__(self, messages: object) -> None:
        self.texts: list[str] = []
        self.question = ""
        self.media_tokens = 0
        self.is_after_tool = False
        turns = objects(messages, "messages")
        if not turns:
            wrong("messages", "at least one message is required")
        open_ids: list[str] = []
        for at, (place, turn) in enumerate(turns):
            is_last = at == len(turns) - 1
            open_ids = self._turn(place, turn, open_ids, is_last)

    def _turn(self, place: str, turn: Json, open_ids: list[str], is_last: bool) -> list[str]:
        role = turn.get("role")
        if role not in ("user", "assistant", "system"):
            wrong(f"{place}.role", "Input should be 'user', 'assistant' or 'system'")
        blocks = _blocks(turn.get("content"), f"{place}.content")
        texts = [text for spot, block in blocks for text in self._block(spot, block, role)]
        if not texts and not blocks and not (is_last and role == "assistant"):
            wrong(place, "all messages must have non-empty content except for the optional final assistant message")
        if is_last and role == "assistant" and texts and texts[-1] != texts[-1].rstrip():
            wrong(place, "final assistant content cannot end with trailing whitespace")
        self.texts.extend(texts)
        if role == "system":
            return open_ids
        results = [
            (spot, str(block.get("tool_use_id"))) for spot, block in blocks if block.get("type") == "tool_result"
        ]
        _match(place, open_ids, results)
        if role == "user":
            self.is_after_tool = bool(results)
            said = [str(block.get("text", "")) for _, block in blocks if block.get("type") == "text"]
            self.question = said[-1] if said else self.question
        return [str(block.get("id")) for _, block in blocks if block.get("type") == "tool_use"]

    def _block(self, place: str, block: Json, role: object) -> list[str]:
        """The texts of a block, which is checked."""
        kind = block.get("type")
        if not isinstance(kind, str) or (kind not in _KINDS and not kind.endswith("_tool_result")):
            wrong(place, f"Input tag '{kind}' found using 'type' does not match any of the expected tags")
        if role == "assistant" and kind in _USER_ONLY:
            wrong(place, f"`{kind}` blocks are not permitted in `assistant` messages")
        if kind in _MEDIA:
            self.media_tokens += MEDIA_TOKENS
            return []
        if kind == "text":
            text = a_text(block.get("text"), f"{place}.text")
            return [text] if text else wrong(place, "text content blocks must be non-empty")
        if kind == "thinking":
            return [_signed(place, block)]
        if kind == "tool_result":
            inner = _blocks(block.get("content") or "", f"{place}.content")
            return [text for spot, part in inner for text in self._block(spot, part, "user")]
        return [json.dumps(block)]


def _signed(place: str, block: Json) -> str:
    thinking = a_text(block.get("thinking"), f"{place}.thinking")
    if block.get("signature") != signature(thinking):
        raise Problem(400, f"{place}: Invalid `signature` in `thinking` block")
    return thinking


def _blocks(content: object, place: str) -> list[tuple[str, Json]]:
    if isinstance(content, str):
        return [(place, {"type": "text", "text": content})] if content else []
    found = objects(content, place)
    for spot, block in found:
        if block.get("type") == "tool_use":
            an_object(block.get("input"), f"{spot}.tool_use.input")
    return found


def _match(place: str, open_ids: list[str], results: list[tuple[str, str]]) -> None:
    """Every call has its result in the next turn, and every result its call in the one before."""
    for spot, found in results:
        if found not in open_ids:
            words = (
                f"unexpected `tool_use_id` found in `tool_result` blocks: {found}. Each `tool_result` block must have a"
            )
            wrong(spot, f"{words} corresponding `tool_use` block in the previous message.")
    missing = [wanted for wanted in open_ids if wanted not in {found for _, found in results}]
    if missing:
        words = "`tool_use` ids were found without `tool_result` blocks immediately after"
        wrong(place, f"{words}: {', '.join(missing)}")
