"""What a condition may ask of one feature: a number in a range, one of a closed set of words, a text like a pattern.

Beside telling whether a value passes, each kind can be met with another and taken away from it. That is how rules are
checked against each other at the start: what a rule lets through, less what earlier rules take, is what reaches it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol, TypeAlias

Value: TypeAlias = bool | int | str
MAGIC = frozenset("*?[")
SAID = "?*"
"""The pattern of every text but the empty one."""


class Constraint(Protocol):
    """On the values of one feature. `other` is always of the same kind: a feature has one."""

    def holds(self, value: Value) -> bool:
        """`value` passes."""
        ...

    def meet(self, other: "Constraint") -> "Constraint | None":
        """What passes both; None if nothing can."""
        ...

    def minus(self, other: "Constraint") -> "tuple[Constraint, ...]":
        """What passes this and not `other`, in parts. Never too little; with patterns it may be too much."""
        ...


@dataclass(frozen=True, slots=True)
class Range:
    """Whole numbers from `low` to `high`, both included; None has no end."""

    low: int = 0
    high: int | None = None

    def holds(self, value: Value) -> bool:
        return isinstance(value, int) and self.low <= value and (self.high is None or value <= self.high)

    def meet(self, other: Constraint) -> "Range | None":
        assert isinstance(other, Range)
        ends = [end for end in (self.high, other.high) if end is not None]
        return _range(max(self.low, other.low), min(ends, default=None))

    def minus(self, other: Constraint) -> "tuple[Range, ...]":
        assert isinstance(other, Range)
        if self.meet(other) is None:
            return (self,)
        below = _range(self.low, other.low - 1)
        above = None if other.high is None else _range(max(self.low, other.high + 1), self.high)
        return tuple(part for part in (below, above) if part is not None)


def _range(low: int, high: int | None) -> Range | None:
    return None if high is not None and high < low else Range(low, high)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a closed set; a flag is one of `{False, True}`."""

    values: frozenset[Value]

    def holds(self, value: Value) -> bool:
        return value in self.values

    def meet(self, other: Constraint) -> "OneOf | None":
        assert isinstance(other, OneOf)
        both = self.values & other.values
        return OneOf(both) if both else None

    def minus(self, other: Constraint) -> "tuple[OneOf, ...]":
        assert isinstance(other, OneOf)
        rest = self.values - other.values
        return (OneOf(rest),) if rest else ()


@dataclass(frozen=True, slots=True)
class Like:
    """A text that each set has a pattern for; `*` stands for anything, `?` for a character, `[ab]` for one of some."""

    sets: tuple[frozenset[str], ...] = ()

    def holds(self, value: Value) -> bool:
        return all(any(fnmatchcase(str(value), pattern) for pattern in patterns) for patterns in self.sets)

    def meet(self, other: Constraint) -> "Like | None":
        assert isinstance(other, Like)
        both = Like((*self.sets, *(patterns for patterns in other.sets if patterns not in self.sets)))
        literal = next((patterns for patterns in both.sets if all(map(is_literal, patterns))), None)
        return both if literal is None or any(map(both.holds, literal)) else None

    def minus(self, other: Constraint) -> "tuple[Like, ...]":
        assert isinstance(other, Like)
        is_within = all("*" in theirs or any(_covers(theirs, ours) for ours in self.sets) for theirs in other.sets)
        return () if is_within else (self,)


def is_literal(pattern: str) -> bool:
    """`pattern` stands for itself alone."""
    return not MAGIC & set(pattern)


def _covers(wider: frozenset[str], narrower: frozenset[str]) -> bool:
    """Whatever is like one of `narrower` is like one of `wider`, as far as that is plain."""
    return all(any(_is_wider(wide, narrow) for wide in wider) for narrow in narrower)


def _is_wider(wide: str, narrow: str) -> bool:
    head = wide.removesuffix("*")
    is_prefix = wide != head and is_literal(head) and narrow.startswith(head)
    is_any = wide == SAID and narrow != "" and not narrow.startswith("*")
    return wide == narrow or is_prefix or is_any or (is_literal(narrow) and fnmatchcase(narrow, wide))


Box: TypeAlias = Mapping[str, Constraint]
"""Constraints by feature; all must hold. A feature that is not named may be anything."""
