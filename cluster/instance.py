"""Running instances of this machine: one folder per port under HOME/run, with a record and a log.

The record names the process of `shoal up` by pid and start time, so that a stale record never ends a stranger.
"""

import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from replicas.errors import Unavailable

STOP_WAIT_S = 40.0
KILL_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Instance:
    """A running `shoal up`."""

    host: str
    port: int
    pid: int
    started_s: float

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{'127.0.0.1' if self.host in ('0.0.0.0', '::') else self.host}:{self.port}"  # noqa: S104 - compared, not bound

    def process(self) -> psutil.Process | None:
        """Its process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started_s) < 2.0
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def folder(home: Path, port: int) -> Path:
    """Where the instance on `port` keeps its record, log and journal."""
    return home / "run" / str(port)


def record(home: Path, host: str, port: int) -> Instance:
    """Write down that this process is the instance on `port`."""
    process = psutil.Process()
    instance = Instance(host, port, process.pid, process.create_time())
    place = folder(home, port)
    place.mkdir(parents=True, exist_ok=True)
    draft = place / "instance.json.part"
    draft.write_text(json.dumps(asdict(instance)))
    draft.replace(place / "instance.json")
    return instance


def forget(home: Path, port: int, pid: int) -> None:
    """Remove the record of the instance on `port`, if it is that of process `pid`: two may have raced for the port."""
    path = folder(home, port) / "instance.json"
    with suppress(FileNotFoundError, ValueError, KeyError):
        if json.loads(path.read_text())["pid"] == pid:
            path.unlink(missing_ok=True)


def find(home: Path, port: int) -> Instance | None:
    """The running instance on `port`; a stale record is removed."""
    path = folder(home, port) / "instance.json"
    try:
        instance = Instance(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if instance.process() is None:
        path.unlink(missing_ok=True)
        return None
    return instance


def running(home: Path) -> list[Instance]:
    """Every running instance, by port."""
    ports = sorted(int(p.name) for p in (home / "run").glob("*") if p.name.isdigit())
    return [instance for port in ports if (instance := find(home, port)) is not None]


def stop(home: Path, instance: Instance) -> bool:
    """End `instance` and everything it started. True if it ended by itself when asked, False if it had to be killed."""
    process = instance.process()
    if process is None:
        return True
    family = process.children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs([process], timeout=STOP_WAIT_S)
    end([*alive, *family], 0.0 if alive else KILL_WAIT_S)
    give_up_s = time.monotonic() + KILL_WAIT_S
    while is_port_used(instance.host, instance.port) and time.monotonic() < give_up_s:
        time.sleep(0.1)  # a worker that Ray started while it was ending
    forget(home, instance.port, instance.pid)
    return not alive


def end(processes: Sequence[psutil.Process], wait_s: float) -> None:
    """Give `processes` `wait_s` to end by themselves, then kill the rest and see them gone."""
    _, stragglers = psutil.wait_procs(processes, timeout=wait_s)
    for straggler in stragglers:
        with suppress(psutil.NoSuchProcess):
            straggler.kill()
    psutil.wait_procs(stragglers, timeout=KILL_WAIT_S)


def require_free_port(home: Path, host: str, port: int) -> None:
    """Raises Unavailable if somebody else listens on `port`, saying who if we know."""
    instance = find(home, port)
    if instance is not None:
        raise Unavailable(
            f"port {port}", f"a Shoal instance (process {instance.pid}) has it: `shoal down --port {port}` ends it"
        )
    if is_port_used(host, port):
        raise Unavailable(f"{host}:{port}", "another program listens there; choose another with --port")


def is_port_used(host: str, port: int) -> bool:
    """Whether somebody listens there, or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
