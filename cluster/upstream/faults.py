"""What faults do to a response. Pure: a response goes in, a broken one comes out.

Faults that change what is claimed or the form of the protocol (usage, quirks of tool calls) are in the wires: see
`is_quirk`. A fault in a stream strikes once `after_tokens` tokens are out; in a whole answer, in its middle.
"""

from collections.abc import Callable
from dataclasses import replace

from cluster.upstream.asked import Problem
from cluster.upstream.reply import Usage
from cluster.upstream.response import Ending, Frame, Headers, Response, whole
from cluster.upstream.script import Fault, FaultKind
from cluster.upstream.wire import Wire

_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
)
AFTER_TOKENS = 3
_STATUSES = {FaultKind.HTML: 502, FaultKind.ERROR_EVENT: 529}
_WORDS = {429: "Number of requests has exceeded your rate limit.", 500: "Internal server error", 529: "Overloaded"}
_QUIRKS = frozenset(
    {
        FaultKind.WRONG_USAGE,
        FaultKind.NO_USAGE,
        FaultKind.EMPTY_CALLS,
        FaultKind.WHOLE_ARGUMENTS,
        FaultKind.OBJECT_ARGUMENTS,
        FaultKind.STOP_WITH_CALLS,
        FaultKind.INTERLEAVED_CALLS,
    }
)


def is_quirk(kind: FaultKind) -> bool:
    """Whether a wire makes this fault, rather than `broken`."""
    return kind in _QUIRKS


def claimed(usage: Usage, kind: FaultKind | None) -> Usage | None:
    """The usage that is told: the true one, none, or one that is wrong by ten times and has no prompt."""
    if kind is FaultKind.NO_USAGE:
        return None
    return Usage(0, usage.output * 10) if kind is FaultKind.WRONG_USAGE else usage


def refusal(fault: Fault, wire: Wire, name: str) -> Response | None:
    """The response of a fault that never gets to an answer; None if this fault is another kind."""
    if fault.kind is FaultKind.STATUS:
        body = wire.error(problem(fault), False, name)
        return replace(whole(_status(fault), body, _headers(fault)), fault=fault.kind)
    if fault.kind is FaultKind.HTML:
        page = whole(_status(fault), _HTML, _headers(fault), "text/html; charset=utf-8")
        return replace(page, fault=fault.kind)
    if fault.kind is FaultKind.SILENCE:
        return Response(0, (), (), 0, Ending.SILENCE, fault=fault.kind)
    if fault.kind is FaultKind.RESET and fault.after_tokens is None:
        return Response(0, (), (), 0, Ending.RESET, fault=fault.kind)
    return None


def problem(fault: Fault) -> Problem:
    """The error that a fault tells of."""
    status = _status(fault)
    return Problem(status, fault.message or _WORDS.get(status, "The upstream was told to fail."), fault.error_type)


def broken(response: Response, fault: Fault, wire: Wire, name: str) -> Response:
    """`response` as `fault` leaves it."""
    marked = replace(response, fault=fault.kind)
    if fault.kind is FaultKind.ERROR_EVENT:
        return _error_event(marked, fault, wire, name)
    breaks = _BREAKS.get(fault.kind)
    return breaks(marked, fault) if breaks else marked


def _error_event(response: Response, fault: Fault, wire: Wire, name: str) -> Response:
    body = wire.error(problem(fault), response.is_stream, name)
    if not response.is_stream:
        return replace(response, frames=(Frame(body),), length=len(body), bill=None)
    before = response.frames[: _place(response, fault)]
    return replace(response, frames=(*before, Frame(body)), bill=None)


def _place(response: Response, fault: Fault) -> int:
    """The index of the first frame past `after_tokens` tokens; at most that of the last frame with tokens."""
    sent, wanted = 0, AFTER_TOKENS if fault.after_tokens is None else fault.after_tokens
    for at, frame in enumerate(response.frames):
        if frame.tokens and sent >= wanted:
            return at
        sent += frame.tokens
    return max((at for at, frame in enumerate(response.frames) if frame.tokens), default=0)


def _cut(response: Response, fault: Fault) -> Response:
    at = _place(response, fault)
    half = replace(response.frames[at], data=response.frames[at].data[: len(response.frames[at].data) // 2])
    ending = Ending.RESET if fault.kind is FaultKind.RESET else Ending.CUT
    return replace(response, frames=(*response.frames[:at], half), ending=ending)


def _unfinished(response: Response, fault: Fault) -> Response:
    if not response.is_stream:
        return _malformed(response, fault)
    frames = response.frames[: _place(response, fault)]
    bill = replace(response.bill, tokens=sum(frame.tokens for frame in frames)) if response.bill else None
    return replace(response, frames=frames, bill=bill)


def _malformed(response: Response, fault: Fault) -> Response:
    at = _place(response, fault)
    data = response.frames[at].data.rstrip()
    end = b"\n\n" if response.is_stream else b""
    bad = replace(response.frames[at], data=data[: len(data) * 2 // 3] + end)
    frames = (*response.frames[:at], bad, *response.frames[at + 1 :])
    return replace(response, frames=frames, length=None if response.is_stream else len(bad.data))


def _duplicated(response: Response, fault: Fault) -> Response:
    if not response.is_stream:
        return response
    frames = tuple(copy for frame in response.frames for copy in ((frame, frame) if frame.is_turn else (frame,)))
    return replace(response, frames=frames)


def _mislabelled(response: Response, fault: Fault) -> Response:
    kept = [pair for pair in response.headers if pair[0] != "content-type"]
    return replace(response, headers=(("content-type", "text/plain"), *kept))


def _slow_start(response: Response, fault: Fault) -> Response:
    return replace(response, first_byte_s=response.first_byte_s + fault.delay_s)


def _slow_tokens(response: Response, fault: Fault) -> Response:
    return replace(response, token_s=fault.delay_s)


_BREAKS: dict[FaultKind, Callable[[Response, Fault], Response]] = {
    FaultKind.CUT: _cut,
    FaultKind.RESET: _cut,
    FaultKind.UNFINISHED: _unfinished,
    FaultKind.MALFORMED: _malformed,
    FaultKind.DUPLICATES: _duplicated,
    FaultKind.WRONG_CONTENT_TYPE: _mislabelled,
    FaultKind.SLOW_START: _slow_start,
    FaultKind.SLOW_TOKENS: _slow_tokens,
}


def _status(fault: Fault) -> int:
    return fault.status or _STATUSES.get(fault.kind, 500)


def _headers(fault: Fault) -> Headers:
    found = (("retry-after", fault.retry_after_s), ("retry-after-ms", fault.retry_after_ms))
    retries = tuple((name, f"{value:g}") for name, value in found if value is not None)
    return (*retries, *fault.headers.items())
