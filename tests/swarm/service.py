"""The swarm routes on a real socket: uvicorn in a thread, a conductor with shards in process."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from cluster.swarm.answerer import Connect
from cluster.swarm.conductor import Conductor
from cluster.swarm.event import EventBatch
from cluster.swarm.http_api import SwarmApi
from cluster.swarm.job_view import JobView
from cluster.swarm.journal import Journal
from cluster.swarm.launcher import InProcessLauncher
from cluster.swarm.limits import Limits
from cluster.swarm.owner import NOBODY, Owner
from cluster.swarm.spec import SwarmSpec
from replicas.errors import Unavailable

PING_S = 0.05


@dataclass
class Service:
    """A running service. `breaks_after` event batches, reading events fails once; `reading` counts readers there."""

    url: str
    loop: asyncio.AbstractEventLoop
    port: "FaultyPort"

    def call(self, act: Callable[[], None]) -> None:
        """Run `act` on the service's loop."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(act)
        self.loop.call_soon_threadsafe(done.set)
        assert done.wait(10)


@dataclass
class FaultyPort:
    """The conductor, with faults on demand."""

    conductor: Conductor
    breaks: list[int] = field(default_factory=list)
    event_reads: int = 0
    is_down: bool = False

    async def submit(self, job_id: str, spec: SwarmSpec, owner: Owner = NOBODY) -> JobView:
        if self.is_down:
            raise Unavailable("the swarm conductor", "try again")
        return await self.conductor.submit(job_id, spec, owner)

    async def cancel(self, job_id: str) -> JobView:
        return await self.conductor.cancel(job_id)

    async def job(self, job_id: str, wait_s: float = 0.0) -> JobView:
        return await self.conductor.job(job_id, wait_s)

    async def jobs(self) -> list[JobView]:
        return await self.conductor.jobs()

    async def events(self, job_id: str, after: int, wait_s: float) -> EventBatch:
        self.event_reads += 1
        if self.event_reads in self.breaks:
            raise Unavailable("the swarm conductor", "try again")
        return await self.conductor.events(job_id, after, wait_s)


@contextmanager
def serving(
    path: Path, connect: Connect, limits: Limits | None = None, body_limit_bytes: int = 100_000
) -> Iterator[Service]:
    """The routes at a free port."""
    ready: list[Service] = []
    is_up, server = threading.Event(), threading.Event()
    stops: list[Callable[[], None]] = []

    async def serve(listener: socket.socket) -> None:
        conductor = Conductor(Journal(path / "journal"), InProcessLauncher(connect), limits)
        await conductor.start()
        port = FaultyPort(conductor)
        app = Starlette(routes=SwarmApi(port, body_limit_bytes, PING_S).routes())
        config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
        uvicorn_server = uvicorn.Server(config)
        stops.append(lambda: setattr(uvicorn_server, "should_exit", True))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ready.append(Service(url, asyncio.get_running_loop(), port))
        is_up.set()
        await uvicorn_server.serve(sockets=[listener])
        await conductor.close()
        server.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(serve(listener)))
        thread.start()
        assert is_up.wait(20)
        try:
            yield ready[0]
        finally:
            stops[0]()
            thread.join(20)
            assert not thread.is_alive()
