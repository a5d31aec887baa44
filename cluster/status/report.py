"""Asks one instance what it is doing: its record, its own /status, the memory of its processes."""

import time
from dataclasses import dataclass

import httpx
import psutil
from pydantic import TypeAdapter, ValidationError

from cluster import instance
from cluster.connection import admitted
from cluster.environment import credentials
from replicas.engine import EngineStats
from replicas.errors import Unavailable

HTTP_TIMEOUT_S = 5.0
STATS = TypeAdapter(EngineStats)


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One engine of one model, by the id of its replica."""

    model: str
    replica: str
    stats: EngineStats

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other."""
        return self.model, self.replica


@dataclass(frozen=True, slots=True)
class Report:
    """One instance at `taken_s` of the monotonic clock; `service` is what /status says, None if it does not answer."""

    instance: instance.Instance
    service: dict[str, object] | None
    processes: list[dict[str, object]]
    engines: tuple[ReplicaState, ...] = ()
    taken_s: float = 0.0

    def tree(self) -> dict[str, object]:
        """As JSON prints it. `shoal_engine_slots_used` is the sum over every replica."""
        return {
            "url": self.instance.url,
            "port": self.instance.port,
            "pid": self.instance.pid,
            "is_answering": self.service is not None,
            "shoal_engine_slots_used": sum(engine.stats.slots_used for engine in self.engines),
            "service": self.service,
            "processes": self.processes,
        }


def report(found: instance.Instance) -> Report:
    """Ask `found` what it is doing."""
    taken_s = time.monotonic()
    try:
        answer = httpx.get(f"{found.url}/status", timeout=HTTP_TIMEOUT_S, trust_env=False, headers=credentials())
        service = answer.json() if admitted(answer).status_code == httpx.codes.OK else None
        engines = replica_states(service) if service is not None else ()
    except (httpx.HTTPError, ValueError):
        service, engines = None, ()
    return Report(found, service, memory(found), engines, taken_s)


def replica_states(service: dict[str, object]) -> tuple[ReplicaState, ...]:
    """The engines that the body of /status tells of. Raises ValueError if it is not such a body."""
    pools = service.get("pools")
    states: list[ReplicaState] = []
    try:
        for pool in pools if isinstance(pools, list) else []:
            for replica, raw in pool["replicas"].items():
                sizes = [(int(rows), steps) for rows, steps in raw["batch_sizes"].items()]
                stats = STATS.validate_python({**raw, "batch_sizes": tuple(sizes)})
                states.append(ReplicaState(str(pool["model"]), str(replica), stats))
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise ValueError("this is not the status of a Shoal service") from error
    return tuple(states)


def memory(found: instance.Instance) -> list[dict[str, object]]:
    """Every process of an instance with its memory, the largest first.

    `unique_bytes` is what would be freed if it ended (USS); `resident_bytes` counts shared pages too.
    """
    process = found.process()
    if process is None:
        raise Unavailable(f"the instance on port {found.port}")
    rows: list[dict[str, object]] = []
    for member in [process, *process.children(recursive=True)]:
        try:
            usage = member.memory_full_info()
            name = " ".join(member.cmdline())[:60] or member.name()
        except psutil.Error:
            continue
        rows.append({"pid": member.pid, "name": name, "unique_bytes": usage.uss, "resident_bytes": usage.rss})
    return sorted(rows, key=lambda row: -int(str(row["unique_bytes"])))
