"""OpenAI's two dialects at the seam of router/call.py: parse a request, word its answer, word an error."""

import time
from collections.abc import Callable, Mapping
from uuid import uuid4

from replicas.errors import ShoalError
from router import sse
from router.call import Exchange
from router.openai.choices import several
from router.openai.completions import parse_completions
from router.openai.errors import error_value
from router.openai.reply import OpenAIReply
from router.openai.request import parse_chat
from router.openai.text_reply import TextReply


def chat_id() -> str:
    """A fresh id, in the form that those of chat completions have."""
    return f"chatcmpl-{uuid4().hex}"


def completion_id() -> str:
    """A fresh id, in the form that those of completions have."""
    return f"cmpl-{uuid4().hex}"


class _Worded:
    """What both dialects share: the clock, and errors. `default_model` is the name in the answer to a request that
    names no model."""

    def __init__(self, default_model: str, new_id: Callable[[], str], clock: Callable[[], float]) -> None:
        self._default_model = default_model
        self._new_id = new_id
        self._clock = clock

    def error(self, error: ShoalError, request_id: str) -> bytes:
        """The JSON body of an error; the dialect carries the request id in a header only."""
        return sse.encoded(error_value(error))


class OpenAIDialect(_Worded):
    """POST /v1/chat/completions."""

    def __init__(
        self, default_model: str, new_id: Callable[[], str] = chat_id, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(default_model, new_id, clock)

    def parse(self, body: bytes, headers: Mapping[str, str]) -> Exchange:
        """Read a request (header names in lower case). Raises InvalidRequest with the field in `param`."""
        asked, wording = parse_chat(body, headers, self._new_id())
        call, *more = several(asked, wording.choices)
        reply = OpenAIReply(call.id, call.model or self._default_model, int(self._clock()), wording)
        return Exchange(call, reply, tuple(more))


class CompletionsDialect(_Worded):
    """POST /v1/completions."""

    def __init__(
        self, default_model: str, new_id: Callable[[], str] = completion_id, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(default_model, new_id, clock)

    def parse(self, body: bytes, headers: Mapping[str, str]) -> Exchange:
        """Read a request (header names in lower case). Raises InvalidRequest with the field in `param`."""
        asked = parse_completions(body, headers, self._new_id())
        call, *more = asked.calls
        created_s = int(self._clock())
        reply = TextReply(call.id, call.model or self._default_model, created_s, asked.wording, asked.echoed)
        return Exchange(call, reply, tuple(more))
