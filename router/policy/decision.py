"""A decision and its reasons: which rule, what it saw, who answers, who lost and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from replicas.errors import BudgetSpent, NotFound, ShoalError, Unavailable, Withheld
from router.learned.opinion import Opinion
from router.policy.constraints import Value
from router.privacy.guard import Marking

BUDGET_SPENT = "the budget is spent"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A candidate and why it is where it is in the route, or why it is not."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Trial:
    """The variant of an experiment that a request was given."""

    experiment: str
    variant: str

    def __str__(self) -> str:
        return f"{self.experiment}={self.variant}"


@dataclass(frozen=True, slots=True)
class Decision:
    """Who answers: `route`, in the order to try. `by` a rule called `rule`, a policy, or the model that was asked for.

    `features` are those that some rule looks at. A model that nobody knows gives an empty route and `is_unknown`.
    `odds`, where chance had a say: how likely each candidate was to be the first. Without, the first was so for sure.
    `is_drawn_by_unit`: others of the same session or key were drawn with it (router/unit.py).
    """

    by: Literal["rule", "policy", "model"]
    rule: str
    route: tuple[Verdict, ...]
    lost: tuple[Verdict, ...]
    features: Mapping[str, Value]
    marking: Marking
    is_unknown: bool = False
    is_degraded: bool = False  # local, for want of money
    odds: Mapping[str, float] = field(default_factory=dict)
    is_drawn_by_unit: bool = False
    trial: Trial | None = None
    opinion: Opinion | None = None  # what was predicted on the way, if something was

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the route."""
        return tuple(verdict.name for verdict in self.route)

    @property
    def chances(self) -> Mapping[str, float]:
        """How likely each candidate was to be the first; of nobody, if nobody may answer."""
        return (self.odds or dict.fromkeys(self.names[:1], 1.0)) if self.route else {}

    def without(self, name: str, why: str) -> "Decision":
        """The same, after the candidate `name` has turned out not to do."""
        left = tuple(verdict for verdict in self.route if verdict.name != name)
        return replace(self, route=left, lost=(Verdict(name, why), *self.lost))

    def refusal(self) -> ShoalError:
        """What to tell a caller whom nobody may answer."""
        if self.is_unknown:
            return NotFound("model", self.rule, "and no rule takes it")
        whose = f"{self.by} {self.rule!r}"
        if self.marking.is_private:
            return Withheld(f"it is private ({', '.join(self.marking.reasons)}), and {whose} leaves nothing local")
        if any(one.why == BUDGET_SPENT for one in self.lost):
            return BudgetSpent()
        return Unavailable("a model for this request", "; ".join(f"{one.name}: {one.why}" for one in self.lost[:8]))
