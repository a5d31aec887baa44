"""What this layer adds to the ingress: the routes of swarm jobs."""

from collections.abc import Sequence

from starlette.routing import BaseRoute

from deployments.plan import AppPlan


def mounted_routes(plan: AppPlan) -> Sequence[BaseRoute]:
    """The routes, made inside the ingress."""
    return []
