"""The HTTP edge over a real socket, without Ray: uvicorn in a thread, replicas in the same process."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import uvicorn
from ray.serve.handle import DeploymentHandle

from deployments.accounts import Accounts
from deployments.answering import Answerer
from deployments.desk import Desk
from deployments.edge import build_app
from deployments.ingress_metrics import IngressMetrics
from deployments.money import Money
from deployments.operations import Operations
from deployments.plan import AppPlan, EnginePlan, HttpPlan, PoolPlan
from deployments.replica_watch import watch
from replicas.echo import EchoConfig, EchoEngine
from replicas.engine import Engine
from router.budget import Budgets
from router.journal.archive import Archive
from router.keys.keyring import Keyring
from router.keys.limiter import Limiter
from router.prices import price_list
from router.store import Entry, Use
from tests.deployments.local_pool import LocalPool

T = TypeVar("T")

ECHO = PoolPlan("echo", Path(), EnginePlan(kind="echo", slots=4, queue_limit=4), context_tokens=8192)
TINY = PoolPlan("tiny", Path(), EnginePlan(kind="echo", slots=1, queue_limit=0), context_tokens=100, aliases=("small",))
PLAN = AppPlan((ECHO, TINY), "echo", HttpPlan(body_limit_bytes=20_000))


def echo(pool: PoolPlan) -> EchoEngine:
    engine = pool.engine
    return EchoEngine(EchoConfig(pool.model, engine.assumed_slots, pool.context_tokens, 100, engine.echo_delay_s))


class Served:
    """A running edge. `pools` are its pools by model; whatever touches them runs on its loop: `on_loop`."""

    def __init__(
        self,
        plan: AppPlan,
        engines: Mapping[str, list[Engine]],
        keyring: Keyring | None = None,
        budgets: Budgets | None = None,
        archive: Archive | None = None,
    ) -> None:
        self.plan = plan
        self._keyring = keyring
        self.budgets = budgets
        self.archive = archive
        self.entries: list[Entry] = []  # what would be written into the ledger
        self.uses: list[Use] = []  # what would be written of the keys' usage
        self.pools: dict[str, LocalPool] = {}
        self._engines = engines
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self._running: Future[tuple[asyncio.AbstractEventLoop, uvicorn.Server]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="edge")
        self._thread.start()
        self.loop, self._server = self._running.result(30)

    def _handle_of(self, plan: PoolPlan) -> DeploymentHandle[object]:
        return self.pools[plan.model].handle()

    def _money(self) -> Money:
        return Money(self.budgets, self.entries.append, price_list().price("claude-haiku-4-5"))

    def on_loop(self, call: Callable[[], T]) -> T:
        """What `call` returns on the loop of the edge."""

        async def run() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        for engines in self._engines.values():
            for engine in engines:
                engine.close()

    async def _serve(self) -> None:
        try:
            for plan in self.plan.pools:
                pool = self.pools[plan.model] = LocalPool(plan.deployment, plan.model, plan.path)
                watch(plan.deployment).announce(frozenset())
                for engine in self._engines[plan.model]:
                    pool.add(engine)
            self.answerer = answerer = Answerer(self.plan, self._handle_of, self._money(), self.archive)
            answerer.start()
            answerer.keep_adapters()
            self.metrics = metrics = IngressMetrics()
            desk = Desk(answerer, metrics, Accounts(Limiter(), self.uses.append))
            app = build_app(desk, Operations(answerer, metrics), keyring=self._keyring)
            config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, timeout_graceful_shutdown=5)
            server = uvicorn.Server(config)
        except BaseException as error:
            self._running.set_exception(error)
            raise
        self._running.set_result((asyncio.get_running_loop(), server))
        await server.serve(sockets=[self._listener])
        await answerer.close()


@contextmanager
def serving(
    plan: AppPlan = PLAN,
    keyring: Keyring | None = None,
    budgets: Budgets | None = None,
    archive: Archive | None = None,
    **engines: list[Engine],
) -> Iterator[Served]:
    """An edge for `plan`; a pool that `engines` does not name has one replica with an echo engine."""
    found = {pool.model: engines.get(pool.model, [echo(pool)]) for pool in plan.pools}
    served = Served(plan, found, keyring, budgets, archive)
    try:
        yield served
    finally:
        served.close()


def slow(pool: PoolPlan = ECHO, delay_s: float = 0.005) -> PoolPlan:
    """The same pool with an engine that takes `delay_s` for a step."""
    return replace(pool, engine=replace(pool.engine, echo_delay_s=delay_s))
