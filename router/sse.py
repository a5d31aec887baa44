"""Server-sent events as bytes, and the two things that every dialect's stream needs.

JSON strings are escaped to ASCII: some clients split a stream at U+2028 or U+0085 as if it were a line end, and a lone
surrogate from a model could not be encoded at all. `runs` folds the chunks of one engine step, so that a step costs one
event however many tokens it made.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from replicas.cloud.answer import CloudChunk, Native
from replicas.engine import CallPiece, Chunk, Final, TokenScore

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"


def encoded(value: Json) -> bytes:
    """`value` as compact JSON, in ASCII."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def event(name: str, value: Json) -> bytes:
    """A named event. The Anthropic SDK dispatches on the name and drops an event that has none."""
    return b"event: " + name.encode("ascii") + b"\ndata: " + encoded(value) + b"\n\n"


def data(value: Json) -> bytes:
    """An event without a name, as the OpenAI dialect sends."""
    return b"data: " + encoded(value) + b"\n\n"


@dataclass(frozen=True, slots=True)
class Run:
    """A part of an answer in one event's worth: text and its tokens' scores, then pieces of calls. With `native` it is
    one piece of a cloud's answer, which a reply of that cloud's dialect words, and not the text beside it."""

    text: str
    scores: tuple[TokenScore, ...]
    calls: tuple[CallPiece, ...]
    native: Native | None = None


def runs(chunks: Sequence[Chunk]) -> tuple[list[Run], Final | None]:
    """`chunks` up to and with the first that ends the answer, folded, and its `Final` if there is one.

    What follows a `Final` is dropped: a backend that goes on talking must not break the stream's grammar.
    """
    found: list[list[Chunk]] = []
    for chunk in chunks:
        if not found or (chunk.text and any(earlier.call for earlier in found[-1])) or _is_apart(found[-1][-1], chunk):
            found.append([])
        found[-1].append(chunk)
        if chunk.final is not None:
            return [_run(part) for part in found], chunk.final
    return [_run(part) for part in found], None


def _run(chunks: Sequence[Chunk]) -> Run:
    pieces: list[CallPiece] = []
    for piece in [chunk.call for chunk in chunks if chunk.call is not None]:
        if pieces and pieces[-1].name is None and piece.name is None and pieces[-1].index == piece.index:
            pieces[-1] = replace(pieces[-1], arguments=pieces[-1].arguments + piece.arguments)
        else:
            pieces.append(piece)
    scores = tuple(score for chunk in chunks for score in chunk.scores)
    return Run("".join(chunk.text for chunk in chunks), scores, tuple(pieces), native_of(chunks[0]))


def native_of(chunk: Chunk) -> Native | None:
    """What the cloud itself said there, if that is more than the chunk can say."""
    return chunk.native if isinstance(chunk, CloudChunk) else None


def _is_apart(earlier: Chunk, chunk: Chunk) -> bool:
    return native_of(earlier) is not None or native_of(chunk) is not None
