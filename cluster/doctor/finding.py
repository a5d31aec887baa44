"""What a check found. A problem keeps something from working; a note is worth knowing; both may carry a fix."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

_logger = logging.getLogger(__name__)


class State(StrEnum):
    """How a thing is."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fix` is what to do; a problem always has one."""

    area: str
    name: str
    state: State
    detail: str
    fix: str = ""

    def __post_init__(self) -> None:
        assert self.fix or self.state is not State.PROBLEM, self.name


Check: TypeAlias = Callable[[], Iterable[Finding]]


def examined(checks: Iterable[Check]) -> Iterator[Finding]:
    """What all `checks` find. One that breaks is a finding itself: the others go on."""
    for check in checks:
        try:
            yield from check()
        except Exception as error:
            _logger.debug("a check broke", exc_info=True)
            name = getattr(check, "__name__", "check")
            yield Finding("doctor", name, State.PROBLEM, f"the check broke: {error!r}", "report this line as a bug")


def found(area: str, name: str, detail: str, problem: str = "") -> Finding:
    """A thing that is fine, or a problem if `problem` says what mends it."""
    return Finding(area, name, State.PROBLEM if problem else State.OK, detail, problem)


def noted(area: str, name: str, detail: str, advice: str = "") -> Finding:
    """A thing that is fine, or a note if there is `advice`."""
    return Finding(area, name, State.NOTE if advice else State.OK, detail, advice)
