"""Instances of this machine: records that name a process, ports that somebody has, whole families that end."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster import instance
from replicas.errors import Unavailable

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(0, flush=True)
time.sleep(600)
"""


class Tree:
    """A process that is recorded as an instance, with a child of its own."""

    def __init__(self, home: Path, port: int, code: str = FAMILY) -> None:
        self.parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert self.parent.stdout is not None
        self.child_pid = int(self.parent.stdout.readline())
        started_s = psutil.Process(self.parent.pid).create_time()
        self.instance = instance.Instance("127.0.0.1", port, self.parent.pid, started_s)
        write(home, self.instance)

    def end(self) -> None:
        for pid in (self.child_pid, self.parent.pid):
            if pid and is_running(pid):
                psutil.Process(pid).kill()
        self.parent.wait()
        assert self.parent.stdout is not None
        self.parent.stdout.close()


def is_running(pid: int) -> bool:
    """Zombies do not run: who adopts an orphan may take its time to bury it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def write(home: Path, recorded: instance.Instance) -> None:
    place = instance.folder(home, recorded.port)
    place.mkdir(parents=True, exist_ok=True)
    fields = {"host": recorded.host, "port": recorded.port, "pid": recorded.pid, "started_s": recorded.started_s}
    (place / "instance.json").write_text(json.dumps(fields))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The children of these trees never end by themselves: no use to wait for them."""
    monkeypatch.setattr(instance, "KILL_WAIT_S", 0.5)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(tmp_path, instance.free_port())
    yield tree
    tree.end()


@pytest.fixture
def stranger() -> Iterator[int]:
    """A port that a program which is not ours listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_recorded_instance_is_found_until_it_is_forgotten(tmp_path: Path) -> None:
    recorded = instance.record(tmp_path, "127.0.0.1", 8123)
    assert recorded.pid == os.getpid()
    assert instance.find(tmp_path, 8123) == recorded
    assert instance.running(tmp_path) == [recorded]
    instance.forget(tmp_path, 8123, os.getpid())
    assert instance.find(tmp_path, 8123) is None
    instance.forget(tmp_path, 8123, os.getpid())


def test_a_record_whose_pid_went_to_another_process_is_stale(tmp_path: Path) -> None:
    write(tmp_path, instance.Instance("127.0.0.1", 8123, os.getpid(), started_s=1.0))
    assert instance.find(tmp_path, 8123) is None
    assert not (instance.folder(tmp_path, 8123) / "instance.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 1}', "null"])
def test_a_broken_record_counts_as_none(tmp_path: Path, text: str) -> None:
    place = instance.folder(tmp_path, 8123)
    place.mkdir(parents=True)
    (place / "instance.json").write_text(text)
    assert instance.find(tmp_path, 8123) is None


def test_stopping_ends_the_whole_family(tmp_path: Path, tree: Tree) -> None:
    assert instance.stop(tmp_path, tree.instance) is True
    assert not is_running(tree.instance.pid)
    assert not is_running(tree.child_pid)
    assert instance.find(tmp_path, tree.instance.port) is None


def test_what_does_not_end_when_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "STOP_WAIT_S", 0.05)
    stubborn = Tree(tmp_path, instance.free_port(), STUBBORN)
    assert instance.stop(tmp_path, stubborn.instance) is False
    assert not is_running(stubborn.instance.pid)
    stubborn.end()


def test_stopping_one_leaves_the_others_alone(tmp_path: Path, tree: Tree) -> None:
    other = Tree(tmp_path, instance.free_port())
    instance.stop(tmp_path, other.instance)
    assert instance.running(tmp_path) == [tree.instance]
    assert is_running(tree.child_pid)
    other.end()


def test_stopping_what_has_ended_is_no_error(tmp_path: Path, tree: Tree) -> None:
    tree.end()
    assert instance.stop(tmp_path, tree.instance) is True


def test_a_port_that_an_instance_has_is_told_with_the_way_to_end_it(tmp_path: Path, tree: Tree) -> None:
    port = tree.instance.port
    with pytest.raises(Unavailable, match=rf"process {tree.instance.pid}\) has it: `shoal down --port {port}`"):
        instance.require_free_port(tmp_path, "127.0.0.1", port)


def test_a_port_that_a_stranger_has_is_told_with_the_way_out(tmp_path: Path, stranger: int) -> None:
    with pytest.raises(Unavailable, match="choose another with --port"):
        instance.require_free_port(tmp_path, "127.0.0.1", stranger)


def test_a_free_port_is_free(tmp_path: Path) -> None:
    instance.require_free_port(tmp_path, "127.0.0.1", instance.free_port())


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_instance_that_listens_everywhere_is_reached_by_loopback(host: str) -> None:
    assert instance.Instance(host, 80, 1, 0.0).url == "http://127.0.0.1:80"
