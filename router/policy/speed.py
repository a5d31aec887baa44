"""How fast each model has been lately: what `fastest` ranks by. Moving averages of the answers of this process."""

from replicas.engine import Final
from router.policy.candidate import Candidate

WEIGHT = 0.2
"""Of the newest answer in the averages: about the last ten count."""


class Speeds:
    """Seconds to the first token, and for each one after it, by the name of a candidate. Written on one thread."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def observe(self, name: str, final: Final) -> None:
        """An answer of the candidate `name` has ended."""
        if final.usage.generated < 2:
            return
        timings = final.timings
        now = (timings.queued_s + timings.prefill_s, timings.decode_s / (final.usage.generated - 1))
        before = self._seen.get(name, now)
        mixed = [old + WEIGHT * (new - old) for old, new in zip(before, now, strict=True)]
        self._seen[name] = (mixed[0], mixed[1])

    def time_s(self, candidate: Candidate, tokens_out: int) -> float | None:
        """How long an answer of so many tokens takes: as seen, else as said in the settings; None: nothing is known."""
        seen = self._seen.get(candidate.name)
        return candidate.time_s(tokens_out) if seen is None else seen[0] + seen[1] * tokens_out
