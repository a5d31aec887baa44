"""A row that gave way: what it held, until it gets another one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Saved:
    """What a row held, `tokens` long, copied out bit by bit. `content` belongs to the memory that made it."""

    tokens: int
    content: object
