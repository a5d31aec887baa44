"""Tool calls in the words of the chat completions dialect, the newer `tool_calls` or the older `function_call`.

In a stream a call's first delta has its id and name, the next ones are pieces of its arguments. Ids are made of the
completion's, so that the same answer has the same.
"""

from collections.abc import Sequence

from replicas.engine import CallPiece, ToolCall
from router.sse import Json


class CallWording:
    """Words the calls of one answer. `is_legacy`: its caller reads one `function_call`; further calls are not told."""

    def __init__(self, completion_id: str, *, is_legacy: bool) -> None:
        self._stem = completion_id.removeprefix("chatcmpl-")
        self._is_legacy = is_legacy
        self.finish_reason = "function_call" if is_legacy else "tool_calls"

    def delta(self, piece: CallPiece) -> dict[str, Json] | None:
        """The delta of a streamed chunk."""
        named: dict[str, Json] = {} if piece.name is None else {"name": piece.name}
        function: dict[str, Json] = {**named, "arguments": piece.arguments}
        if self._is_legacy:
            return {"function_call": function} if piece.index == 0 else None
        first: dict[str, Json] = {} if piece.name is None else {"id": self._id(piece.index), "type": "function"}
        calls: list[Json] = [{"index": piece.index, **first, "function": function}]
        return {"tool_calls": calls}

    def members(self, calls: Sequence[ToolCall]) -> dict[str, Json]:
        """What a whole message holds of `calls`; nothing without any."""
        functions: list[dict[str, Json]] = [{"name": call.name, "arguments": call.arguments} for call in calls]
        if not functions:
            return {}
        if self._is_legacy:
            return {"function_call": functions[0]}
        told: list[Json] = [
            {"id": self._id(i), "type": "function", "function": function} for i, function in enumerate(functions)
        ]
        return {"tool_calls": told}

    def _id(self, index: int) -> str:
        return f"call_{self._stem}_{index}"
