"""A chat completions body as a `Call`.

`developer` is a system turn by its newer name; `tool` and `function` turns and an assistant's `tool_calls` become text
(router/content.py), the results as user turns, which every chat template knows. What a local model cannot do (tools,
response formats, log-probabilities) is accepted and ignored, except `n`: an answer with fewer choices than asked for
would break its caller.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from replicas.engine import Message, Role
from replicas.errors import InvalidRequest
from router.body import Count, Flag, SamplingFields, Stops, Wire, member, read, session_id
from router.call import Call
from router.content import merged_turns, text_of, tool_call, tool_result

DEFAULT_MAX_TOKENS = 1024
"""When a caller names no limit. The real API has none, but a small model may well talk to the end of its context."""

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
    "function": "user",
}


class Turn(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: object = None
    tool_calls: object = None

    def text(self, path: str) -> str | None:
        """The text of this turn, calls and results of tools included."""
        text = text_of(self.content, f"{path}.content")
        if self.role in ("tool", "function"):
            return tool_result(text)
        calls = self._calls() if self.role == "assistant" else []
        return "\n".join([text, *calls] if text else calls) if calls else text

    def _calls(self) -> list[str]:
        calls = self.tool_calls if isinstance(self.tool_calls, list) else []
        functions = [member(call, "function") for call in calls]
        return [tool_call(member(function, "name"), member(function, "arguments")) for function in functions]


class StreamOptions(Wire):
    include_usage: Flag | None = None


class ChatBody(SamplingFields):
    """The body of /v1/chat/completions."""

    model: str | None = None
    messages: Annotated[list[Turn], Field(fail_fast=True), Field(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: Stops | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(strict=True)] | None = None
    session_id: object = None
    prompt_cache_key: object = None

    def prompt(self) -> tuple[Message, ...]:
        """The conversation as text turns. Raises InvalidRequest."""
        return merged_turns(self._turns())

    def _turns(self) -> Iterator[tuple[Role, str | None]]:
        for i, turn in enumerate(self.messages):
            yield _ROLES[turn.role], turn.text(f"messages[{i}]")

    @property
    def wants_usage(self) -> bool:
        """A chunk with the usage is to end the stream."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


def parse_chat(body: bytes, headers: Mapping[str, str], call_id: str) -> tuple[Call, bool]:
    """Read a request (header names in lower case), and whether a stream is to tell its usage. Raises InvalidRequest."""
    request = read(ChatBody, body)
    if request.n not in (None, 1):
        raise InvalidRequest("n: only 1 is possible; send the request several times for several answers", "n")
    limit = request.max_completion_tokens or request.max_tokens or max(DEFAULT_MAX_TOKENS, request.min_tokens or 0)
    call = Call(
        id=call_id,
        model=request.model or None,
        messages=request.prompt(),
        sampling=request.sampling(limit, request.stop),
        is_stream=bool(request.stream),
        session_id=session_id(headers.get("x-session-id"), request.session_id, request.prompt_cache_key),
    )
    return call, request.wants_usage
