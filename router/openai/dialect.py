"""The chat completions dialect at the seam of router/call.py: parse a request, word its answer, word an error."""

import time
from collections.abc import Callable, Mapping
from uuid import uuid4

from replicas.errors import ShoalError
from router import sse
from router.call import Exchange
from router.openai.errors import error_value
from router.openai.reply import OpenAIReply
from router.openai.request import parse_chat


def completion_id() -> str:
    """A fresh id, in the form that OpenAI's have."""
    return f"chatcmpl-{uuid4().hex}"


class OpenAIDialect:
    """POST /v1/chat/completions. `default_model` is the name in the answer to a request that names no model."""

    def __init__(
        self,
        default_model: str,
        new_id: Callable[[], str] = completion_id,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._default_model = default_model
        self._new_id = new_id
        self._clock = clock

    def parse(self, body: bytes, headers: Mapping[str, str]) -> Exchange:
        """Read a request (header names in lower case). Raises InvalidRequest with the field in `param`."""
        call, wording = parse_chat(body, headers, self._new_id())
        reply = OpenAIReply(call.id, call.model or self._default_model, int(self._clock()), wording)
        return Exchange(call, reply)

    def error(self, error: ShoalError, request_id: str) -> bytes:
        """The JSON body of an error; the dialect carries the request id in a header only."""
        return sse.encoded(error_value(error))
