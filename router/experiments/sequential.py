"""Do two variants have the same mean? A test that may be looked at after every single answer, and stopped at any time.

It is a bet against the claim that both means are m, one for each m (Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS B 86, 2024): for each variant a capital that starts at 1 and, if the claim is
true, grows by no strategy. Their product is then a non-negative martingale, which by Ville's inequality ever reaches
1/a with a probability of a at most. The least product over all m stays below the one of the true m, so its inverse is
a p-value at any time. Nothing is assumed of the numbers but that they are from 0 to 1, and that each has, given the
past, the mean of its variant; nor of the order in which variants get theirs.

All m are covered by cells, in each of which one bet is made and paid as the worst m of the cell would: the test is
exact, and a little weaker for it. How much is bet follows what they call aGRAPA, with caution.
"""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Arm: TypeAlias = Literal[0, 1]

CELLS = 512
MOST_OF_CAPITAL = 0.5
"""That a bet may lose at most of what there is."""

CAUTION = 0.5
"""Of the bet that would be best if the mean so far were the true one. Whole bets lose on early means what they win: on
rates of 0.5 and 0.6 they took half as long again to find the difference."""

_EDGES: Floats = np.linspace(0.0, 1.0, CELLS + 1)
LOW, HIGH = _EDGES[:-1], _EDGES[1:]


class Bets:
    """The bets on the numbers of one variant: the logarithm of the capital, by cell of m."""

    def __init__(self) -> None:
        self.log_capital: Floats = np.zeros(CELLS)
        self._count = 1
        self._sum = 0.5  # as if one number had been there, in the middle
        self._squares = 0.25

    def add(self, value: float) -> None:
        """Bet by what was seen before, and be paid by `value` (0 to 1)."""
        mean = self._sum / self._count
        gap = np.where(mean > HIGH, mean - HIGH, np.where(mean < LOW, mean - LOW, 0.0))
        stake = CAUTION * gap / (self._squares / self._count + gap * gap)
        stake = np.clip(stake, -MOST_OF_CAPITAL / (1 - LOW), MOST_OF_CAPITAL / HIGH)
        self.log_capital += np.log1p(stake * (value - np.where(gap > 0, HIGH, LOW)))
        self._count += 1
        self._sum += value
        self._squares += (value - self._sum / self._count) ** 2


class SequentialTest:
    """Of two variants, 0 and 1; numbers are added in the order in which they became known."""

    def __init__(self) -> None:
        self._bets = (Bets(), Bets())
        self._most = 0.0  # logarithm of the largest evidence so far

    def add(self, arm: Arm, value: float) -> None:
        """One more number of a variant, from 0 to 1."""
        self._bets[arm].add(value)
        evidence = self._bets[0].log_capital + self._bets[1].log_capital
        self._most = max(self._most, float(evidence.min()))

    @property
    def p_value(self) -> float:
        """That the means are the same can be rejected at this level, now or at any earlier look."""
        return float(np.exp(-self._most))
