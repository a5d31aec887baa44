"""What a caller sent, kept for a cloud of the same dialect: nothing that it said is lost on the way there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from replicas.cloud.fields import fields
from replicas.cloud.release import Asking, CloudKind
from router.body import parsed_json

FORWARDED: dict[CloudKind, tuple[str, ...]] = {"anthropic": ("anthropic-beta", "anthropic-version"), "openai": ()}
"""Headers that change what a body means, and go along to a cloud of the dialect. No other ever does."""

COMPLETIONS: Asking = "completions"


@dataclass(frozen=True, slots=True)
class Source:
    """A body of `dialect`, as bytes of JSON, and the headers that may be forwarded, names in lower case."""

    dialect: CloudKind
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    asking: Asking = "conversation"

    @classmethod
    def of(
        cls, dialect: CloudKind, body: bytes, headers: Mapping[str, str], asking: Asking = "conversation"
    ) -> "Source":
        """The source of a request that came with `headers`."""
        kept = tuple((name, headers[name]) for name in FORWARDED[dialect] if name in headers)
        return cls(dialect, body, kept, asking)


def changed(source: Source, **members: object) -> Source:
    """`source` with other members in its body; None takes one out."""
    asked = {**fields(parsed_json(source.body)), **members}
    body = {name: value for name, value in asked.items() if value is not None}
    return replace(source, body=json.dumps(body).encode("ascii"))
