"""What a caller sent, kept for a cloud of the same dialect: nothing that it said is lost on the way there."""

from collections.abc import Mapping
from dataclasses import dataclass

from replicas.cloud.release import CloudKind

FORWARDED: dict[CloudKind, tuple[str, ...]] = {"anthropic": ("anthropic-beta", "anthropic-version"), "openai": ()}
"""Headers that change what a body means, and go along to a cloud of the dialect. No other ever does."""


@dataclass(frozen=True, slots=True)
class Source:
    """A body of `dialect`, as bytes of JSON, and the headers that may be forwarded, names in lower case."""

    dialect: CloudKind
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, dialect: CloudKind, body: bytes, headers: Mapping[str, str]) -> "Source":
        """The source of a request that came with `headers`."""
        kept = tuple((name, headers[name]) for name in FORWARDED[dialect] if name in headers)
        return cls(dialect, body, kept)
