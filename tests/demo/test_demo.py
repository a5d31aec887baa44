"""The demo itself, as a command: on a real cluster with the real model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from cluster.environment import shoal_home
from cluster.planning import models_root
from replicas.bundled import ensure_bundled
from replicas.store import ModelStore

pytestmark = pytest.mark.cluster

PROSE = "Herring swim in large shoals near the surface. Each fish watches its neighbours and turns when they turn. "
COMMAND = [sys.executable, "-m", "cluster.cli", "demo"]


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """A home of its own with the real model store; processes that belong to it are known by it."""
    store = models_root(shoal_home())
    ensure_bundled(ModelStore(store))
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(store, target_is_directory=True)
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "herring.txt").write_text(PROSE * 40)
    (texts / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    return {**os.environ, "SHOAL_HOME": str(home)}


def leftovers(home: str) -> list[str]:
    """Processes of the instances under `home`, and what is left of their folders."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SHOAL_HOME") == home and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    run = Path(home, "run")
    return [*found, *(str(path) for path in run.glob("*"))]


def test_the_demo_reports_what_eight_agents_did_and_leaves_nothing_running(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    command = [*COMMAND, "--dir", "texts", "--report", "out.md", "--json"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["agents"], told["failed"]) == (8, 0)
    assert told["batch_max"] > 1
    assert told["usage"]["generated"] >= 8
    assert all(cost > 0 for cost in told["cloud_costs_usd"].values())
    report = (tmp_path / "out.md").read_text()
    assert all(f"herring.txt, part {part} of 8" in report for part in range(1, 9))
    assert "agent  8  done" in done.stderr
    assert leftovers(environment["SHOAL_HOME"]) == []


def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path, environment: Mapping[str, str]) -> None:
    with subprocess.Popen(
        [*COMMAND, "--dir", "texts"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if b"it is up at" in line:
                assert leftovers(environment["SHOAL_HOME"])
                demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 128 + signal.SIGINT
    assert not (tmp_path / "shoal-demo-report.md").exists()
    assert leftovers(environment["SHOAL_HOME"]) == []
