"""When a failed call is made again, and after how long: exponential backoff with jitter, bounded in attempts.

Only errors that may pass are retried. A full queue passes as others finish, so it gets far more attempts than an engine
that broke; what is missing altogether (a replica restarts in seconds to a minute) lies between.
"""

from dataclasses import dataclass

from replicas.errors import EngineFailed, Overloaded, ShoalError, Unavailable


@dataclass(frozen=True, slots=True)
class Patience:
    """How many attempts a call gets by kind of error, the first wait and the longest one."""

    overloaded_attempts: int = 200
    unavailable_attempts: int = 12
    failed_attempts: int = 4
    first_s: float = 0.2
    most_s: float = 8.0

    def wait_s(self, error: ShoalError, attempt: int, chance: float) -> float | None:
        """Seconds until the next attempt after `attempt` (from 1) failed; None: give up. `chance` is in [0, 1).

        Half of the wait is jitter: callers that failed together must not come back together.
        """
        if attempt >= self._attempts(error):
            return None
        backoff_s = min(self.most_s, self.first_s * 2.0 ** min(attempt - 1, 30))
        least_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
        return max(backoff_s, min(least_s, self.most_s)) * (0.5 + chance / 2 if least_s == 0 else 1 + chance / 2)

    def _attempts(self, error: ShoalError) -> int:
        if isinstance(error, Overloaded):
            return self.overloaded_attempts
        if isinstance(error, Unavailable):
            return self.unavailable_attempts
        return self.failed_attempts if isinstance(error, EngineFailed) else 1
