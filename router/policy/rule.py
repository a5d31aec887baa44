"""Rules as data: which requests, and who answers them. The first that holds decides; after the last, the policy.

A rule sends to candidates in an order of its own, or leaves the order to a ready-made policy.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from router.policy.candidate import Candidate
from router.policy.condition import ALWAYS, Condition
from router.privacy.kinds import HARMLESS_ADDRESSES, KINDS, Kind

PolicyName: TypeAlias = Literal["local-only", "prefer-local", "prefer-cloud", "cheapest", "fastest"]
AtLimit: TypeAlias = Literal["degrade", "refuse"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)


@dataclass(frozen=True, slots=True)
class Rule:
    """Who answers what `when` holds for: the candidates `to` in that order, or all as `policy` ranks them.

    With `marks_private`, what it holds for is private, whatever is found in it.
    """

    name: str
    when: Condition = ALWAYS
    to: tuple[str, ...] = ()
    policy: PolicyName | None = None
    marks_private: bool = False


@dataclass(frozen=True, slots=True)
class Routing:
    """All that decides. `candidates` are in the order of preference; `detectors` say what is private.

    `at_limit`: whether a request that a cloud would answer goes to a local model when the budget is spent.
    """

    candidates: tuple[Candidate, ...]
    rules: tuple[Rule, ...] = ()
    policy: PolicyName = "prefer-local"
    detectors: tuple[Kind, ...] = KINDS
    harmless: tuple[str, ...] = HARMLESS_ADDRESSES
    time_zone: str = "UTC"
    at_limit: AtLimit = "degrade"

    def candidate(self, name: str) -> Candidate | None:
        """The candidate of that very name."""
        return next((one for one in self.candidates if one.name == name), None)
