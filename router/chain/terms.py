"""What a rule asks of the way to an answer, as data: the bar that answers must pass, and how long somebody is waited
for before others are asked."""

from dataclasses import dataclass

from router.chain.bar import Bar
from router.chain.judge import Judging


@dataclass(frozen=True, slots=True)
class Terms:
    """Local answers must pass `bar` and `judging`; None: they need not. If nobody does, the first that did not is
    given all the same (`serves_rejected`), or the caller gets an error.

    After `hedge_after_s` without content the next candidate of an interactive request is asked beside the first; one
    that has said nothing for `patience_s` is given up while another is left.
    """

    bar: Bar | None = None
    judging: Judging | None = None
    serves_rejected: bool = True
    hedge_after_s: float | None = None
    patience_s: float | None = None

    @property
    def has_gate(self) -> bool:
        """Answers are judged."""
        return self.bar is not None


USUAL = Terms()
"""Nothing beside the order of the route."""
