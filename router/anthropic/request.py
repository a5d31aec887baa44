"""A Messages body as a `Call`: system text first, then the turns as they come.

A system turn in the middle keeps its place, because hoisting it to the front would change the prefix and lose the KV
cache. For the same reason the first system block is dropped when it is the billing header of a Claude client: it
differs in every request of one conversation. A budget for thinking is for models that think; local ones answer at once.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import Field

from replicas.engine import Message
from replicas.errors import Unsupported
from router.anthropic.tools import ToolFields
from router.body import Count, Flag, FormFields, SamplingFields, Stops, Wire, member, parsed_json, read, session_id
from router.call import Call
from router.content import holds_image, text_of, unread
from router.origin import origin_of
from router.shapes import AnyObject, Content
from router.structured import anthropic_grammar
from router.translate.source import Source
from router.turns import block_turns, merged, spoken
from router.urgency import priority_of

BILLING_HEADER = "x-anthropic-billing-header:"


class Turn(Wire):
    role: Literal["user", "assistant", "system"]
    content: Content = None


class CountBody(ToolFields):
    """The body of /v1/messages/count_tokens: a Messages body of which only the prompt matters."""

    model: str | None = None
    messages: Annotated[list[Turn], Field(fail_fast=True), Field(min_length=1)]
    system: Content = None
    metadata: AnyObject = None

    def prompt(self) -> tuple[Message, ...]:
        """The conversation. Raises InvalidRequest."""
        return merged(self._turns())

    def _turns(self) -> Iterator[Message]:
        yield from spoken("system", text_of(_without_billing_header(self.system), "system"))
        for i, turn in enumerate(self.messages):
            yield from block_turns(turn.role, turn.content, f"messages[{i}].content")

    def session(self, headers: Mapping[str, str]) -> str | None:
        """The session that a Claude client names in a header or in `metadata.user_id`, a JSON string."""
        return session_id(headers.get("x-claude-code-session-id"), _session_in(member(self.metadata, "user_id")))


class MessagesBody(CountBody, FormFields, SamplingFields):
    """The body of /v1/messages."""

    max_tokens: Count
    stop_sequences: Stops | None = None
    stream: Flag | None = None
    mcp_servers: object = None

    @property
    def unsupported(self) -> Unsupported | None:
        """What of it no local model can do."""
        if self.mcp_servers:
            return Unsupported("mcp_servers: local models reach no servers; offer their tools yourself", "mcp_servers")
        return unread(self.messages)


def parse_messages(body: bytes, headers: Mapping[str, str], call_id: str) -> Call:
    """Read a Messages request (header names in lower case). Raises InvalidRequest."""
    request = read(MessagesBody, body)
    tools, choice = request.offered()
    return Call(
        id=call_id,
        model=request.model or None,
        messages=request.prompt(),
        sampling=request.sampling(request.max_tokens, request.stop_sequences),
        is_stream=bool(request.stream),
        priority=priority_of(headers),
        session_id=request.session(headers),
        tools=tools,
        tool_choice=choice,
        grammar=anthropic_grammar(request.form),
        has_image=any(holds_image(turn.content) for turn in request.messages),
        origin=origin_of(headers),
        source=Source.of("anthropic", body, headers),
        unsupported=request.unsupported,
    )


def parse_count(body: bytes, headers: Mapping[str, str]) -> Call:
    """Read a count_tokens request; of the call only what makes the prompt means anything. Raises InvalidRequest."""
    request = read(CountBody, body)
    tools, choice = request.offered()
    return Call(
        id=f"count_{uuid4().hex}",
        model=request.model or None,
        messages=request.prompt(),
        sampling=SamplingFields().sampling(max_tokens=1, stop=None),
        session_id=request.session(headers),
        tools=tools,
        tool_choice=choice,
        origin=origin_of(headers),
        source=Source.of("anthropic", body, headers, "count"),
    )


def _without_billing_header(system: object) -> object:
    if isinstance(system, list) and system:
        text = member(system[0], "text")
        if isinstance(text, str) and text.startswith(BILLING_HEADER):
            return system[1:]
    return system


def _session_in(user_id: object) -> object:
    if not isinstance(user_id, str):
        return None
    try:
        return member(parsed_json(user_id), "session_id")
    except ValueError:
        return None  # an opaque id, which names a user and not a session
