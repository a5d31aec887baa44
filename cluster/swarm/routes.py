"""The swarm routes of an instance: the HTTP handlers on the cluster's conductor. What the ingress mounts.

    application(plan, functools.partial(swarm_routes, journal_path))

The conductor is made at the first call, and jobs that a stopped instance left in the journal go on then; `wake` in the
process that starts the instance makes it at once.
"""

import contextlib
import functools
from pathlib import Path

import ray
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cluster.swarm.http_api import SwarmApi, answering
from cluster.swarm.ray_conductor import NAME, NAMESPACE, ConductorPlan, RayConductor, conductor_handle
from deployments.answering import connect
from deployments.ingress_metrics import page_of
from deployments.openapi import Documented, Operation
from deployments.openapi.operation import TEXT
from deployments.plan import AppPlan

METRICS = Operation("Metrics of the calls of swarms whose shards have ended, for Prometheus", gives=(TEXT,))


def conductor_plan(journal_path: Path, plan: AppPlan) -> ConductorPlan:
    """The conductor of the instance that `plan` describes, with its journal at `journal_path`."""
    return ConductorPlan(journal_path, functools.partial(connect, plan))


def swarm_routes(journal_path: Path, plan: AppPlan) -> list[Route]:
    """The routes, for an event loop inside the cluster."""
    port = RayConductor(conductor_plan(journal_path, plan))

    async def metrics(_: Request) -> Response:
        return Response(page_of(await port.metrics()), media_type=CONTENT_TYPE_LATEST)

    api = SwarmApi(port, plan.http.body_limit_bytes, plan.http.ping_interval_s)
    return [*api.routes(), Documented("/metrics/swarms", answering(metrics), METRICS)]


def wake(journal_path: Path, plan: AppPlan) -> None:
    """Make the conductor now, in a process that is connected to Ray: jobs of an earlier run go on.

    One that an earlier run left on a Ray cluster of longer life is replaced: it has that run's plan.
    """
    rest()
    conductor_handle(conductor_plan(journal_path, plan))


def rest() -> None:
    """End the conductor and its shards, in a process that is connected to Ray, before Serve shuts down.

    Otherwise replicas drain while open jobs feed them. The jobs stay in the journal; the next `wake` goes on with them.
    """
    with contextlib.suppress(ValueError):  # there is none
        ray.kill(ray.get_actor(NAME, namespace=NAMESPACE))
