"""A figure held against what was to be reached; a benchmark has one for each claim that it bears out."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Aim:
    """What was to be reached. `is_ceiling`: less is better."""

    what: str
    figure: float
    aim: float
    is_ceiling: bool = False

    @property
    def is_reached(self) -> bool:
        return self.figure <= self.aim if self.is_ceiling else self.figure >= self.aim

    def __str__(self) -> str:
        bound = "at most" if self.is_ceiling else "at least"
        return (
            f"{self.what}: {self.figure:.3g}, aim {bound} {self.aim:.3g}: {'reached' if self.is_reached else 'MISSED'}"
        )


def tree(aims: Iterable[Aim]) -> list[dict[str, object]]:
    """As JSON keeps them."""
    return [{**asdict(aim), "is_reached": aim.is_reached} for aim in aims]
