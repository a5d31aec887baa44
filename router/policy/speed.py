"""How fast each model has been lately: what `fastest` ranks by. Moving averages of the answers of this process.

What was last seen too long ago counts for nothing, so a model that was slow once is tried again: requests that nobody
sends it would never show that it has recovered.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from router.policy.candidate import Candidate

WEIGHT = 0.2
"""Of the newest answer in the averages: about the last ten count."""

FORGET_S = 600.0
"""A choice: one request in ten minutes is what it costs to learn that a slow model is fast again."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds to the first token, and for each one after it; seen last at `at_s` of the clock."""

    ttft_s: float
    token_s: float
    at_s: float

    def mixed(self, newer: "Pace") -> "Pace":
        """The average, in which `newer` counts for WEIGHT."""
        ttft_s = self.ttft_s + WEIGHT * (newer.ttft_s - self.ttft_s)
        return Pace(ttft_s, self.token_s + WEIGHT * (newer.token_s - self.token_s), newer.at_s)


class Speeds:
    """Paces by the name of a candidate. Written and read on one thread, or read on others: entries are replaced."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, Pace] = {}

    def observe(self, name: str, ttft_s: float, tokens: int, rest_s: float) -> None:
        """An answer of the candidate `name` has ended: `tokens` in all, the first after `ttft_s`, the others within
        `rest_s`. One of fewer than two tokens says nothing of the pace."""
        if tokens < 2:
            return
        now = Pace(ttft_s, rest_s / (tokens - 1), self._clock())
        before = self.seen.get(name)
        self._seen[name] = now if before is None else before.mixed(now)

    @property
    def seen(self) -> Mapping[str, Pace]:
        """What has been seen lately."""
        since_s = self._clock() - FORGET_S
        return {name: pace for name, pace in list(self._seen.items()) if pace.at_s >= since_s}

    def time_s(self, candidate: Candidate, tokens_out: int) -> float | None:
        """How long an answer of so many tokens takes: as seen, else as said in the settings; None: nothing is known."""
        pace = self.seen.get(candidate.name)
        return candidate.time_s(tokens_out) if pace is None else pace.ttft_s + pace.token_s * tokens_out
