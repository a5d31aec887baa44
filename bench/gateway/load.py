"""What the clients are to do and what they found, each a line of JSON between processes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask, and as whom. `models` names two models there: one that answers at once, one at a pace."""

    port: int
    path: str
    models: tuple[str, str]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """`at_once` connections, each of which asks again as soon as it is answered, until `requests` were asked in all, or
    `for_s` are over. Each answer has `tokens`; `is_paced`: they come at the upstream's pace."""

    at_once: int
    requests: int
    for_s: float = 60.0
    tokens: int = 16
    is_stream: bool = False
    is_paced: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What one run found: the whole time of each request; of streams also the time to the first token, and of each
    token the time from the upstream's write to the client's read. All in milliseconds but `time_s`."""

    time_s: float
    whole_ms: Sequence[float]
    first_ms: Sequence[float] = ()
    token_ms: Sequence[float] = ()

    @property
    def requests(self) -> int:
        """How many were answered."""
        return len(self.whole_ms)

    @property
    def requests_s(self) -> float:
        """A second."""
        return self.requests / self.time_s

    @property
    def tokens_s(self) -> float:
        """A second, of streams."""
        return len(self.token_ms) / self.time_s


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest of `values` (at least one) that is not below the part `q` of them: 0.99 for the 99th percentile."""
    return sorted(values)[max(0, ceil(q * len(values)) - 1)]


def asked_line(target: Target, work: Work) -> str:
    """For the clients."""
    return json.dumps([asdict(target), asdict(work)])


def read_asked(line: str) -> tuple[Target, Work]:
    """What `asked_line` wrote."""
    target, work = json.loads(line)
    return Target(**{**target, "models": tuple(target["models"])}), Work(**work)


def found_line(found: Found) -> str:
    """For whoever asked."""
    return json.dumps(asdict(found))


def read_found(line: str) -> Found:
    """What `found_line` wrote."""
    return Found(**json.loads(line))
