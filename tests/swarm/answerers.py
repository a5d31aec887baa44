"""Answerers for tests: one that is told what to do, and one on a real (echo) engine."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric

from cluster.swarm.spec import SwarmSpec, parse_swarm
from replicas.echo import EchoConfig, EchoEngine
from replicas.engine import Chunk, Final, Finish, Generation, Usage
from replicas.errors import ShoalError
from router.call import Call


@dataclass
class Puppet:
    """Echoes the prompt in two chunks. `failures` are raised first, a gated prompt waits between the chunks."""

    calls: list[Call] = field(default_factory=list)
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    closed: int = 0

    async def answer(self, call: Call) -> AsyncGenerator[Chunk, None]:
        self.calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        prompt = call.messages[-1].content
        half = len(prompt) // 2
        is_whole = False
        try:
            await asyncio.sleep(0)  # as a real one: others get their turn
            yield Chunk(call.id, prompt[:half], 1)
            if self.failures.get(prompt):
                raise self.failures[prompt].pop(0)
            if prompt in self.gates:
                await self.gates[prompt].wait()
            is_whole = True
            yield Chunk(call.id, prompt[half:], 1, Final(Finish.END, Usage(len(prompt), 2)))
        except (asyncio.CancelledError, GeneratorExit):
            if not is_whole:
                self.cancelled.append(prompt)
            raise
        finally:
            self.in_flight -= 1

    def metrics(self) -> list[Metric]:
        return []

    async def close(self) -> None:
        self.closed += 1

    def prompts(self) -> list[str]:
        """What was asked, in order."""
        return [call.messages[-1].content for call in self.calls]

    def connect(self) -> "Puppet":
        """A Connect: every shard gets this one."""
        return self


class EchoAnswerer:
    """A real engine behind the seam, without a cluster."""

    def __init__(self) -> None:
        self._engine = EchoEngine(EchoConfig(slots=4))

    async def answer(self, call: Call) -> AsyncIterator[Chunk]:
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Chunk] = asyncio.Queue()
        request = Generation(call.id, call.messages, call.sampling, call.deadline_s)
        stream = self._engine.submit(request, lambda chunk: _put(loop, chunks, chunk))
        try:
            while True:
                chunk = await chunks.get()
                yield chunk
                if chunk.final is not None:
                    return
        finally:
            stream.cancel()

    def metrics(self) -> list[Metric]:
        return []

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.close)


def _put(loop: asyncio.AbstractEventLoop, chunks: asyncio.Queue[Chunk], chunk: Chunk) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(chunks.put_nowait, chunk)


class Odd(ShoalError):
    """An error that no patience covers."""


def swarm_of(texts: list[str], **fields: object) -> SwarmSpec:
    """One agent over `texts`; its prompt is the text."""
    return parse_swarm({"agents": [{"role": "echo", "prompt": "{text}"}], "over": {"text": texts}, **fields})
