"""What callers said of a model's predictions: a Beta posterior for each tenth of the predicted probabilities.

The prediction is its prior, worth PRIOR answers; each answer of the local model that somebody scored counts for one.
All that a key says counts for its own requests, but no more than OF_ONE_KEY answers of it for those of others: nobody
steers everybody. It is this process's own and ends with it, or with the model: the journal keeps the scores, and the
next training takes them all in. Where a gate keeps answers back, those that are scored are the better ones: until then
predictions move up by what it takes out. Bounded: the oldest predictions and the keys that were silent longest are
forgotten first, and past MOST answers of a tenth the older ones fade.
"""

import math
import threading
from dataclasses import dataclass, replace

from router.learned.opinion import Prediction

TENTHS = 10
PRIOR = 20.0
MOST = 200.0
OF_ONE_KEY = 5.0
PENDING = 10_000
KEYS = 1_000
SURE = 1e-6
"""No probability is taken to be nearer to 0 or to 1: its log-odds would be without end."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """So many answers were scored, and their scores add up to `good`."""

    good: float = 0.0
    answers: float = 0.0

    def plus(self, score: float) -> "Evidence":
        """One more. MOST at most count."""
        return self.worth(min(self.answers, MOST - 1)).joined(Evidence(score, 1.0))

    def worth(self, answers: float) -> "Evidence":
        """The same mean, of so many answers."""
        return Evidence(self.good * answers / self.answers, answers) if self.answers else self

    def joined(self, other: "Evidence") -> "Evidence":
        """Both together."""
        return Evidence(self.good + other.good, self.answers + other.answers)

    def mixed(self, prior: float) -> float:
        """The mean of the posterior, with `prior` worth PRIOR answers."""
        return (PRIOR * prior + self.good) / (PRIOR + self.answers)


NONE = Evidence()


class Posterior:
    """Learns from feedback on the predictions of one model. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[str, int]] = {}
        self._by_key: dict[str, tuple[Evidence, ...]] = {}
        self._shared = [NONE] * TENTHS

    def note(self, id_: str, key_id: str, prediction: Prediction) -> None:
        """The request `id_` of a key was predicted so; its answer may be scored later."""
        with self._lock:
            self._pending[id_] = key_id, _tenth(prediction)
            if len(self._pending) > PENDING:
                del self._pending[next(iter(self._pending))]

    def learn(self, id_: str, score: float) -> bool:
        """The local model's answer to the request `id_` got `score` (0 to 1); whether it was one that was predicted
        here. Only the first score of an answer counts."""
        with self._lock:
            noted = self._pending.pop(id_, None)
            if noted is None:
                return False
            key_id, tenth = noted
            tenths = list(self._by_key.pop(key_id, (NONE,) * TENTHS))
            tenths[tenth] = tenths[tenth].plus(score)
            self._by_key[key_id] = tuple(tenths)
            changed = {tenth}
            if len(self._by_key) > KEYS:
                forgotten = self._by_key.pop(next(iter(self._by_key)))
                changed.update(at for at, seen in enumerate(forgotten) if seen.answers)
            for at in changed:
                self._shared[at] = self._of_all(at)
            return True

    def adjusted(self, prediction: Prediction, key_id: str) -> Prediction:
        """`prediction` for a request of that key, with what was learned since. The log-odds of its interval's ends move
        as far as those of its middle: scores of other requests make nobody surer of this one."""
        tenth = _tenth(prediction)
        with self._lock:
            own = self._by_key.get(key_id, (NONE,) * TENTHS)[tenth]
            seen = self._shared[tenth].joined(own.worth(max(0.0, own.answers - OF_ONE_KEY)))
        if not seen.answers:
            return prediction
        shift = _logit(seen.mixed(prediction.probability)) - _logit(prediction.probability)
        ends = (prediction.probability, prediction.low, prediction.high)
        probability, low, high = (_shifted(end, shift) for end in ends)
        return replace(prediction, probability=probability, low=low, high=high)

    def _of_all(self, tenth: int) -> Evidence:
        """What counts for everybody."""
        found = NONE
        for tenths in self._by_key.values():
            found = found.joined(tenths[tenth].worth(min(tenths[tenth].answers, OF_ONE_KEY)))
        return found.worth(min(found.answers, MOST))


def _tenth(prediction: Prediction) -> int:
    return min(TENTHS - 1, int(prediction.probability * TENTHS))


def _logit(probability: float) -> float:
    held = min(1 - SURE, max(SURE, probability))
    return math.log(held / (1 - held))


def _shifted(probability: float, by: float) -> float:
    return 1 / (1 + math.exp(-(_logit(probability) + by)))
