"""Rules as data: which requests, and who answers them. The first that holds decides; after the last, the policy.

A rule sends to candidates in an order of its own, or leaves the order to a ready-made policy.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from router.chain.backoff import Retries
from router.chain.breaker import Limits
from router.chain.terms import USUAL, Terms
from router.policy.candidate import Candidate
from router.policy.condition import ALWAYS, Condition
from router.privacy.kinds import HARMLESS_ADDRESSES, KINDS, Kind

ReadyName: TypeAlias = Literal["local-only", "prefer-local", "prefer-cloud", "cheapest", "fastest"]
PolicyName: TypeAlias = Literal[ReadyName, "learned"]
AtLimit: TypeAlias = Literal["degrade", "refuse"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
LEARNED: PolicyName = "learned"
OTHERWISE: ReadyName = "prefer-cloud"
"""What is not known to be good enough goes to who is."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Who answers what `when` holds for: the candidates `to` in that order, or all as `policy` ranks them.

    With `marks_private`, what it holds for is private, whatever is found in it. `terms` are for the way to an answer.
    """

    name: str
    when: Condition = ALWAYS
    to: tuple[str, ...] = ()
    policy: PolicyName | None = None
    marks_private: bool = False
    terms: Terms = USUAL


@dataclass(frozen=True, slots=True)
class Learning:
    """How `learned` decides: by the model of `model_file`, which of two goes first, the local model or the others.

    Local is what will do with at least `threshold`; None: the lowest by which answers keep the share `quality` of the
    cloud's quality. Where it abstains the next rule decides, and as the policy `otherwise`. The share `explore` of the
    requests is left to chance, drawn from `seed`.
    """

    model_file: Path
    threshold: float | None = None
    quality: float = 0.95
    explore: float = 0.0
    seed: int = 0
    otherwise: ReadyName = OTHERWISE


@dataclass(frozen=True, slots=True)
class Routing:
    """All that decides. `candidates` are in the order of preference; `detectors` say what is private.

    `at_limit`: whether a request that a cloud would answer goes to a local model when the budget is spent.
    `retries` and `breaker` hold for all chains. Without `learning` the policy `learned` always abstains.
    """

    candidates: tuple[Candidate, ...]
    rules: tuple[Rule, ...] = ()
    policy: PolicyName = "prefer-local"
    detectors: tuple[Kind, ...] = KINDS
    harmless: tuple[str, ...] = HARMLESS_ADDRESSES
    time_zone: str = "UTC"
    at_limit: AtLimit = "degrade"
    retries: Retries = field(default_factory=Retries)
    breaker: Limits = field(default_factory=Limits)
    learning: Learning | None = None

    def candidate(self, name: str) -> Candidate | None:
        """The candidate of that very name."""
        return next((one for one in self.candidates if one.name == name), None)
