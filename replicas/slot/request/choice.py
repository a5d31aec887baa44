"""What a sampler decides about one token."""

from typing import NamedTuple

from replicas.engine import TokenScore
from replicas.errors import ShoalError


class Choice(NamedTuple):
    """A token and its natural log-probability under the unmodified model; NaN if the model's output is broken.

    With an `error` there is no token: the request asked for a choice that cannot be made. The model is not to blame.
    """

    token: int
    logprob: float
    score: TokenScore | None = None  # only when the request asked for scores
    error: ShoalError | None = None
