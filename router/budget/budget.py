"""A budget as data: how much, for how long, and whose. What pays for a request are claims: an account for each budget
that the request falls under, and a reservation takes from all of them or from none.

Several keys that share a budget are a team. Periods are those of UTC, and begin anew by having accounts of their own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from router.budget.payer import Payer
from router.label import label

Period: TypeAlias = Literal["day", "month", "total"]
Each: TypeAlias = Literal["key", "job"]
_FORMS: dict[Period, str] = {"day": "%Y-%m-%d", "month": "%Y-%m", "total": "all"}


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `limit_nano` in a `period`: shared by all it is for, or as much for `each` key or job.

    `keys` are patterns of ids or names of keys; without any it is for everybody, also for requests without a key.
    """

    name: str
    limit_nano: int
    period: Period = "day"
    each: Each | None = None
    keys: tuple[str, ...] = ()

    def claim(self, payer: Payer, today: date) -> "Claim | None":
        """What a request of `payer` takes from; None if this budget is not for it."""
        texts = (payer.key_id, payer.key_name)
        if self.keys and not any(fnmatchcase(text, pattern) for text in texts for pattern in self.keys):
            return None
        if self.each == "job" and not payer.job:
            return None
        whose = "" if self.each is None else payer.key_id if self.each == "key" else payer.job
        account = self.name if self.each is None else label(f"{self.name}/{whose}")
        return Claim(account, self.period_of(today), self.limit_nano)

    def period_of(self, today: date) -> str:
        """The name of the period that `today` is in."""
        return today.strftime(_FORMS[self.period])


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """On what is in an account in a period: `limit_nano` at most."""

    account: str
    period: str
    limit_nano: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Of a claim: `nano` in all, of which calls under way hold `held_nano` and may give it back."""

    nano: int
    held_nano: int = 0

    @property
    def spent_nano(self) -> int:
        """What does not come back."""
        return self.nano - self.held_nano


@dataclass(frozen=True, slots=True)
class Reservation:
    """So much, taken from every claim until it is settled. After `ends_at` (seconds since 1970) nobody will do that any
    more, and it stays taken. `claims` are in order: whoever locks their accounts does it in the same one."""

    id: str
    nano: int
    ends_at: float
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of a reservation, or of `frees_nano` of it, which are held no longer; None: all that is left of it."""

    reservation: Reservation
    cost_nano: int
    frees_nano: int | None = None


def claims_of(budgets: Iterable[Budget], payer: Payer, today: date) -> tuple[Claim, ...]:
    """What a request of `payer` takes from, in order."""
    return tuple(sorted(claim for budget in budgets if (claim := budget.claim(payer, today)) is not None))
