"""Signals, free ports, and what `shoal demo` refuses before it starts anything."""

import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster import cli_demo, instance, up
from cluster.cli import app
from cluster.demo.engines import service_state
from cluster.demo.service import Ended, ended_by_signals, free_port
from replicas.errors import InvalidRequest, Unavailable


def test_the_first_signal_ends_and_the_next_ones_are_ignored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Ended) as ended:
        _signalled_thrice()
    assert ended.value.exit_status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def _signalled_thrice() -> None:
    with ended_by_signals():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)


def test_a_port_with_a_folder_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = iter([45001, 65535, 45002])
    monkeypatch.setattr(instance, "free_port", lambda: next(ports))
    instance.folder(tmp_path, 45001).mkdir(parents=True)
    assert free_port(tmp_path) == 45002


def test_no_free_port_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "free_port", lambda: 65535)
    with pytest.raises(Unavailable, match="free port"):
        free_port(tmp_path)


def test_an_instance_that_nobody_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="shoal up"):
        service_state(f"http://127.0.0.1:{instance.free_port()}")


@pytest.mark.parametrize("arguments", [["--dir", "missing"], ["--report", "no/such/folder/report.md"]])
def test_the_demo_refuses_before_it_starts_anything(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(up, "run_detached", lambda *_: pytest.fail("it started an instance"))
    result = CliRunner().invoke(app, ["demo", *arguments])
    assert isinstance(result.exception, InvalidRequest)
    assert arguments[1] in str(result.exception)
    assert os.listdir(tmp_path) == []


def test_a_report_that_is_there_is_kept_when_the_demo_fails(tmp_path: Path) -> None:
    earlier = tmp_path / "report.md"
    earlier.write_text("from last time")
    arguments = ["demo", "--report", str(earlier), "--port", str(instance.free_port())]
    assert isinstance(CliRunner().invoke(app, arguments).exception, Unavailable)
    assert earlier.read_text() == "from last time"


def test_the_default_report_is_not_committed() -> None:
    ignored = (cli_demo.REPOSITORY / ".gitignore").read_text().splitlines()
    assert f"/{cli_demo.DEFAULT_REPORT}" in ignored
