"""A cloud's error, from a response or from inside a stream, as one of ours. Only what a status means is known here.

The caller is told the cloud's words, save where the operator is the one who must act: those may name accounts. The
words that clients parse for a prompt that is too long are the same whichever cloud said it.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic_core import from_json

from replicas.cloud.errors import CloudBroken, CloudBusy, CloudDenied, CloudRefused
from replicas.errors import ContextOverflow, ShoalError

WORDS_CHARS = 2000
"""Of a cloud's message so much is kept."""

BUSY = frozenset({429, 503, 529})
DENIED = frozenset({401, 402, 403, 404})

_TYPES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
}
_TOO_LONG = (
    re.compile(r"prompt is too long: (?P<tokens>\d+) tokens > (?P<limit>\d+)"),
    re.compile(
        r"maximum context length is (?P<limit>\d+) tokens.*?(?:resulted in|requested(?: about)?) (?P<tokens>\d+)"
    ),
)


def refusal(cloud: str, status: int, headers: Mapping[str, str], body: bytes) -> ShoalError:
    """The error that a response with a `status` other than 200 stands for; header names in lower case."""
    text = body.decode("utf-8", "replace")
    words = _words(_parsed(text)) or f"HTTP {status}"
    if status in BUSY:
        return CloudBusy(cloud, words, status, retry_after_s(headers))
    if status in DENIED or status < 400:
        return CloudDenied(cloud, f"HTTP {status}: {words}")
    if status >= 500 or status in (408, 409):
        return CloudBroken(cloud, words)
    return _overflow(words) or CloudRefused(cloud, words, status, text)


def told(cloud: str, error: object) -> ShoalError:
    """The error that an error object stands for which came with HTTP 200: in an event of a stream, or a whole body."""
    body = json.dumps({"error": error}).encode()
    return refusal(cloud, _status(error), {}, body)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a cloud asks to wait: `retry-after-ms`, else `retry-after` in seconds or as a date; None: not said."""
    ms, said = _number(headers.get("retry-after-ms")), headers.get("retry-after")
    if ms is not None:
        return ms / 1000
    seconds = _number(said)
    if seconds is not None or said is None:
        return seconds
    try:
        at = parsedate_to_datetime(said)
    except ValueError:
        return None
    return max(0.0, (at - datetime.now(UTC if at.tzinfo else None)).total_seconds())


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", text) else None


def _parsed(text: str) -> object:
    try:
        value: object = from_json(text)
    except ValueError:
        return None
    return value


def _words(body: object) -> str:
    """The message in an error body of either protocol, or of the services that are nearly like one."""
    inner = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(inner, dict):
        inner = next((inner[key] for key in ("message", "detail", "error") if inner.get(key)), None)
    return inner[:WORDS_CHARS] if isinstance(inner, str) else ""


def _overflow(words: str) -> ContextOverflow | None:
    found = next((match for pattern in _TOO_LONG if (match := pattern.search(words))), None)
    return ContextOverflow(int(found["tokens"]), int(found["limit"])) if found else None


def _status(error: object) -> int:
    """The status that an error object would have come with; 500 for what says nothing that is known."""
    fields = error if isinstance(error, dict) else {}
    for said in (fields.get("code"), fields.get("type")):
        if isinstance(said, int) and 400 <= said < 600:
            return said
        if isinstance(said, str) and said in _TYPES:
            return _TYPES[said]
    return 500
