"""Server-sent events as bytes, and the two things that every dialect's stream needs.

JSON strings are escaped to ASCII: some clients split a stream at U+2028 or U+0085 as if it were a line end, and a lone
surrogate from a model could not be encoded at all. `merged` folds the chunks of one engine step into one text, so that
a step costs one event however many tokens it made.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from replicas.engine import Chunk, Final

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


def merged(chunks: Sequence[Chunk]) -> tuple[str, Final | None]:
    """The text of `chunks` up to and with the first that ends the answer, and its `Final` if there is one.

    What follows a `Final` is dropped: a backend that goes on talking must not break the stream's grammar.
    """
    parts: list[str] = []
    for chunk in chunks:
        parts.append(chunk.text)
        if chunk.final is not None:
            return "".join(parts), chunk.final
    return "".join(parts), None
