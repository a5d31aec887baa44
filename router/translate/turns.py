"""The messages of a chat completion as Anthropic's turns: neighbours of one role in one, results after their calls."""

import re
from collections.abc import Sequence

from replicas.cloud.fields import Fields, fields, objects, text
from replicas.tools.tool import object_of
from router.content import text_of
from router.translate.media import Part, message_block
from router.turns import called

BEGINNING = "(The assistant speaks first.)"
"""Anthropic's conversations begin with a user."""

_SYSTEM = ("system", "developer")


def conversation(messages: Sequence[Fields]) -> tuple[list[str], list[Part]]:
    """The system texts at the beginning of `messages`, and the turns after them, at least one."""
    head = next((i for i, one in enumerate(messages) if one.get("role") not in _SYSTEM), len(messages))
    system = [said for one in messages[:head] if (said := _text(one))]
    turns = _Turns()
    for message in messages[head:]:
        turns.add(message)
    if not turns.found:
        return [], [_turn("user", [_said("\n".join(system) or BEGINNING)])]
    return system, turns.closed()


class _Turns:
    """Collects turns. Calls without an id get one, and the results that belong to them the same."""

    def __init__(self) -> None:
        self.found: list[tuple[str, list[Part]]] = []
        self._open: list[tuple[str, str]] = []  # (id, name) of calls that have no result yet
        self._unnamed = 0

    def add(self, message: Fields) -> None:
        """Add what `message` says, if it says anything."""
        role = text(message.get("role"))
        if role in ("tool", "function"):
            self._put("user", [self._result(message)])
        elif role == "assistant":
            self._put(role, [*_blocks(message.get("content")), *self._calls(message)])
        else:
            self._put("system" if role in _SYSTEM else "user", _blocks(message.get("content")))

    def closed(self) -> list[Part]:
        """The turns, begun by a user; the text that is to be continued ends without blanks."""
        role, blocks = self.found[-1]
        if role == "assistant" and blocks[-1].get("type") == "text":
            blocks[-1] = _said(text(blocks[-1].get("text")).rstrip())
        first = [_turn("user", [_said(BEGINNING)])] if self.found[0][0] == "assistant" else []
        return first + [_turn(role, blocks) for role, blocks in self.found]

    def _put(self, role: str, blocks: list[Part]) -> None:
        if blocks and self.found and self.found[-1][0] == role:
            self.found[-1][1].extend(blocks)
        elif blocks:
            self.found.append((role, blocks))

    def _calls(self, message: Fields) -> list[Part]:
        told = [(one.get("id"), fields(one.get("function"))) for one in objects(message.get("tool_calls"))]
        told.append((None, fields(message.get("function_call"))))
        blocks: list[Part] = []
        for id_, function in told:
            for call in called(id_, function.get("name"), function.get("arguments")):
                self._unnamed += not call.id
                own = _plain(call.id) or f"unnamed_{self._unnamed}"
                self._open.append((own, call.name))
                blocks.append(
                    {"type": "tool_use", "id": own, "name": call.name, "input": object_of(call.arguments) or {}}
                )
        return blocks

    def _result(self, message: Fields) -> Part:
        id_, name = _plain(text(message.get("tool_call_id"))), message.get("name")
        if not id_:
            waiting = [own for own, called_ in self._open if called_ == name] or [own for own, _ in self._open]
            id_ = waiting[0] if waiting else "unnamed_0"
        self._open = [one for one in self._open if one[0] != id_]
        return {"type": "tool_result", "tool_use_id": id_, "content": _blocks(message.get("content"))}


def _blocks(content: object) -> list[Part]:
    if isinstance(content, str):
        return [_said(content)] if content.strip() else []
    return [block for part in objects(content) if (block := message_block(part))]


def _turn(role: str, blocks: list[Part]) -> Part:
    if len(blocks) == 1 and blocks[0].get("type") == "text":
        return {"role": role, "content": blocks[0]["text"]}
    return {"role": role, "content": blocks}


def _said(words: str) -> Part:
    return {"type": "text", "text": words}


def _text(message: Fields) -> str:
    return text_of(message.get("content"), "messages") or ""


def _plain(id_: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", id_)
