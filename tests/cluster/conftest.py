"""One real instance for all tests here: `shoal up --detach`, the bundled model and some echo pools, `shoal down`. For
those that need none, the command line in this process."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cluster.command import Shell
from tests.models import bundled_export

MODEL = "smollm2-135m-instruct"
SETTINGS = """
http: {port: %d, request_deadline_s: 120, body_limit_bytes: 65536}
models:
  - name: smollm2-135m-instruct
    engine: {slots: 8, queue_limit: 64}
  - name: echo
    replicas: {min: 2, max: 2}
    cpus_per_replica: 0.05
    engine: {kind: echo}
  - name: tiny
    cpus_per_replica: 0.05
    engine: {kind: echo, slots: 1, queue_limit: 1, echo_delay_s: 0.05}
  - name: growing
    replicas: {min: 1, max: 2}
    cpus_per_replica: 0.05
    engine: {kind: echo, slots: 2, queue_limit: 16, echo_delay_s: 0.05}
"""


@dataclass(frozen=True)
class Service:
    """A running instance, and how to talk to it."""

    home: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def shoal(self, *arguments: str, timeout_s: float = 170.0) -> "subprocess.CompletedProcess[str]":
        """Run the real command with this instance's home."""
        return subprocess.run(
            [sys.executable, "-m", "cluster.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment(self.home),
            check=False,
        )

    def engines(self, model: str) -> dict[str, dict[str, object]]:
        """The state of each replica of `model`."""
        pools = httpx.get(f"{self.url}/status", timeout=10).json()["pools"]
        found: dict[str, dict[str, object]] = next(p["replicas"] for p in pools if p["model"] == model)
        return found

    def slots_used(self, model: str) -> int:
        """Over every replica."""
        return sum(int(str(e["slots_used"])) for e in self.engines(model).values())

    def process(self) -> psutil.Process:
        """The process of `shoal up`."""
        record = json.loads((self.home / "run" / str(self.port) / "instance.json").read_text())
        return psutil.Process(record["pid"])

    def worker(self, title: str) -> psutil.Process:
        """A Ray worker of this instance by the beginning of its process title."""
        family = self.process().children(recursive=True)
        return next(p for p in family if " ".join(p.cmdline()).startswith(title))


def environment(home: Path) -> dict[str, str]:
    """The environment of a command that lives in `home`."""
    import os

    return {**os.environ, "SHOAL_HOME": str(home)}


def free_port() -> int:
    """A port nobody listens on, outside the range that the system gives to outgoing connections."""
    for port in range(18200, 18999):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


@pytest.fixture
def shoal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line in this process."""
    return Shell(monkeypatch, capsys)


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for this process, in an empty folder."""
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private home whose models are the real store's."""
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(bundled_export().parent)
    return home


@pytest.fixture(scope="session")
def service(home: Path) -> Iterator[Service]:
    """The instance. After the last test nothing of it may be left."""
    running = Service(home, free_port())
    settings = home / "shoal.yaml"
    settings.write_text(SETTINGS % running.port)
    started = running.shoal("up", "--detach", "--config", str(settings))
    assert started.returncode == 0, started.stderr
    family = [running.process(), *running.process().children(recursive=True)]
    yield running
    ended = running.shoal("down", "--port", str(running.port))
    assert ended.returncode == 0, ended.stderr
    assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
