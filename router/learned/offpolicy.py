"""What another policy would have got, from the log of one that left some requests to chance.

Three estimates of a mean reward: inverse propensities (Horvitz and Thompson 1952) weigh each logged reward by how much
likelier the other policy is to do what was done; self-normalised ones (Swaminathan and Joachims 2015) divide by the sum
of the weights, which is biased a little and varies less; doubly robust ones (Dudik, Langford and Li 2011) use the
weights only for what a model of the rewards gets wrong.

None of it can know of a choice that was never made. Requests that could not have gone otherwise are left out, and a
log that has too few others is refused. Where an experiment drew, it drew once for a session or a key: intervals count
such units, not requests, and nothing is guessed of a unit by what was learned from itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from replicas.errors import SettingsError
from router.estimate import Estimate
from router.learned.bootstrap import estimate, gathered, mean_of, sums
from router.learned.logistic import Array, fit, sigmoid
from router.learned.model import LEAST_SCALE, inputs_of
from router.learned.traits import Traits

LOCAL, CLOUD = 0, 1
FEWEST = 50
FEWEST_UNITS = 20
"""Sessions, keys or requests that drew for themselves: of fewer no interval can be told."""

REWARD_PENALTY = 30.0

_Mask: TypeAlias = NDArray[np.bool_]
_Guess: TypeAlias = Callable[[_Mask, _Mask], Array | float]


@dataclass(frozen=True, slots=True)
class Logged:
    """A request that went to `chose` (LOCAL or CLOUD) first. `propensities` are how likely either was by the policy
    that was logged, `quality` is what came of it (0 to 1), `cost_usd` what it cost. Requests
    of one `unit` are not independent of each other."""

    traits: Traits
    chose: int
    propensities: tuple[float, float]
    quality: float
    cost_usd: float
    unit: str

    @property
    def could_differ(self) -> bool:
        """Either choice was possible."""
        return min(self.propensities) > 0


@dataclass(frozen=True, slots=True)
class Value:
    """What a policy would have got for a request, three ways."""

    ips: Estimate
    snips: Estimate
    dr: Estimate


@dataclass(frozen=True, slots=True)
class Log:
    """Requests that say something: `inputs` (requests, features), `chose` (requests), `propensities` (requests, 2),
    what came of them (requests) and the numbers of their `units` (requests), from 0 as they come. `left_out` others
    could not have gone otherwise."""

    traits: tuple[Traits, ...]
    inputs: Array
    chose: NDArray[np.int64]
    propensities: Array
    quality: Array
    cost_usd: Array
    units: NDArray[np.int64]
    left_out: int

    @classmethod
    def of(cls, logged: Sequence[Logged]) -> "Log":
        """What can be read from `logged`. Raises SettingsError that says what is missing."""
        kept = [one for one in logged if one.could_differ]
        if len(kept) < FEWEST:
            raise SettingsError(
                f"only {len(kept)} of {len(logged)} scored decisions could have gone otherwise; the others had "
                "propensity 1: what the other model would have answered is not known, and cannot be estimated. Set "
                f"routing.learned.explore to 0.05 or more, and collect at least {FEWEST} scored answers with it"
            )
        units = {name: at for at, name in enumerate(dict.fromkeys(one.unit for one in kept))}
        if len(units) < FEWEST_UNITS:
            raise SettingsError(
                f"the {len(kept)} scored decisions that could have gone otherwise are of {len(units)} sessions or "
                f"keys, each drawn once: at least {FEWEST_UNITS} are needed. Send a session with each request, or "
                "end the experiment and leave some requests to chance (routing.learned.explore): that is drawn for each"
            )
        traits = tuple(one.traits for one in kept)
        plain = inputs_of(traits)
        return cls(
            traits,
            (plain - plain.mean(axis=0)) / np.maximum(plain.std(axis=0), LEAST_SCALE),
            np.array([one.chose for one in kept]),
            np.array([one.propensities for one in kept]),
            np.array([one.quality for one in kept]),
            np.array([one.cost_usd for one in kept]),
            np.array([units[one.unit] for one in kept]),
            len(logged) - len(kept),
        )

    def mean(self, rewards: Array) -> Estimate:
        """The mean of `rewards` (requests) under the policy that was logged."""
        return mean_of(rewards, self.units)

    def expected_quality(self) -> Array:
        """A guess (requests, 2) of the quality of either choice: a regression for each, on the other half."""
        return self._from_other_half(self._quality_like)

    def expected_cost(self) -> Array:
        """A guess (requests, 2) of the cost of either choice, in USD: its mean in the other half."""
        return self._from_other_half(lambda known, _: float(self.cost_usd[known].mean()) if known.any() else 0.0)

    def value(self, local: Array, rewards: Array, expected: Array, seed: int = 0) -> Value:
        """The mean of `rewards` (requests) under a policy that goes to the local model with the probabilities `local`
        (requests). `expected` (requests, 2) is a guess of the reward of either choice, made without the request."""
        rows = np.arange(len(self.chose))
        wanted = np.column_stack([local, 1 - local])
        weights = wanted[rows, self.chose] / self.propensities[rows, self.chose]
        doubly = (wanted * expected).sum(axis=1) + weights * (rewards - expected[rows, self.chose])
        columns = np.column_stack([weights * rewards, doubly, weights, np.ones(len(rows))])
        found, drawn = columns.sum(axis=0), sums(gathered(columns, self.units), seed)
        least = 1e-12  # a draw without any request that the policy would have treated alike
        return Value(
            ips=estimate(float(found[0]) / len(rows), drawn[:, 0] / drawn[:, 3]),
            snips=estimate(float(found[0] / max(found[2], least)), drawn[:, 0] / np.maximum(drawn[:, 2], least)),
            dr=estimate(float(found[1]) / len(rows), drawn[:, 1] / drawn[:, 3]),
        )

    def _from_other_half(self, guess: _Guess) -> Array:
        found = np.zeros((len(self.chose), 2))
        is_even = self.units % 2 == 0
        for half in (is_even, ~is_even):
            for choice in (LOCAL, CLOUD):
                found[half, choice] = guess(~half & (self.chose == choice), half)
        return found

    def _quality_like(self, known: _Mask, wanted: _Mask) -> Array | float:
        if not known.any():
            return 0.5
        fitted = fit(self.inputs[known], self.quality[known], np.ones(int(known.sum())), REWARD_PENALTY)
        return sigmoid(fitted.logits(self.inputs[wanted]))
