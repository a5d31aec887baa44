"""The seam between a chain and those who answer, and what a request asks of its chain.

A backend is made for one request and knows it: the chain never sees a prompt, so it can send none anywhere. Whoever
makes the links decides who may be asked at all, privacy first.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from replicas.engine import Chunk
from router.chain.backoff import Retries
from router.chain.gate import Gate


class Backend(Protocol):
    """One model, asked for one request; never twice at a time."""

    def ask(self, left_s: float) -> AsyncGenerator[list[Chunk], None]:
        """The answer, from its beginning each time, within `left_s`: an empty list when it is admitted and while
        nothing comes, chunks, the last with a `Final`. Raises ShoalErrors. It is run and closed in one task; closing
        it early, or cancelling that task, gives the answer up."""
        ...

    def spent_usd(self) -> float:
        """What the last `ask` has cost, once it has ended, however it did. Local ones cost nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Link:
    """A backend in a chain. `pool` names it in metrics, and whose breaker it has.

    If it has said nothing for `patience_s` while another link is left, it is given up. Not `keeps_scores`: the scores
    were asked for by the gate alone, and go no further.
    """

    pool: str
    backend: Backend
    gate: Gate | None = None
    patience_s: float | None = None
    keeps_scores: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request wants of its chain. `links` are tried in order, at least one.

    After `hedge_after_s` without content the next link is asked beside the first, and who speaks first answers: for
    interactive requests, where somebody pays for two. None: never. While nothing comes, an empty list is given every
    `ping_s`, as soon as a backend has admitted the request. If all else fails, an answer that a gate did not let
    pass is asked for again and given (`serves_rejected`): better than none.
    """

    links: tuple[Link, ...]
    deadline_s: float = 600.0
    hedge_after_s: float | None = None
    ping_s: float = 10.0
    serves_rejected: bool = True
    retries: Retries = field(default_factory=Retries)
