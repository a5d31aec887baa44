"""What operators ask: is the process up, does a model answer, what is going on, what do the metrics say."""

import asyncio
from dataclasses import asdict

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.answering import Answerer
from deployments.ingress_metrics import IngressMetrics, metrics_page
from replicas.engine import EngineStats

REPLICA_TIMEOUT_S = 2.0


class Operations:
    """Handlers for /health, /ready, /status and /metrics."""

    def __init__(self, answerer: Answerer, metrics: IngressMetrics) -> None:
        self._answerer = answerer
        self._metrics = metrics

    async def health(self, _: Request) -> Response:
        """This process is up."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Every model has a replica that has answered a prompt (it does so before Serve lists it) and responds now."""
        stats = await self._stats()
        missing = sorted(model for model, replicas in stats.items() if not replicas)
        body = {"status": "starting" if missing else "ready", "ready": sorted(stats.keys() - set(missing))}
        return JSONResponse({**body, "waiting_for": missing}, 503 if missing else 200)

    async def status(self, _: Request) -> Response:
        """The state of every engine, and how fast the models of this process were lately."""
        stats = await self._stats()
        pools = [
            {
                "model": pool.model,
                "deployment": pool.deployment,
                "node": pool.node,
                "max_replicas": pool.max_replicas,
                "replicas": {replica: _engine(s) for replica, s in stats[pool.model].items()},
            }
            for pool in self._answerer.plan.pools
        ]
        plan, speeds = self._answerer.plan, self._answerer.policy.speeds.seen
        seen = {name: {"ttft_s": pace.ttft_s, "token_s": pace.token_s} for name, pace in speeds.items()}
        return JSONResponse({"default_model": plan.default_model, "pools": pools, "speeds": seen})

    async def metrics(self, _: Request) -> Response:
        """The Prometheus page of this ingress and of every replica that answers in time."""
        clients = self._answerer.clients.values()
        answers = await asyncio.gather(*(client.metrics(REPLICA_TIMEOUT_S) for client in clients))
        page = metrics_page(
            self._metrics, [*self._answerer.metrics(), *(family for families in answers for family in families)]
        )
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    async def _stats(self) -> dict[str, dict[str, EngineStats]]:
        clients = self._answerer.clients
        answers = await asyncio.gather(*(client.stats(REPLICA_TIMEOUT_S) for client in clients.values()))
        return dict(zip(clients, answers, strict=True))


def _engine(stats: EngineStats) -> dict[str, object]:
    return {**asdict(stats), "batch_sizes": {str(size): steps for size, steps in stats.batch_sizes}}
