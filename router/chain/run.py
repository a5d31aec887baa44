"""One request's way along its chain: starts lanes, hedges, and gives what the winner says.

    admitted -> an empty list, and one every `ping_s` of silence -> the winner's chunks -> its Final
    nobody answers -> the first of the rejected, without its gate -> else the error that helps the caller most

Lanes run as tasks, so that an answer can be waited for while another is asked; they put what goes out into one box.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import replace

from replicas.engine import Chunk, Final
from replicas.errors import DeadlineExceeded, ShoalError
from router.chain.backend import Asked
from router.chain.failure import failed
from router.chain.lane import Lane, Race
from router.chain.metrics import By, ChainMetrics
from router.chain.tried import Tried, verdict

logger = logging.getLogger(__name__)

CLOSE_WAIT_S = 5.0
"""For backends to close when their answer is not wanted; slower ones are left to themselves."""

CLOCK_S = 0.02
"""Timers may go off so much before the clock says that it is time."""


class Run:
    """One request. `tries` are all that were made, in the order of their ends."""

    def __init__(self, asked: Asked, race: Race, metrics: ChainMetrics) -> None:
        self._asked = asked
        self._race = race
        self._metrics = metrics
        self._clock: Callable[[], float] = race.clock
        self._lanes: dict[asyncio.Task[None], Lane] = {}
        self._losers: list[asyncio.Task[None]] = []
        self._hedges_at_s = float("inf")
        self.is_degraded = False
        """The answer is one that a gate had kept back: it is what there was."""

    @property
    def tries(self) -> list[Tried]:
        """What was tried, and how it ended."""
        return self._race.tries

    @property
    def answered_by(self) -> str | None:
        """The pool whose answer goes out; None before its first content."""
        winner = self._race.winner
        return winner.link.pool if winner is not None and winner.link is not None else None

    async def chunks(self) -> AsyncGenerator[list[Chunk], None]:
        """The answer; a list with a `Final` is the last in any case. Raises ShoalErrors. Closing it early, or
        cancelling whoever reads it, gives up all that is under way. Once only."""
        by: By = "left"
        ping_at_s = 0.0
        if self._asked.hedge_after_s is not None:
            self._hedges_at_s = self._clock() + self._asked.hedge_after_s
        self._start_lane()
        try:
            while True:
                chunks = await self._next(ping_at_s)
                if not chunks:
                    self._look()
                    if not self._race.is_admitted or self._clock() < ping_at_s:
                        continue
                self._stop_losers()
                final = chunks[-1].final if chunks else None
                by = by if final is None else self._by(final)
                yield chunks
                if final is not None:
                    return
                ping_at_s = self._clock() + self._asked.ping_s
        except ShoalError:
            by = "nobody" if self._race.winner is None else "broken"
            raise
        finally:
            self._metrics.answers.labels(by).inc()
            await self._close()

    async def _next(self, ping_at_s: float) -> list[Chunk]:
        """What comes next; an empty list when it is time to look after things."""
        box = self._race.box
        if not box.empty():
            return box.get_nowait()
        if any(task.done() for task in self._lanes):
            return []  # it ended while the box was full of what came before
        until_s = min(ping_at_s if self._race.is_admitted else float("inf"), self._hedges_at_s)
        wait_s = None if until_s == float("inf") else max(0.0, until_s - self._clock())
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                return await box.get()
        return []

    def _look(self) -> None:
        """See to lanes that have ended, and to the hedge. Raises what the request ends with, if it does."""
        race = self._race
        if not race.box.empty():
            return
        for task in [task for task in self._lanes if task.done()]:
            del self._lanes[task]
            if (broken := task.exception()) is not None:
                raise self._worded(broken)
        if not self._lanes:
            self._start_last_resort()
        elif self._clock() >= self._hedges_at_s:
            self._hedges_at_s = float("inf")
            if race.winner is None and race.links:
                self._metrics.hedges.inc()
                self._start_lane()

    def _start_lane(self) -> None:
        lane = Lane(self._race)
        task = asyncio.get_running_loop().create_task(lane.run())
        task.add_done_callback(lambda _: self._race.wake())
        self._lanes[task] = lane

    def _start_last_resort(self) -> None:
        """Nobody has answered: ask again for what was rejected. Raises if there is nothing."""
        race = self._race
        if race.left_s <= CLOCK_S:
            raise DeadlineExceeded(self._asked.deadline_s)
        if not (self._asked.serves_rejected and race.rejected) or self.is_degraded:
            raise verdict(race.tries)
        self.is_degraded = True
        race.links.append(replace(race.rejected[0], gate=None))
        self._start_lane()

    def _stop_losers(self) -> None:
        """Give up the lanes that can answer no more."""
        if self._race.winner is not None and len(self._lanes) > 1:
            for task in [task for task, lane in self._lanes.items() if lane is not self._race.winner]:
                del self._lanes[task]
                task.cancel()
                self._losers.append(task)

    def _worded(self, error: BaseException) -> BaseException:
        """Time that is up is the time that the caller gave, not what of it was left for the last try."""
        is_over = isinstance(error, DeadlineExceeded) and self._race.left_s <= CLOCK_S
        return DeadlineExceeded(self._asked.deadline_s) if is_over else error

    def _by(self, final: Final) -> By:
        winner = self._race.winner
        if failed(final) is not None:
            return "broken"
        if self.is_degraded:
            return "below_bar"
        return "first" if winner is not None and winner.link is self._asked.links[0] else "other"

    async def _close(self) -> None:
        tasks = [*self._lanes, *self._losers]
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        done, late = await asyncio.wait(tasks, timeout=CLOSE_WAIT_S)
        bugs = [task.exception() for task in done if not task.cancelled()]
        for bug in bugs:
            if bug is not None and not isinstance(bug, ShoalError):
                logger.error("an answer that was given up ended in a bug", exc_info=bug)
        if late:
            logger.warning("%d backends did not close within %g s", len(late), CLOSE_WAIT_S)
