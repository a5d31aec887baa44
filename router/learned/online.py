"""What callers said since the model was trained: a Beta posterior for each tenth of the predicted probabilities.

The prediction is its prior, worth PRIOR answers; each answer of the local model that somebody scored counts for one. It
is this process's own and ends with it: the journal keeps the scores, and the next training takes them all in. Bounded:
the oldest predictions are forgotten first, and past MOST answers of a tenth the older ones fade.
"""

import threading
from dataclasses import dataclass, replace

from router.learned.opinion import Prediction

TENTHS = 10
PRIOR = 20.0
MOST = 200.0
PENDING = 10_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """So many answers were scored, and their scores add up to `good`."""

    good: float = 0.0
    answers: float = 0.0

    def plus(self, score: float) -> "Evidence":
        """One more. MOST at most count."""
        fading = min(1.0, (MOST - 1) / self.answers) if self.answers else 1.0
        return Evidence(self.good * fading + score, self.answers * fading + 1)

    def mixed(self, prior: float) -> float:
        """The mean of the posterior, with `prior` worth PRIOR answers."""
        return (PRIOR * prior + self.good) / (PRIOR + self.answers)


class Posterior:
    """Learns from feedback. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, int] = {}
        self._tenths = [Evidence()] * TENTHS

    def note(self, id_: str, prediction: Prediction) -> None:
        """The request `id_` was predicted so; its answer may be scored later."""
        with self._lock:
            self._pending[id_] = _tenth(prediction)
            if len(self._pending) > PENDING:
                del self._pending[next(iter(self._pending))]

    def learn(self, id_: str, score: float) -> bool:
        """The local model's answer to the request `id_` got `score` (0 to 1); whether it was one that was predicted
        here. Only the first score of an answer counts."""
        with self._lock:
            tenth = self._pending.pop(id_, None)
            if tenth is not None:
                self._tenths[tenth] = self._tenths[tenth].plus(score)
            return tenth is not None

    def adjusted(self, prediction: Prediction) -> Prediction:
        """`prediction` with what was learned since. The interval shrinks with the evidence."""
        seen = self._tenths[_tenth(prediction)]
        if not seen.answers:
            return prediction
        ends = (prediction.probability, prediction.low, prediction.high)
        probability, low, high = (seen.mixed(end) for end in ends)
        return replace(prediction, probability=probability, low=low, high=high)


def _tenth(prediction: Prediction) -> int:
    return min(TENTHS - 1, int(prediction.probability * TENTHS))
