"""The Messages dialect at the seam of router/call.py: parse a request, word its answer, word an error."""

from collections.abc import Callable, Mapping
from uuid import uuid4

from replicas.errors import ShoalError
from router import sse
from router.anthropic.errors import error_value
from router.anthropic.reply import AnthropicReply
from router.anthropic.request import parse_messages
from router.call import Exchange


def message_id() -> str:
    """A fresh id, in the form that Anthropic's have."""
    return f"msg_{uuid4().hex}"


class AnthropicDialect:
    """POST /v1/messages. `default_model` is the name in the answer to a request that names no model."""

    def __init__(self, default_model: str, new_id: Callable[[], str] = message_id) -> None:
        self._default_model = default_model
        self._new_id = new_id

    def parse(self, body: bytes, headers: Mapping[str, str]) -> Exchange:
        """Read a request (header names in lower case). Raises InvalidRequest with the field in `param`."""
        call = parse_messages(body, headers, self._new_id())
        return Exchange(call, AnthropicReply(call.id, call.model or self._default_model))

    def error(self, error: ShoalError, request_id: str) -> bytes:
        """The JSON body of an error."""
        return sse.encoded({**error_value(error), "request_id": request_id})


def count_body(tokens: int) -> bytes:
    """The body of a count_tokens answer."""
    return sse.encoded({"input_tokens": tokens})
