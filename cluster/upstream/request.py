"""An HTTP request that has arrived in full."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """`headers` has lower-case names; of a header that repeats, the values joined by commas."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    def query(self, name: str) -> str | None:
        """The first value of a parameter of the target."""
        return parse_qs(urlsplit(self.target).query).get(name, [None])[0]
