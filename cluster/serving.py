"""`shoal up` in the foreground: starts Ray and the Serve application, waits for a signal, ends both.

Imported only after the environment is set (see `environment.serve_environment`): Ray reads it at import.
"""

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import psutil
import ray
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.schema import ApplicationStatus, LoggingConfig

from cluster import instance
from cluster.planning import plan_of
from cluster.settings import RaySettings, Settings
from cluster.start_failure import told
from cluster.swarm.routes import rest, swarm_routes, wake
from cluster.this_machine import require_possible
from deployments.application import application
from deployments.plan import APP_NAME, AppPlan
from replicas.errors import Unavailable
from replicas.host import Host
from replicas.slot.start.providers import available

logger = logging.getLogger(__name__)

START_WAIT_S = 300.0
POLL_S = 0.25
DRAIN_S = 10.0
NAMESPACE = "shoal"
FAILED = {ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY}


class StopRequest:
    """Set by SIGINT or SIGTERM. Not a threading.Event: setting one in a signal handler deadlocks when two signals
    meet, as they do when a terminal and a supervisor both send one."""

    def __init__(self) -> None:
        self._is_set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def wait(self, timeout_s: float) -> bool:
        """Whether a signal has come, after `timeout_s` at most."""
        if not self._is_set:
            time.sleep(timeout_s)
        return self._is_set

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._is_set = True


def serve_until_stopped(settings: Settings, home: Path, internal_port: int, on_ready: Callable[[], None]) -> None:
    """Run the service until SIGINT or SIGTERM, then end it.

    Raises SettingsError, or Unavailable with the cause if it cannot start within START_WAIT_S.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    stopping = StopRequest()
    has_gpu = "CUDAExecutionProvider" in available()
    plan = plan_of(settings, home, has_gpu=has_gpu)
    if settings.ray.address is None:
        require_possible(plan, available(), Host().usable_cores())
    place = instance.folder(home, settings.http.port)
    try:
        _start_ray(settings.ray, logical_cpus(plan), has_gpu=has_gpu)
        serve.start(
            proxy_location=ProxyLocation.HeadOnly,
            http_options=HTTPOptions(host=settings.http.host, port=internal_port),
            logging_config=LoggingConfig(enable_access_log=False),
        )
        journal = place / "jobs.sqlite"
        target = serve.RunTarget(application(plan, partial(swarm_routes, journal)), name=APP_NAME)
        serve.run_many([target], wait_for_applications_running=False)
        if _wait_until_running(stopping, place):
            wake(journal, plan)
            on_ready()
            while not stopping.wait(POLL_S):
                pass
    finally:
        _stop(is_own_cluster=settings.ray.address is None)


def logical_cpus(plan: AppPlan) -> int:
    """The CPUs that our own cluster of one machine claims to have: enough that every pool can grow to its largest.

    Ray's count is for placing replicas on many machines. Here it could only leave one waiting for ever; how much of the
    processor each takes is a matter of its threads.
    """
    wanted = sum(pool.cpus_per_replica * pool.max_replicas for pool in plan.pools)
    return max(os.cpu_count() or 1, math.ceil(wanted) + 1)


def _start_ray(settings: RaySettings, cpus: int, *, has_gpu: bool) -> None:
    """Join the cluster at `address`, or start one of our own (Ray keeps strangers out by a token)."""
    if settings.address is not None:
        ray.init(address=settings.address, namespace=NAMESPACE, log_to_driver=False)
        return
    ray.init(
        address="local",
        num_cpus=cpus,
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=settings.object_store_bytes,
        resources={"shoal_cpu": 1.0, **({"shoal_gpu": 1.0} if has_gpu else {})},
    )


def _wait_until_running(stopping: StopRequest, place: Path) -> bool:
    """True when every deployment runs, False if asked to stop before. Raises Unavailable with the reason."""
    waited_s = 0.0
    while not stopping.wait(POLL_S):
        status = serve.status().applications.get(APP_NAME)
        if status is not None and status.status is ApplicationStatus.RUNNING:
            return True
        if status is not None and status.status in FAILED:
            causes = [d.message for d in status.deployments.values() if d.message]
            raise told("\n".join(causes) or status.message, place)
        waited_s += POLL_S
        if waited_s > START_WAIT_S:
            raise Unavailable("the service", f"it did not start within {START_WAIT_S:g} s")
    return False


def _drain() -> None:
    """Delete the application and give answers under way DRAIN_S to end."""
    serve.delete(APP_NAME, _blocking=False)
    give_up_s = time.monotonic() + DRAIN_S
    while APP_NAME in serve.status().applications and time.monotonic() < give_up_s:
        time.sleep(POLL_S)


def _stop(*, is_own_cluster: bool) -> None:
    """End the application, then Ray. A failure here must not hide the error that led here."""
    try:
        if ray.is_initialized():
            rest()  # else replicas drain while open jobs feed them
        if ray.is_initialized() and is_own_cluster:
            _drain()  # the rest of Serve ends with the cluster
        elif ray.is_initialized():
            serve.shutdown()  # type: ignore[no-untyped-call]  # of Ray, which has no types there
    except Exception:
        logger.exception("Serve did not shut down cleanly")
    family = psutil.Process().children(recursive=True)
    ray.shutdown()
    instance.end(family, instance.KILL_WAIT_S)  # the port is free when we are gone
