"""What an error means: for the request (again here, elsewhere, or nowhere) and for the pool (its fault or not).

the caller's mistake     nowhere would it work: the chain ends
this backend cannot      too long, withheld, denied, refused there: the next one may; asking again is no use
busy                     again here after the time it wants, if that is short; no fault if it said a time
late                     elsewhere; a fault only if the pool was given the time that it should do with
broken                   again here, then elsewhere; a fault that the pool's breaker counts
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from replicas.cloud.errors import CloudBusy, CloudDenied, CloudRefused
from replicas.engine import Final, Finish
from replicas.errors import (
    BodyTooLarge,
    BudgetHeld,
    BudgetSpent,
    ContextOverflow,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    NotFound,
    Overloaded,
    ShoalError,
    Unsupported,
    Withheld,
)


class Reason(StrEnum):
    """How a try of a pool ended: the closed set of a metric's label."""

    ANSWERED = "answered"
    REJECTED = "rejected"  # the gate found it wanting
    BEATEN = "beaten"  # another one, asked beside it, spoke first
    LEFT = "left"  # the caller went away, or its time was up
    OPEN = "open"  # not asked: its breaker is open, or it wants to be left alone for a while
    BUSY = "busy"
    BROKEN = "broken"
    LATE = "late"
    DENIED = "denied"
    UNFIT = "unfit"  # this request is nothing for it
    INVALID = "invalid"  # the request is wrong


Next: TypeAlias = Literal["again", "elsewhere", "nowhere"]


@dataclass(frozen=True, slots=True)
class Reading:
    """An error, read. `wanted_s` is how long the pool asks to be left alone, for this request; if `is_for_all`, for
    every one. `rank` orders the errors of a chain: the lowest is what the caller is told."""

    reason: Reason
    next: Next
    rank: int
    is_fault: bool = False
    wanted_s: float | None = None
    is_for_all: bool = False


def reading(error: ShoalError) -> Reading:
    """What `error`, raised before any content, means."""
    if isinstance(error, BudgetHeld):
        return _HELD
    if isinstance(error, Overloaded):
        # A local queue promises each caller a place of its own.
        return Reading(Reason.BUSY, "again", 1, wanted_s=error.retry_after_s)
    if isinstance(error, CloudBusy):
        wanted_s = error.retry_after_s
        return Reading(Reason.BUSY, "again", 1, wanted_s is None, wanted_s, is_for_all=wanted_s is not None)
    return next((read for kind, read in _READINGS if isinstance(error, kind)), _BROKEN)


def failed(final: Final) -> ShoalError | None:
    """What an answer that has this end failed with; None: it has not."""
    if final.error is not None:
        return final.error
    if final.finish is Finish.CANCELLED:
        return EngineFailed("the answer was given up where it was made")
    return EngineFailed("the answer ended in an error") if final.finish is Finish.ERROR else None


_UNFIT = Reading(Reason.UNFIT, "elsewhere", 3)
_HELD = Reading(Reason.BUSY, "elsewhere", 1)
"""Nobody waits in line for money: who is local costs none, and the caller may come again."""

_BROKEN = Reading(Reason.BROKEN, "again", 2, is_fault=True)
_READINGS: tuple[tuple[type[ShoalError], Reading], ...] = (
    (ContextOverflow, _UNFIT),
    (Unsupported, _UNFIT),
    (InvalidRequest, Reading(Reason.INVALID, "nowhere", 0)),
    (CloudRefused, _UNFIT),
    (BodyTooLarge, _UNFIT),
    (NotFound, _UNFIT),
    (Withheld, Reading(Reason.UNFIT, "elsewhere", 4)),
    (BudgetSpent, Reading(Reason.UNFIT, "elsewhere", 4)),
    (CloudDenied, Reading(Reason.DENIED, "elsewhere", 2, is_fault=True)),
    (DeadlineExceeded, Reading(Reason.LATE, "elsewhere", 2)),
)
