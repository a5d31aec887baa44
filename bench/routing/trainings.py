"""What a training is worth, by many of them: on so many of the tasks, drawn at random, tried on the others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.route_cases import Labelled, cloud_quality_in, examples_in
from router.learned.frontier import Case, Cases
from router.learned.training import train

SHARES = (0.1, 0.2, 0.4, 0.6)
TIMES = 40


@dataclass(frozen=True, slots=True)
class Trainings:
    """Of `times` trainings on `examples` tasks each: the share of requests that stayed local and the share of the
    cloud's cost that was saved, in the mean, the share that the predictor abstained from, and in what share of the
    trainings the wanted quality was kept. Where it abstained, the cloud answered."""

    examples: int
    times: int
    local: float
    saved: float
    abstained: float
    kept: float


@dataclass(frozen=True, slots=True)
class Labels:
    """Tasks with both answers, of which `name` gave the local ones, and the share of the cloud's quality to be kept."""

    requests: Sequence[Labelled]
    cases: Sequence[Case]
    name: str
    quality: float

    def trainings(self) -> Iterator[Trainings]:
        """For each of SHARES of the tasks."""
        for share in SHARES:
            rng, count = np.random.default_rng(0), round(share * len(self.requests))
            found = [self._tried(rng.permutation(len(self.requests)), count) for _ in range(TIMES)]
            yield Trainings(count, TIMES, *map(float, np.mean(found, axis=0)))

    def _tried(self, order: NDArray[np.int64], count: int) -> tuple[float, float, float, float]:
        """Trained on the first `count` in `order` and tried on the others: local, saved, abstained, kept."""
        known, others = [self.requests[at] for at in order[:count]], Cases([self.cases[at] for at in order[count:]])
        model = train(examples_in(known), self.name, cloud_quality_in(known))
        opinions = others.opinions(model, model.threshold_for(self.quality))
        is_local = np.array([one.pick == "local" for one in opinions])
        answered = np.where(is_local, others.local, others.cloud).mean()
        return (
            is_local.mean(),
            others.cost_usd[is_local].sum() / others.cost_usd.sum(),
            sum(one.abstains for one in opinions) / len(opinions),
            float(answered >= self.quality * others.cloud.mean()),
        )


def table(found: Iterable[Trainings]) -> str:
    """For people."""
    lines = ["examples  stayed local   saved  abstained from  quality kept"]
    lines += [
        f"{one.examples:8}  {one.local:12.1%}  {one.saved:6.1%}  {one.abstained:14.0%}  {one.kept:7.0%} of {one.times}"
        for one in found
    ]
    return "\n".join(lines)
