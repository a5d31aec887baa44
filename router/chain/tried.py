"""What became of each try along a chain, and what the caller is told when none gave an answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.cloud.errors import CloudBusy
from replicas.errors import ContextOverflow, Overloaded, ShoalError, Unavailable
from router.chain.failure import Reason, reading
from router.chain.gate import Fault


@dataclass(frozen=True, slots=True)
class Tried:
    """One try of `pool`. `wall_s` from asking to the end, `first_content_s` to the first content that went out."""

    pool: str
    reason: Reason
    error: ShoalError | None = None
    fault: Fault | None = None
    wall_s: float = 0.0
    first_content_s: float | None = None
    cost_usd: float = 0.0

    @property
    def why(self) -> str:
        """The reason in a few words, none of them of the request or the answer: it may go into a header or a log."""
        if self.fault is not None:
            return f"{self.reason.value}: {self.fault.check}"
        if isinstance(self.error, ContextOverflow):
            return str(self.error)  # numbers alone
        return self.reason.value if self.error is None else f"{self.reason.value}: {type(self.error).__name__}"


def verdict(tries: Sequence[Tried]) -> ShoalError:
    """What to tell a caller to whom nobody gave an answer: what they can mend, else the soonest time to come again."""
    errors = [tried.error for tried in tries if tried.error is not None]
    if not errors:
        pools = ", ".join(dict.fromkeys(tried.pool for tried in tries))
        return Unavailable("an answer that is good enough", f"what came from {pools} was below the rule's bar")
    return min(errors, key=lambda error: (reading(error).rank, _wait_s(error)))


def _wait_s(error: ShoalError) -> float:
    wait_s = error.retry_after_s if isinstance(error, Overloaded | CloudBusy | Unavailable) else None
    return float("inf") if wait_s is None else wait_s
