"""Money is whole nano-dollars where it is added up: floats would lose cents, and databases compare integers exactly.

A token of the cheapest models costs some tens of them. Fractions are rounded up: never is less counted than was spent.
"""

import math

NANO = 1_000_000_000
MOST_NANO = 2**62


def nano_of(usd: float) -> int:
    """Nano-dollars, rounded up where it is more than a float's error. What is not finite is more than any limit."""
    return math.ceil(round(usd * NANO, 6)) if usd < MOST_NANO / NANO else MOST_NANO


def usd_of(nano: int) -> float:
    """Dollars."""
    return nano / NANO
