"""What a shard asks: one call in, chunks out. In the cluster it goes by Serve handle through the router's policy."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeAlias

from prometheus_client.metrics_core import Metric

from replicas.engine import Chunk
from router.call import Call


class Answerer(Protocol):
    """Answers calls; many at once, all in one event loop."""

    def answer(self, call: Call) -> AsyncIterator[Chunk]:
        """Chunks, the last with a Final. Raises ShoalError. Closing the iterator cancels the call."""
        ...

    def metrics(self) -> list[Metric]:
        """What it has counted so far."""
        ...

    async def close(self) -> None:
        """Let go of what it holds; no call is under way any more."""
        ...


Connect: TypeAlias = Callable[[], Answerer]
"""Makes the answerer where the shard runs, on its running event loop. Crosses processes: a function of a module or a
functools.partial of one, never a closure."""
