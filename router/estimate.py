"""A figure with how sure it is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and the ends of an interval round it; whoever makes it says of which confidence."""

    value: float
    low: float
    high: float
