"""`Ingress`: the Serve deployment in front. A shell round `edge.build_app`.

It runs in direct ingress mode: the replica's own HTTP server takes the connections, no proxy process copies tokens.
"""

import gc
from collections.abc import Callable, Sequence

from ray import serve
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from deployments.accounts import Accounts
from deployments.answering import Answerer
from deployments.desk import Desk
from deployments.edge import build_app
from deployments.ingress_metrics import IngressMetrics
from deployments.journalling import archive_of
from deployments.money import Money, money_of
from deployments.operations import Operations
from deployments.plan import AppPlan
from deployments.port_reuse import reuse_port
from router.journal.archive import Archive
from router.keys.keyring import Keyring
from router.keys.limiter import Limiter
from router.store import Use, WriteBehind, open_store

RoutesFactory = Callable[[AppPlan], Sequence[BaseRoute]]
"""Makes the routes that a layer above mounts; pickled into the ingress, called on its loop."""


class Ingress:
    """One HTTP front."""

    def __init__(self, plan: AppPlan, extra_routes: RoutesFactory, *pools: object) -> None:
        """`pools` makes Serve start the pools first; the answerer finds them by name."""
        self._plan = plan
        self._extra_routes = extra_routes
        self._uses: WriteBehind[Use] | None = None
        self._money = Money()
        self._archive: Archive | None = None
        reuse_port()  # Serve binds after this

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The application; Serve asks for it after the constructor."""
        metrics = IngressMetrics()
        routes, keyring, accounts = self._extra_routes(self._plan), None, None
        if self._plan.store is not None:
            store = open_store(self._plan.store)
            self._uses = WriteBehind[Use](store.usage.add, metrics.lost.inc)
            keyring, accounts = Keyring(store.keys.all), Accounts(Limiter(), self._uses.put)
            self._money = money_of(self._plan, store, metrics.lost.inc)
            self._archive = archive_of(self._plan, store, metrics.lost.inc)
        answerer = Answerer(self._plan, money=self._money, archive=self._archive)
        answerer.start()
        answerer.keep_adapters()
        app = build_app(Desk(answerer, metrics, accounts), Operations(answerer, metrics), routes, keyring)
        if self._plan.clouds:
            answerer.policy.guard.findings(("",))  # loads what it looks with, which no request should wait for
        keep_for_good()
        return app

    def __del__(self) -> None:
        """Serve calls this when the replica ends in order: what was used is written."""
        if self._uses is not None:
            self._uses.close()
        if self._archive is not None:
            self._archive.close()
        self._money.close()


def keep_for_good() -> None:
    """Take all that there is by now out of the garbage collection: to look through 200,000 objects of Ray's and ours
    stops every stream for a tenth of a second and more, and finds nothing."""
    gc.collect()
    gc.freeze()


def ingress(plan: AppPlan, extra_routes: RoutesFactory, pools: Sequence[serve.Application]) -> serve.Application:
    """The ingress deployment of `plan` in front of `pools`, bound."""
    deployed: serve.Deployment = serve.deployment(
        name="Ingress",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=10_000,  # the desk admits; this bound only must not be the lower one
        graceful_shutdown_timeout_s=10,
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=5,
    )(serve.ingress()(Ingress))
    return deployed.bind(plan, extra_routes, *pools)
