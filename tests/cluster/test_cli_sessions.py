"""`shoal sessions`: saved to a file and loaded again; what cannot be is told in a line and leaves no file behind."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.plan import AppPlan, EnginePlan, PoolPlan
from tests.cluster.command import Shell
from tests.deployments.asking import CHAT
from tests.deployments.served import Served, serving
from tests.replicas.engines import slot_engine, tiny


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    pool = PoolPlan("small", tiny().directory, EnginePlan(slots=4), context_tokens=256)
    with serving(AppPlan((pool,), "small"), small=[slot_engine()]) as served:
        turn = {"role": "user", "content": "the user and the system " * 10}
        body = {"max_tokens": 2, "messages": [turn], "session_id": "mine"}
        assert httpx.post(served.url + CHAT, json=body, timeout=30).status_code == 200
        yield served


def test_a_session_is_saved_and_loaded_under_any_name(served: Served, shoal: Shell, tmp_path: Path) -> None:
    port, file = str(served.address[1]), tmp_path / "talk.kv"
    saved = shoal("sessions", "save", "mine", str(file), "--port", port)
    assert (saved.status, saved.err) == (0, "")
    loaded = shoal("sessions", "load", "a/b c", str(file), "--port", port, "--model", "small", "--json")
    tree = json.loads(loaded.out)
    assert tree["session_id"] == "a/b c"
    assert tree["tokens"] > 32
    assert f"{tree['tokens']} tokens" in shoal("sessions", "load", "x", str(file), "--port", port).out
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["save", "ghost", "f.kv"], "session 'ghost' does not exist"),
        (["save", "mine", "no/such/folder/f.kv"], "cannot write no/such/folder/f.kv"),
        (["save", "mine", "f.kv", "--model", "ghost"], "model 'ghost' does not exist"),
        (["load", "x", "none.kv"], "cannot read none.kv"),
        (["load", "x", "wrong.kv"], "this is not a saved session"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    served: Served, shoal: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.kv").write_bytes(b"no session")
    ended = shoal("sessions", *arguments, "--port", str(served.address[1]))
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert words in ended.err
    assert [file.name for file in tmp_path.iterdir()] == ["wrong.kv"]


def test_without_a_service_the_command_that_starts_one_is_named(shoal: Shell, tmp_path: Path) -> None:
    ended = shoal("sessions", "save", "x", str(tmp_path / "f.kv"), "--port", "1")
    assert (ended.status, "`shoal up --detach --port 1`" in ended.err) == (1, True)
