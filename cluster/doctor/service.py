"""The port that `up` would take, and the instances that run on this machine."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster import instance
from cluster.doctor.finding import Finding, found, noted
from cluster.settings import Settings
from cluster.status.report import ReplicaState, report
from cluster.up import is_ready

_AREA = "service"


def port(home: Path, settings: Settings) -> Iterator[Finding]:
    """Whether `up` could listen where the settings say."""
    host, number = settings.http.host, settings.http.port
    mine = instance.find(home, number)
    name = f"port {number}"
    if mine is not None:
        yield found(_AREA, name, f"taken by a Shoal instance (process {mine.pid})")
    elif instance.is_port_used(host, number):
        words = f"another program listens on {host}:{number}"
        yield found(_AREA, name, words, "end it, or choose another with --port or `http: {port: N}`")
    else:
        yield found(_AREA, name, "free")


def engines(states: Sequence[ReplicaState]) -> Iterator[Finding]:
    """Engines that are broken, and those that run on a lesser provider than this machine promised."""
    for state in states:
        name = f"{state.model} ({state.replica})"
        if not state.stats.is_healthy:
            words = "runs of the model keep failing; the replica is being replaced"
            yield found(_AREA, name, words, "look at the service's log if this does not pass")
        for provider, reason in state.stats.fallbacks:
            words = f"runs on {state.stats.provider}, because {provider} did not work: {reason}"
            yield noted(_AREA, name, words, f"mend {provider}, or set `provider: {state.stats.provider}` of this model")


def instances(home: Path) -> Iterator[Finding]:
    """Every recorded instance that runs, and whether all its models answer."""
    running = instance.running(home)
    for one in running:
        fix = f"look into {instance.folder(home, one.port) / 'up.log'}; `shoal down --port {one.port}` ends it"
        words = f"process {one.pid} is " + ("ready" if (is_up := is_ready(one.url)) else "not ready")
        yield found(_AREA, one.url, words, "" if is_up else fix)
        yield from engines(report(one).engines)
    if not running:
        yield noted(_AREA, "instances", "none runs")
