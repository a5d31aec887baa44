"""A condition of a rule, kept as alternatives: boxes, one of which must hold. `all` multiplies them, `any` adds them.

Rules that stand one after the other are compared as boxes too: `beyond` is what is left of one after what others take.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from router.policy.constraints import Box, Constraint, Like, OneOf, Range, Value

HEADER = "header:"
"""Before the name of a header, for the feature that it is."""

FLAG = OneOf(frozenset({False, True}))
BUDGETS = ("ok", "low", "spent")
WHOLE: Mapping[str, Constraint] = {
    "private": FLAG,
    "code": FLAG,
    "image": FLAG,
    "budget": OneOf(frozenset(BUDGETS)),
    "tools": Range(),
    "tokens_in": Range(),
    "tokens_out": Range(),
    "minute": Range(0, 24 * 60 - 1),
    "model": Like(),
    "role": Like(),
    "agent": Like(),
    "language": Like(),
}
"""Every feature but headers, with all that it can be."""

MOST_BOXES = 256
"""Alternatives of one condition, and pieces that a comparison may break it into."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds if one of `boxes` does. Without boxes it never holds; with an empty one always."""

    boxes: tuple[Box, ...] = ({},)

    def holds(self, features: Mapping[str, Value]) -> bool:
        """The condition is true of `features`, which has every feature that it names."""
        return any(_holds(box, features) for box in self.boxes)

    @property
    def named(self) -> frozenset[str]:
        """The features that it looks at."""
        return frozenset(name for box in self.boxes for name in box)


ALWAYS = Condition()


def one(name: str, constraint: Constraint) -> Condition:
    """`constraint` on a single feature."""
    return Condition(({name: constraint},))


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Each of them holds. Raises OverflowError past MOST_BOXES alternatives."""
    boxes: list[Box] = [{}]
    for condition in conditions:
        pairs = ((first, second) for first in boxes for second in condition.boxes)
        boxes = bounded([box for box in (meet(*pair) for pair in pairs) if box is not None])
    return Condition(tuple(boxes))


def any_of(conditions: Iterable[Condition]) -> Condition:
    """One of them holds. Raises OverflowError past MOST_BOXES alternatives."""
    return Condition(tuple(bounded([box for condition in conditions for box in condition.boxes])))


def bounded(boxes: list[Box]) -> list[Box]:
    """`boxes`, unless there are too many. Raises OverflowError."""
    if len(boxes) > MOST_BOXES:
        raise OverflowError(f"more than {MOST_BOXES} alternatives")
    return boxes


def meet(first: Box, second: Box) -> Box | None:
    """What is in both; None if nothing can be."""
    both = dict(first)
    for name, constraint in second.items():
        common = both[name].meet(constraint) if name in both else constraint
        if common is None:
            return None
        both[name] = common
    return both


def beyond(boxes: Sequence[Box], taken: Iterable[Box]) -> list[Box]:
    """What of `boxes` none of `taken` holds for. Never too little; raises OverflowError past MOST_BOXES pieces."""
    left = list(boxes)
    for other in taken:
        left = bounded([piece for box in left for piece in _minus(box, other)])
    return left


def _minus(box: Box, other: Box) -> list[Box]:
    if meet(box, other) is None:
        return [box]
    pieces: list[Box] = []
    rest = dict(box)
    for name, constraint in other.items():
        mine = rest.get(name, WHOLE.get(name, Like()))
        pieces += [{**rest, name: part} for part in mine.minus(constraint)]
        rest[name] = mine.meet(constraint) or constraint
    return pieces


def _holds(box: Box, features: Mapping[str, Value]) -> bool:
    return all(constraint.holds(features[name]) for name, constraint in box.items())
