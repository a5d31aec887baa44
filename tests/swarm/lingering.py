"""An answerer for worker processes: it writes down who calls what, and waits where a file says so."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import Metric

from deployments.replica_metrics import labelled
from replicas.engine import Chunk, Final, Finish, Usage
from router.call import Call

POLL_S = 0.02


@dataclass(frozen=True)
class Lingering:
    """Echoes. A prompt that has a file `hold-PROMPT` in `folder` answers once that is gone."""

    folder: Path

    async def answer(self, call: Call) -> AsyncIterator[Chunk]:
        prompt = call.messages[-1].content
        with (self.folder / "calls").open("a") as calls:
            calls.write(f"{os.getpid()} {prompt}\n")
        yield Chunk(call.id, prompt[:1], 1)
        try:
            await self._held(prompt)
        except (asyncio.CancelledError, GeneratorExit):
            (self.folder / f"gone-{prompt}").touch()
            raise
        yield Chunk(call.id, prompt[1:], 1, Final(Finish.END, Usage(len(prompt), 2)))

    async def _held(self, prompt: str) -> None:
        while (self.folder / f"hold-{prompt}").exists():  # noqa: ASYNC110 (the test is in another process)
            await asyncio.sleep(POLL_S)

    def metrics(self) -> list[Metric]:
        counted = CollectorRegistry()
        Counter("calls", "Calls made here", registry=counted).inc(3)
        Gauge("state", "How it is", registry=counted).set(1)
        return [labelled(family, {}) for family in counted.collect()]

    async def close(self) -> None: ...

    def hold(self, *prompts: str) -> None:
        """From now on `prompts` wait."""
        for prompt in prompts:
            (self.folder / f"hold-{prompt}").touch()

    def let_go(self, *prompts: str) -> None:
        """They wait no more."""
        for prompt in prompts:
            (self.folder / f"hold-{prompt}").unlink()

    def calls(self, prompt: str) -> list[int]:
        """The process ids that called `prompt`, in order."""
        path = self.folder / "calls"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [int(pid) for pid, called in lines if called == prompt]

    def wait_for_call(self, prompt: str, times: int, timeout_s: float = 60.0) -> int:
        """The process id of the call of `prompt` number `times`, once it is made."""
        _wait(lambda: len(self.calls(prompt)) >= times, timeout_s)
        return self.calls(prompt)[times - 1]

    def wait_until_gone(self, prompt: str, timeout_s: float = 60.0) -> None:
        """Return when a held call of `prompt` was given up by its shard."""
        _wait((self.folder / f"gone-{prompt}").exists, timeout_s)


def _wait(is_so: Callable[[], bool], timeout_s: float) -> None:
    ends_at = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < ends_at
        time.sleep(POLL_S)
