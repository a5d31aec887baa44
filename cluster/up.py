"""`shoal up`, `down`: an instance in the foreground, or detached with the cause of a failed start told."""

import ipaddress
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from cluster import instance
from cluster.environment import apply, serve_environment
from cluster.planning import store_address
from cluster.settings import Settings
from replicas.errors import SettingsError, ShoalError, Unavailable
from router.store import open_store

READY_WAIT_S = 300.0
POLL_S = 0.2
LOG_TAIL_LINES = 25


class NotStarted(ShoalError):
    """The detached process ended with an error of ours; its words are for the user."""


def require_keys(settings: Settings, home: Path) -> None:
    """Raises SettingsError if other machines could use the service without showing a key; Unavailable."""
    host = settings.http.host
    if is_loopback(host):
        return
    store = open_store(store_address(settings, home))
    try:
        has_keys = bool(store.keys.all())
    finally:
        store.close()
    if not has_keys:
        raise SettingsError(
            f"http.host {host} lets other machines in, and there is no API key: `shoal keys create NAME` makes one, "
            "or start with --insecure"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; a name other than localhost may be any address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run_foreground(settings: Settings, home: Path, on_ready: Callable[[instance.Instance], None]) -> None:
    """Serve until a signal comes. Raises SettingsError or Unavailable."""
    host, port = settings.http.host, settings.http.port
    instance.require_free_port(home, host, port)
    internal_port = instance.free_port()
    apply(serve_environment(port, internal_port))
    me = instance.record(home, host, port)
    try:
        from cluster.serving import serve_until_stopped  # late: Ray reads the environment at import

        serve_until_stopped(settings, home, internal_port, lambda: on_ready(me))
    finally:
        instance.forget(home, port, me.pid)


def run_detached(arguments: list[str], home: Path, host: str, port: int) -> instance.Instance:
    """Start `shoal up ARGUMENTS` in its own session; returns when /ready is 200.

    Raises Unavailable with the end of the log if it dies or is not ready in time (then it is ended).
    """
    instance.require_free_port(home, host, port)
    place = instance.folder(home, port)
    place.mkdir(parents=True, exist_ok=True)
    log = place / "up.log"
    with log.open("wb") as sink:
        child = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "cluster.cli", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_ready(child, home, port)
    except BaseException:
        started = instance.find(home, port)
        if started is not None:
            instance.stop(home, started)
        child.kill()
        child.wait()
        raise
    found = instance.find(home, port)
    if found is None:
        raise Unavailable("the service", _tail(log))
    return found


def _wait_ready(child: "subprocess.Popen[bytes]", home: Path, port: int) -> None:
    log = instance.folder(home, port) / "up.log"
    give_up_s = time.monotonic() + READY_WAIT_S
    while time.monotonic() < give_up_s:
        if child.poll() is not None:
            raise ended(child.returncode, log)
        found = instance.find(home, port)
        if found is not None and is_ready(found.url):
            return
        time.sleep(POLL_S)
    raise Unavailable("the service", f"not ready after {READY_WAIT_S:g} s:\n{_tail(log)}")


def is_ready(url: str) -> bool:
    """Whether the instance at `url` says that every model answers."""
    try:
        return httpx.get(f"{url}/ready", timeout=5.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def ended(status: int, log: Path) -> ShoalError:
    """Why a detached `shoal up` ended with `status`: in the words of its own error, or with the end of its `log`."""
    _, mark, words = f"\n{log.read_text('utf-8', errors='replace')}".rpartition("\nerror: ")
    if mark:
        return NotStarted(f"{words.strip()} (log: {log})")
    return Unavailable("the service", f"`shoal up` ended with status {status}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").splitlines()
    return "\n".join([*lines[-LOG_TAIL_LINES:], f"(log: {log})"])
