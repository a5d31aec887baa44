"""What a sampler decides about one token."""

from typing import NamedTuple

from replicas.engine import TokenScore


class Choice(NamedTuple):
    """A token and its natural log-probability under the unmodified model; NaN if the model's output is broken."""

    token: int
    logprob: float
    score: TokenScore | None = None  # only when the request asked for scores
