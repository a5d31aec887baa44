"""A chat completions body as a `Call`.

`developer` is a system turn by its newer name, `function` a tool's. What no local model can do is noted in the call: a
cloud may do it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from replicas.engine import Message, Role, ToolCall
from replicas.errors import Unsupported
from router.body import Count, Flag, FormFields, SamplingFields, Stops, Wire, member, read, session_id
from router.call import Call
from router.content import holds_image, text_of, unread
from router.openai.choices import MOST
from router.openai.limits import ChatLimitFields
from router.openai.logprobs import ScoreFields
from router.openai.tools import ToolFields
from router.origin import origin_of
from router.shapes import AnyObject, AnyText, ChatCalls, Content
from router.structured import openai_grammar
from router.translate.source import Source
from router.turns import called, merged, spoken
from router.urgency import priority_of

DEFAULT_MAX_TOKENS = 1024
"""When a caller names no limit. The real API has none, but a small model may well talk to the end of its context."""

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


class Turn(Wire):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None
    tool_calls: ChatCalls = None
    function_call: AnyObject = None
    tool_call_id: AnyText = None
    name: AnyText = None

    def messages(self, path: str) -> Iterator[Message]:
        """This turn, if it says anything."""
        text = text_of(self.content, f"{path}.content")
        if self.role in ("tool", "function"):
            id_ = self.tool_call_id if isinstance(self.tool_call_id, str) else ""
            name = self.name if isinstance(self.name, str) else ""
            yield Message("tool", text or "", tool_call_id=id_, tool_name=name)
        else:
            yield from spoken(_ROLES[self.role], text, tuple(self._calls()) if self.role == "assistant" else ())

    def _calls(self) -> Iterator[ToolCall]:
        calls = self.tool_calls if isinstance(self.tool_calls, list) else []
        for id_, function in [(member(call, "id"), member(call, "function")) for call in calls]:
            yield from called(id_, member(function, "name"), member(function, "arguments"))
        yield from called(None, member(self.function_call, "name"), member(self.function_call, "arguments"))


class StreamOptions(Wire):
    include_usage: Flag | None = None


def wants_usage(options: StreamOptions | None) -> bool:
    """A chunk with the usage is to end the stream."""
    return options is not None and bool(options.include_usage)


class ChatBody(ToolFields, ScoreFields, FormFields, ChatLimitFields, SamplingFields):
    """The body of /v1/chat/completions."""

    model: str | None = None
    messages: Annotated[list[Turn], Field(fail_fast=True), Field(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: Stops | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[Count, Field(le=MOST)] | None = None
    session_id: AnyText = None
    prompt_cache_key: AnyText = None
    service_tier: AnyText = None

    def prompt(self) -> tuple[Message, ...]:
        """The conversation. Raises InvalidRequest."""
        turns = enumerate(self.messages)
        return merged(message for i, turn in turns for message in turn.messages(f"messages[{i}]"))

    def unsupported(self, messages: Sequence[Message]) -> Unsupported | None:
        """What of it no local model can do; `messages` is the conversation."""
        return self.beyond() or unread(self.messages) or self.misplaced(messages[-1].role == "assistant")


@dataclass(frozen=True, slots=True)
class Wording:
    """How the caller wants the answer worded: a stream's usage told, calls as the older `function_call`, and how many
    `choices` for a prompt."""

    wants_usage: bool
    is_legacy: bool = False
    choices: int = 1


def parse_chat(body: bytes, headers: Mapping[str, str], call_id: str) -> tuple[Call, Wording]:
    """Read a request (header names in lower case); the call is for one of its choices. Raises InvalidRequest."""
    request = read(ChatBody, body)
    limit = request.max_completion_tokens or request.max_tokens or max(DEFAULT_MAX_TOKENS, request.min_tokens or 0)
    tools, choice = request.offered()
    messages = request.prompt()
    call = Call(
        id=call_id,
        model=request.model or None,
        messages=messages,
        sampling=request.sampling(limit, request.stop),
        is_stream=bool(request.stream),
        priority=priority_of(headers, request.service_tier),
        session_id=session_id(headers.get("x-session-id"), request.session_id, request.prompt_cache_key),
        tools=tools,
        tool_choice=choice,
        grammar=openai_grammar(request.form),
        top_logprobs=request.wanted_scores,
        has_image=any(holds_image(turn.content) for turn in request.messages),
        origin=origin_of(headers),
        source=Source.of("openai", body, headers),
        unsupported=request.unsupported(messages),
    )
    return call, Wording(wants_usage(request.stream_options), request.is_legacy, request.n or 1)
