"""What the predictor says of one request, and what follows from it. Plain data, told in headers and by commands."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Pick: TypeAlias = Literal["local", "cloud"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The local model's answer is good with `probability`; by what was learned it lies from `low` to `high`.

    `strange` says what about the request is outside of all that was learned from; empty: nothing.
    """

    probability: float
    low: float
    high: float
    strange: str = ""


@dataclass(frozen=True, slots=True)
class Opinion:
    """`pick` is who should be asked first; None abstains, and the rules decide. `why` says it in words.

    `local` is the model that is predicted. Without a prediction nothing could be said, or nothing had to be.
    """

    pick: Pick | None
    why: str
    local: str = ""
    threshold: float | None = None
    prediction: Prediction | None = None

    @property
    def abstains(self) -> bool:
        """The rules are to decide."""
        return self.pick is None


def opinion_of(prediction: Prediction, local: str, threshold: float) -> Opinion:
    """`local` where it will do with at least `threshold`, a cloud where it is sure not to.

    What training promises of a threshold (thresholds.py) it promises of the probabilities themselves: to ask for a
    whole interval above it would doubt everything twice (docs/decisions/0012-what-the-predictor-is-sure-of.md).
    """
    told = f"{local} will do with {prediction.probability:.2f} ({prediction.low:.2f} to {prediction.high:.2f})"
    if prediction.strange:
        return Opinion(None, f"not sure: {prediction.strange}", local, threshold, prediction)
    if prediction.probability < threshold <= prediction.high:
        return Opinion(None, f"not sure: {told}, which reaches {threshold:.2f}", local, threshold, prediction)
    pick: Pick = "local" if prediction.probability >= threshold else "cloud"
    return Opinion(
        pick, f"{told}, {'at least' if pick == 'local' else 'below'} {threshold:.2f}", local, threshold, prediction
    )
