"""Quality against cost: what rules, the predictor at each threshold, chance and an oracle make of the same requests.

Where both answers to each request are known (`Cases`), the points are plain means, and so is what each way saves while
it keeps a share of the cloud's quality. From a log they are doubly robust estimates, and there is no oracle: nobody
knows what the model that was not asked would have said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.estimate import Estimate
from router.learned.bootstrap import counts, estimate, mean_of
from router.learned.logistic import Array
from router.learned.model import Model
from router.learned.offpolicy import LOCAL, Log
from router.learned.opinion import Opinion, opinion_of
from router.learned.traits import Traits

STEPS = tuple(step / 20 for step in range(21))
EVEN = 1e-9


@dataclass(frozen=True, slots=True)
class Case:
    """A request with what both would have answered: the quality of either (0 to 1), and the cost of the cloud's.
    `rules_local` is 1 where the rules alone send it to the local model, else 0."""

    traits: Traits
    local: float
    cloud: float
    cost_usd: float
    rules_local: float


@dataclass(frozen=True, slots=True)
class Point:
    """A policy, and what it is set to: the share of requests that go to the local model, the mean quality of all
    answers and the mean cost of one."""

    policy: str
    setting: str
    local_share: float
    quality: Estimate
    cost_usd: Estimate


class Cases:
    """Requests with both answers, as arrays."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.traits = [one.traits for one in cases]
        self.local = np.array([one.local for one in cases])
        self.cloud = np.array([one.cloud for one in cases])
        self.cost_usd = np.array([one.cost_usd for one in cases])
        self.rules = np.array([one.rules_local for one in cases])

    def point(self, policy: str, setting: str, picks: Array) -> Point:
        """The point of the policy that goes to the local model with probabilities `picks` (requests)."""
        quality = mean_of(picks * self.local + (1 - picks) * self.cloud)
        return Point(policy, setting, float(picks.mean()), quality, mean_of((1 - picks) * self.cost_usd))

    def points(self, model: Model, threshold: float) -> Iterator[Point]:
        """Everybody's. `threshold` is what the service would use."""
        yield self.point("rules", "", self.rules)
        told = model.probabilities(self.traits)
        for step in STEPS:
            yield self.point("learned", f"p >= {step:.2f}", (told >= step).astype(float))
        yield self.point("learned", "as set, or the rules", self.settled(model, threshold))
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            yield self.point("random", f"{share:.0%} local", np.full(len(self.local), share))
        order = self.oracle_order()
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            picks = np.zeros(len(order))
            picks[order[: round(share * len(order))]] = 1
            yield self.point("oracle", f"{share:.0%} local", picks)

    def settled(self, model: Model, threshold: float) -> Array:
        """Who goes to the local model in a service: by the rules where the predictor abstains."""
        picks = self.rules.copy()
        for at, opinion in enumerate(self.opinions(model, threshold)):
            if opinion.pick is not None:
                picks[at] = opinion.pick == "local"
        return picks

    def opinions(self, model: Model, threshold: float) -> list[Opinion]:
        """What the predictor says of each."""
        return [opinion_of(model.predict(traits), model.file.local, threshold) for traits in self.traits]

    def oracle_order(self) -> NDArray[np.intp]:
        """Requests in the order in which who knows all answers would give them to the local model."""
        return np.lexsort((-self.cost_usd, self.cloud - self.local))

    def savings(self, told: Array, share: float) -> dict[str, Estimate]:
        """The most that each policy saves of what the cloud costs for everything, with answers of at least `share` of
        the cloud's quality. The setting is the best one for these requests: an upper end for the predictor."""
        drawn = np.vstack([np.ones(len(self.local)), counts(len(self.local))])
        by_told = np.lexsort((np.arange(len(told)), -told))
        oracle = self.oracle_order()
        ends = np.append(np.diff(told[by_told]) != 0, True)
        found = {
            "rules": self._saved_at(drawn, self.rules, share),
            "learned": self._saved_along(drawn, by_told, ends, share),
            "random": self._saved_by_chance(drawn, share),
            "oracle": self._saved_along(drawn, oracle, np.ones(len(oracle), bool), share),
        }
        return {name: estimate(float(values[0]), values[1:]) for name, values in found.items()}

    def _saved_at(self, drawn: Array, picks: Array, share: float) -> Array:
        quality = drawn @ (picks * self.local + (1 - picks) * self.cloud)
        saved: Array = drawn @ (picks * self.cost_usd) / (drawn @ self.cost_usd)
        return np.where(quality >= share * (drawn @ self.cloud) - EVEN, saved, 0.0)

    def _saved_along(self, drawn: Array, order: NDArray[np.intp], ends: NDArray[np.bool_], share: float) -> Array:
        """Of the first ones in `order`, as many as may be; one can stop only at `ends`."""
        mine = drawn[:, order]
        lost = np.cumsum(mine * (self.cloud - self.local)[order], axis=1)
        saved = np.cumsum(mine * self.cost_usd[order], axis=1) / (drawn @ self.cost_usd)[:, None]
        is_kept = (lost <= (1 - share) * (drawn @ self.cloud)[:, None] + EVEN) & ends
        found: Array = np.where(is_kept, saved, 0.0).max(axis=1)
        return found

    def _saved_by_chance(self, drawn: Array, share: float) -> Array:
        lost = drawn @ (self.cloud - self.local)
        may_lose = (1 - share) * (drawn @ self.cloud)
        return np.where(lost > may_lose, may_lose / np.maximum(lost, EVEN), 1.0)


def served(log: Log, model: Model, threshold: float) -> Array:
    """How likely (requests) a service with that threshold goes to the local model: as it was logged where the predictor
    abstains."""
    picks = log.propensities[:, LOCAL].copy()
    for at, traits in enumerate(log.traits):
        opinion = opinion_of(model.predict(traits), model.file.local, threshold)
        if opinion.pick is not None:
            picks[at] = opinion.pick == "local"
    return picks


def estimated(log: Log, model: Model, threshold: float) -> Iterator[Point]:
    """The points of a log: what was logged, the predictor at each threshold and as a service uses it with `threshold`,
    and chance."""
    quality, cost = log.expected_quality(), log.expected_cost()
    told = model.probabilities(log.traits)

    def point(policy: str, setting: str, picks: Array) -> Point:
        good = log.value(picks, log.quality, quality).dr
        return Point(policy, setting, float(picks.mean()), good, log.value(picks, log.cost_usd, cost).dr)

    yield Point("logged", "", float((log.chose == 0).mean()), log.mean(log.quality), log.mean(log.cost_usd))
    for step in STEPS:
        yield point("learned", f"p >= {step:.2f}", (told >= step).astype(float))
    yield point("learned", "as set, or as logged", served(log, model, threshold))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield point("random", f"{share:.0%} local", np.full(len(log.chose), share))
