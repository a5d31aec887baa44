"""A circuit breaker: a pool that keeps failing is left alone for a while, then tried with one request at a time.

    CLOSED --too many failures of late--> OPEN --rest over, one asks--> HALF_OPEN --probes succeed--> CLOSED
                                            ^------------------------------| a probe fails: a longer rest

Who asks takes a `Permit` and says how it went. What a permit of an earlier state reports changes nothing: it tells of
then. A pool that names a time before which it wants no request (retry-after) is paused until then, in any state.
For one event loop; nothing here waits.
"""

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

WINDOW = 256
"""At most so many results are remembered."""


class State(StrEnum):
    """Whether a pool is asked."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Limits:
    """It opens when, of the results of the last `window_s`, at least `failures` and at least the part `ratio` failed.

    The first rest takes `rest_s`, give or take a tenth, each further one without a recovery twice as long, at most
    `rest_cap_s`. So many `probes` must succeed one after another to close it.
    """

    failures: int = 5
    ratio: float = 0.5
    window_s: float = 30.0
    rest_s: float = 5.0
    rest_cap_s: float = 120.0
    probes: int = 2


class Permit:
    """Leave to ask once. `settle` it in any case, or the breaker waits for its probe for ever."""

    def __init__(self, breaker: "Breaker", epoch: int) -> None:
        self._breaker = breaker
        self._epoch = epoch
        self._is_settled = False

    def settle(self, is_ok: bool | None) -> None:
        """How it went: content came, or it failed; None says nothing of the pool. Only the first call counts."""
        if not self._is_settled:
            self._is_settled = True
            self._breaker.settled(self._epoch, is_ok)


class Breaker:
    """The breaker of `pool`. `told` is called with each new state."""

    def __init__(
        self,
        pool: str,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        told: Callable[[str, State], None] = lambda pool, state: None,
    ) -> None:
        self.pool = pool
        self.state = State.CLOSED
        self._limits = limits
        self._clock = clock
        self._chance = chance or random.Random()  # noqa: S311 - spreads rests
        self._told = told
        self._results: deque[tuple[float, bool]] = deque(maxlen=WINDOW)
        self._epoch = 0
        self._rests = 0
        self._opens_s = 0.0  # when an open one may be probed
        self._paused_until_s = 0.0
        self._is_probed = False
        self._probes = 0

    @property
    def is_paused(self) -> bool:
        """The pool asked to be left alone until later."""
        return self._clock() < self._paused_until_s

    @property
    def wait_s(self) -> float:
        """For how long no permit is to be had, by what is known now."""
        rest_s = self._opens_s - self._clock() if self.state is State.OPEN else 0.0
        probing_s = self._limits.rest_s if self.state is State.HALF_OPEN and self._is_probed else 0.0
        return max(0.0, rest_s, probing_s, self._paused_until_s - self._clock())

    def admit(self) -> Permit | None:
        """Leave to ask the pool; None: not now."""
        if self.wait_s > 0:
            return None
        if self.state is State.OPEN:
            self._probes = 0
            self._move(State.HALF_OPEN)
        self._is_probed = self.state is State.HALF_OPEN
        return Permit(self, self._epoch)

    def pause(self, for_s: float) -> None:
        """The pool wants no request for so long."""
        self._paused_until_s = max(self._paused_until_s, self._clock() + for_s)

    def fail(self) -> None:
        """An answer broke that had begun well: a failure, though its permit is settled."""
        if self.state is State.CLOSED:
            self._count(is_ok=False)

    def settled(self, epoch: int, is_ok: bool | None) -> None:
        """The result of a permit that was given in `epoch`."""
        if epoch != self._epoch:
            return
        if self.state is State.HALF_OPEN:
            self._probed(is_ok)
        elif is_ok is not None:
            self._count(is_ok)

    def _probed(self, is_ok: bool | None) -> None:
        self._is_probed = False
        if is_ok is False:
            self._open()
        elif is_ok:
            self._probes += 1
            if self._probes >= self._limits.probes:
                self._rests = 0
                self._results.clear()
                self._move(State.CLOSED)

    def _count(self, is_ok: bool) -> None:
        now_s = self._clock()
        self._results.append((now_s, is_ok))
        while self._results[0][0] < now_s - self._limits.window_s:
            self._results.popleft()
        failures = sum(not ok for _, ok in self._results)
        if failures >= self._limits.failures and failures >= self._limits.ratio * len(self._results):
            self._open()

    def _open(self) -> None:
        rest_s = min(self._limits.rest_cap_s, self._limits.rest_s * 2.0 ** min(self._rests, 32))
        self._opens_s = self._clock() + rest_s * self._chance.uniform(0.9, 1.1)
        self._rests += 1
        self._move(State.OPEN)

    def _move(self, state: State) -> None:
        self.state = state
        self._epoch += 1
        self._is_probed = False
        self._told(self.pool, state)
