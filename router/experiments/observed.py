"""What the journal says of one variant, added up as its rows come.

What keeps a variant (a session, a key, or a request alone) is one unit, and counts once however much it asks: its
answers are alike, and counting each would make intervals too narrow. Its scores and successes go in as their means, of
scores those that were given last. Tests read the first value of each unit, which nobody can change any more. A decision
whose caller left before the end says nothing of success.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import fsum

from router.journal.entry import JournalEntry, Outcome, Score
from router.unit import unit_of


@dataclass(slots=True)
class Mean:
    """Of what one unit gave."""

    count: int = 0
    sum: float = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.count += 1
        self.sum += value


@dataclass(slots=True)
class Measure:
    """Numbers from 0 to 1, by unit; `firsts` are the first ones that became known."""

    means: dict[str, Mean] = field(default_factory=dict)
    firsts: dict[str, Score] = field(default_factory=dict)

    def add(self, unit: str, value: float, first: Score) -> None:
        """One more of `unit`, which was `first` before it was `value`."""
        self.means.setdefault(unit, Mean()).add(value)
        known = self.firsts.get(unit)
        if known is None or first.at < known.at:
            self.firsts[unit] = first

    @property
    def mean(self) -> float | None:
        """Of the units' means."""
        return fsum(one.sum / one.count for one in self.means.values()) / len(self.means) if self.means else None


@dataclass(slots=True)
class Observed:
    """Of one variant."""

    decisions: int = 0
    answers: int = 0
    cost_nano: int = 0
    latencies_s: list[float] = field(default_factory=list)
    success: Measure = field(default_factory=Measure)
    score: Measure = field(default_factory=Measure)

    @property
    def by_name(self) -> Mapping[str, Measure]:
        """The measures that variants are compared by."""
        return {"success": self.success, "score": self.score}

    def add(self, entry: JournalEntry) -> None:
        """One decision."""
        result, unit = entry.result, unit_of(entry.session, entry.key_id, entry.id)
        self.decisions += 1
        self.cost_nano += result.cost_nano
        if result.outcome in (Outcome.ANSWERED, Outcome.BELOW_BAR):
            self.answers += 1
            self.latencies_s.append(result.latency_s)
        if result.outcome is not Outcome.LEFT:
            value = float(result.is_success)
            self.success.add(unit, value, Score(value, entry.at + result.latency_s))
        if entry.feedback is not None:
            self.score.add(unit, entry.feedback.score, entry.feedback.first_score)
