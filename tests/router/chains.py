"""For the tests of chains: an event loop whose time is skipped, not waited for, and backends that follow a script."""

import asyncio
import random
import selectors
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from prometheus_client import CollectorRegistry

from replicas.engine import Chunk, Final, Finish, Usage
from replicas.errors import ShoalError
from router.call import Answer
from router.chain.backend import Asked, Link
from router.chain.breaker import Limits
from router.chain.chain import Chain
from router.chain.gate import Gate
from router.chain.run import Run

T = TypeVar("T")
Step: TypeAlias = float | list[Chunk] | ShoalError
"""Seconds to wait, chunks to give, an error to raise."""


class _Skipping(selectors.DefaultSelector):
    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Time passes at once; with nothing to wait for the test would hang for ever."""
        assert timeout is not None, "nothing will ever happen again"
        self.now_s += max(0.0, timeout)
        return super().select(0)


class SkippingLoop(asyncio.SelectorEventLoop):
    """Timers go off in their order, without waiting."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now_s


def skipping(test: Coroutine[object, object, T]) -> T:
    """The result of `test`, run where time is skipped. No task may be left over."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        result = runner.run(test)
        assert not asyncio.all_tasks(runner.get_loop())
        return result


def chunk(text: str = "", tokens: int | None = None, **more: object) -> Chunk:
    """A piece of an answer; `more` are fields of a Chunk."""
    return Chunk("g", text, int(bool(text)) if tokens is None else tokens, **more)  # type: ignore[arg-type]  # fields by name


def end(finish: Finish = Finish.END, error: ShoalError | None = None) -> Chunk:
    """The last chunk."""
    return chunk(final=Final(finish, Usage(3, 2), error=error))


def saying(*texts: str) -> list[Step]:
    """A good answer, one piece a step."""
    return [[], *([chunk(text)] for text in texts), [end()]]


@dataclass
class Scripted:
    """A backend: each `ask` follows the next script, the last one again and again."""

    scripts: list[list[Step]]
    price_usd: float = 0.0
    asks: list[tuple[float, float]] = field(default_factory=list)  # when, and how much time was left
    ended_s: list[float] = field(default_factory=list)
    open: int = 0
    closed_early: int = 0

    async def ask(self, left_s: float) -> AsyncGenerator[list[Chunk], None]:
        """Follow the next script."""
        self.asks.append((asyncio.get_running_loop().time(), left_s))
        self.open += 1
        is_done = False
        try:
            for step in self.scripts[min(len(self.asks), len(self.scripts)) - 1]:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, ShoalError):
                    is_done = True
                    raise step
                else:
                    is_done = bool(step) and step[-1].final is not None
                    yield step
        finally:
            self.ended_s.append(asyncio.get_running_loop().time())
            self.open -= 1
            self.closed_early += not is_done

    def spent_usd(self) -> float:
        """The price of an answer."""
        return self.price_usd


def scripted(of: Link) -> Scripted:
    """The backend of a link."""
    assert isinstance(of.backend, Scripted)
    return of.backend


def link(pool: str, *scripts: list[Step], gate: Gate | None = None, **more: object) -> Link:
    """A link to a scripted backend; `more` are fields of the link."""
    return Link(pool, Scripted(list(scripts)), gate, **more)  # type: ignore[arg-type]  # fields by name


def asks(of: Link) -> list[tuple[float, float]]:
    """When the backend of a link was asked, and what time it had."""
    return scripted(of).asks


def chain(limits: Limits | None = None, registry: CollectorRegistry | None = None) -> Chain:
    """A chain on the running loop's clock."""
    return Chain(registry or CollectorRegistry(), limits, asyncio.get_running_loop().time, random.Random(7))


@dataclass
class Told:
    """What came out of a run: lists as they came, when each did, and the error that ended it."""

    lists: list[list[Chunk]]
    times_s: list[float]
    run: Run
    error: ShoalError | None = None

    @property
    def answer(self) -> Answer:
        """The whole answer."""
        final = self.lists[-1][-1].final
        assert final is not None
        return Answer.of([one for chunks in self.lists for one in chunks], final)

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Pool and reason of each try."""
        return [(tried.pool, tried.reason.value) for tried in self.run.tries]


async def told(asked: Asked, on: Chain | None = None) -> Told:
    """Run `asked` to its end."""
    run = (on or chain()).run(asked)
    found = Told([], [], run)
    try:
        async with aclosing(run.chunks()) as stream:
            async for chunks in stream:
                found.lists.append(chunks)
                found.times_s.append(asyncio.get_running_loop().time())
    except ShoalError as error:
        found.error = error
    return found


def ran(*links: Link, **more: object) -> Told:
    """What comes of a request along `links`, on a chain of its own; `more` are fields of what is asked."""

    async def test() -> Told:
        return await told(Asked(links, **more))  # type: ignore[arg-type]  # fields by name

    return skipping(test())
