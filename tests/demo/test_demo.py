"""The demo and the guides' code on a real cluster with the real model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.demo.service import free_port
from cluster.environment import shoal_home
from cluster.planning import models_root
from replicas.bundled import ensure_bundled
from replicas.store import ModelStore
from tests.documents import ROOT, blocks

pytestmark = pytest.mark.cluster

PROSE = "Herring swim in large shoals near the surface. Each fish watches its neighbours and turns when they turn. "
SHOAL = [sys.executable, "-m", "cluster.cli"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own with the real model store. Processes that belong to it are known by it."""
    store = models_root(shoal_home())
    ensure_bundled(ModelStore(store))
    place = tmp_path_factory.mktemp("home")
    (place / "models").symlink_to(store, target_is_directory=True)
    return place


@pytest.fixture(scope="module")
def port(home: Path) -> Iterator[int]:
    """The port of an instance for the tests that only use one."""
    number = free_port(home)
    ran([*SHOAL, "up", "--detach", "--port", str(number)], home, home)
    yield number
    ran([*SHOAL, "down", "--port", str(number)], home, home)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder with one text file and a picture."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "herring.txt").write_text(PROSE * 40)
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    return folder


def ran(command: list[str], home: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """`command` run to its end in `folder`."""
    environment = {**os.environ, "SHOAL_HOME": str(home)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


def test_the_demo_reports_what_eight_agents_did(home: Path, port: int, texts: Path, tmp_path: Path) -> None:
    options = ["--dir", str(texts), "--report", "out.md", "--port", str(port), "--json"]
    done = ran([*SHOAL, "demo", *options], home, tmp_path)
    told = json.loads(done.stdout)
    assert (told["agents"], told["failed"]) == (8, 0)
    assert told["batch_max"] > 1
    assert told["usage"]["generated"] >= 8
    assert all(cost > 0 for cost in told["cloud_costs_usd"].values())
    report = (tmp_path / "out.md").read_text()
    assert all(f"herring.txt, part {part} of 8" in report for part in range(1, 9))
    assert all(f"agent  {number}  done" in done.stderr for number in range(1, 9))


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_of_the_guides_runs(block: str, home: Path, port: int) -> None:
    printed = ran([sys.executable, "-c", block.replace("127.0.0.1:8000", f"127.0.0.1:{port}")], home, ROOT).stdout
    assert printed.strip()


def test_the_swarm_file_of_the_guides_runs(home: Path, port: int, tmp_path: Path) -> None:
    (swarm,) = [block for block in blocks("yaml") if "agents:" in block]
    (tmp_path / "swarm.yaml").write_text(swarm)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    printed = ran([*SHOAL, "swarm", "run", "swarm.yaml", "--port", str(port)], home, tmp_path).stdout
    assert "summarizer" in printed


def test_an_interrupted_demo_leaves_nothing_running(texts: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models_root(shoal_home()), target_is_directory=True)
    environment = {**os.environ, "SHOAL_HOME": str(home)}
    command = [*SHOAL, "demo", "--dir", str(texts)]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if b"it is up at" in line:
                assert leftovers(home)
                demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 128 + signal.SIGINT
    assert not (tmp_path / "shoal-demo-report.md").exists()
    assert leftovers(home) == []


def leftovers(home: Path) -> list[str]:
    """Processes of the instances under `home`, and what is left of their folders."""
    found = [str(path) for path in (home / "run").glob("*")]
    for process in psutil.process_iter():
        try:
            if process.environ().get("SHOAL_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
