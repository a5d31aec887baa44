"""The two ways to the same model that `bench.stack` compares: over HTTP, and straight on an engine in this process."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from bench.http_streams import DEADLINE_S, Run
from bench.work import prompt, sampling
from replicas.engine import Chunk, Engine, Generation


class Side(Protocol):
    """A way to the model."""

    def run(self, streams: int, tokens: int) -> Run:
        """Answer `streams` prompts at once with `tokens` tokens each."""
        ...


class HttpSide:
    """Clients in a process of their own."""

    def __init__(self, clients: "subprocess.Popen[str]") -> None:
        self._clients = clients

    def run(self, streams: int, tokens: int) -> Run:
        """One run. Raises RuntimeError if the clients ended."""
        assert self._clients.stdin is not None
        assert self._clients.stdout is not None
        self._clients.stdin.write(f"{streams} {tokens}\n")
        self._clients.stdin.flush()
        line = self._clients.stdout.readline()
        if not line:
            raise RuntimeError("the clients' process ended; its words are above")
        return Run(**json.loads(line))


class EngineSide:
    """An engine of this process, no Ray and no HTTP."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, streams: int, tokens: int) -> Run:
        """One run. Raises RuntimeError if an answer failed or did not come in time."""
        finals: list[Chunk] = []
        done = threading.Event()

        def sink(chunk: Chunk) -> None:
            if chunk.final is not None:
                finals.append(chunk)
                if len(finals) == streams:
                    done.set()

        began_s = time.perf_counter()
        for stream in range(streams):
            self._engine.submit(Generation(f"bench-{stream}", prompt(stream), sampling(tokens), DEADLINE_S), sink)
        if not done.wait(DEADLINE_S):
            raise RuntimeError(f"{len(finals)} of {streams} answers came within {DEADLINE_S:g} s")
        time_s = time.perf_counter() - began_s
        usages = [chunk.final.usage.generated for chunk in finals if chunk.final is not None and not chunk.final.error]
        if len(usages) < streams:
            raise RuntimeError(f"{streams - len(usages)} of {streams} answers failed: {finals[0].final}")
        return Run(sum(usages), time_s)


@contextmanager
def http_side(url: str) -> Iterator[HttpSide]:
    """Clients of the instance at `url`."""
    command = [sys.executable, "-m", "bench.http_streams", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
        try:
            yield HttpSide(clients)
        finally:
            clients.kill()
