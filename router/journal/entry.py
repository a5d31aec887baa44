"""One decision as the journal keeps it: what was seen, who could answer and how likely each was, and what came of it.

Nothing of what was asked or answered is in it: numbers, flags, the names of languages, models, rules, agents and roles.
Of a private request only numbers and flags, beside what the settings name (`public` in router/journal/row.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Feature: TypeAlias = bool | int | float | str

BY_UNIT = "odds_by_unit"
"""The feature of a decision whose odds are those of a draw for a session or a key (router/unit.py): its other decisions
were drawn with it."""


class Outcome(StrEnum):
    """How a request ended: the closed set of a metric's label."""

    ANSWERED = "answered"
    BELOW_BAR = "below_bar"  # answered, with what a gate had kept back: it was all there was
    FAILED = "failed"  # nobody answered, or the answer broke off
    REFUSED = "refused"  # nobody was asked: too long, withheld, no money, no such model
    LEFT = "left"  # the caller went away before the end


@dataclass(frozen=True, slots=True)
class Option:
    """A candidate that may answer, in the order of the route, and the probability with which the policy that decided
    puts it first. Those of all options add up to 1; rules and ready-made policies give 1.0 to their first."""

    name: str
    propensity: float


@dataclass(frozen=True, slots=True)
class Try:
    """One ask of a candidate: how it ended (`Reason` of router/chain/failure.py), and for one that the gate rejected
    the name of the check, else empty."""

    name: str
    reason: str
    check: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a decision. Empty `answered_by`: nobody's content went out. `reason` is the name of an error class.

    `latency_s` is from the decision to the end, `ttft_s` to the first content. Tokens are as the answering model counts
    them; the cost is of all tries together, in nano-dollars. Log-probabilities are natural, None where none are known.
    """

    outcome: Outcome
    answered_by: str = ""
    reason: str = ""
    tries: tuple[Try, ...] = ()
    prompt: int = 0
    cached: int = 0
    generated: int = 0
    latency_s: float = 0.0
    ttft_s: float | None = None
    cost_nano: int = 0
    mean_logprob: float | None = None
    min_logprob: float | None = None

    @property
    def is_success(self) -> bool:
        """The caller got a whole answer that passed the bar."""
        return self.outcome is Outcome.ANSWERED


@dataclass(frozen=True, slots=True)
class Score:
    """From 0 (useless) to 1 (just right), given at seconds since 1970."""

    value: float
    at: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the caller said of an answer last: a score from 0 (useless) to 1 (just right), at seconds since 1970.
    `first` is the score before any other; None: nothing was said before."""

    score: float
    label: str
    at: float
    first: Score | None = None

    @property
    def first_score(self) -> Score:
        """What was said first. It never changes."""
        return self.first or Score(self.score, self.at)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One decision. `id` is what the caller got as the id of its answer; `at` is in seconds since 1970.

    `by` and `rule` are those of router/policy/decision.py. `session` is a digest that tells sessions apart
    (session.py). `options` are the route as it was decided, its first is `chosen`; empty, when nobody could answer.
    `features` hold what router/policy/features.py reads, but no headers and no time, what else the decision saw, and
    BY_UNIT where that is so. Without an experiment its name and the variant's are empty.
    """

    id: str
    at: float
    key_id: str
    session: str
    by: str
    rule: str
    is_private: bool
    options: tuple[Option, ...]
    result: Result
    features: Mapping[str, Feature] = field(default_factory=dict)
    experiment: str = ""
    variant: str = ""
    feedback: Feedback | None = None

    @property
    def chosen(self) -> str:
        """Who was to answer; empty: nobody could."""
        return self.options[0].name if self.options else ""
