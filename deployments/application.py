"""The whole Serve application of a plan: pools first, the ingress in front."""

from ray import serve

from deployments.ingress import RoutesFactory, ingress
from deployments.onnx_pool import onnx_pool
from deployments.plan import AppPlan


def application(plan: AppPlan, extra_routes: RoutesFactory) -> serve.Application:
    """What `serve.run` takes."""
    return ingress(plan, extra_routes, [onnx_pool(pool) for pool in plan.pools])
