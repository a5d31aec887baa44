"""`shoal up` lets no other machine in by accident, and the commands show the key of their user."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import shoal as shoal_api
from cluster.demo.engines import service_state
from cluster.instance import Instance
from cluster.settings import validated
from cluster.status.report import report
from cluster.up import is_loopback, require_keys
from replicas.errors import Forbidden, SettingsError, Unauthenticated
from router.keys.keyring import Keyring
from router.store import StoreAddress, open_store
from tests.cluster.command import Shell
from tests.deployments.served import Served, serving

OUTSIDE = validated({"http": {"host": "0.0.0.0"}}, "test")


@pytest.fixture
def shoal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capsys)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Served]:
    store = open_store(StoreAddress.of_file(tmp_path / "shoal.sqlite"))
    with serving(keyring=Keyring(store.keys.all)) as served:
        yield served
    store.close()


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [("127.0.0.1", True), ("127.0.0.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_an_address_is_this_machines_own_or_not(host: str, is_ours: bool) -> None:
    assert is_loopback(host) == is_ours


def test_up_refuses_an_open_door_with_both_ways_out(shoal: Shell) -> None:
    Path("shoal.yaml").write_text("http: {host: 0.0.0.0, port: 18097}\nmodels: [{name: echo, engine: {kind: echo}}]")
    ended = shoal("up")
    assert ended.status == 1
    assert "shoal keys create" in ended.err
    assert "--insecure" in ended.err


def test_a_key_is_enough_also_a_revoked_one(shoal: Shell, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        require_keys(OUTSIDE, tmp_path)
    id_ = json.loads(shoal("keys", "create", "agent", "--json").out)["id"]
    require_keys(OUTSIDE, tmp_path)
    shoal("keys", "revoke", id_)
    require_keys(OUTSIDE, tmp_path)  # nobody gets in, so it is no open door


def test_loopback_needs_no_store(tmp_path: Path) -> None:
    require_keys(validated({}, "test"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_commands_show_the_key_of_the_environment(
    shoal: Shell, closed: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shoal("keys", "create", "me").out.strip()
    refused = shoal("run", "hello", "--port", str(closed.address[1]))
    assert (refused.status, "API key" in refused.err) == (1, True)
    monkeypatch.setenv("SHOAL_API_KEY", text)
    answered = shoal("run", "hello", "--port", str(closed.address[1]))
    assert (answered.status, bool(answered.out.strip())) == (0, True)


def test_what_only_an_operator_may_ask_says_which_key_is_needed(shoal: Shell, closed: Served) -> None:
    shoal("keys", "create", "me")
    with pytest.raises(Unauthenticated, match="scope admin in SHOAL_API_KEY"):
        service_state(closed.url)
    with pytest.raises(Unauthenticated, match="scope admin in SHOAL_API_KEY"):
        report(Instance(*closed.address, pid=0, started_s=0.0))


def test_the_python_client_raises_what_the_door_says(shoal: Shell, closed: Served) -> None:
    text = shoal("keys", "create", "me", "--scope", "inference").out.strip()
    with shoal_api.connect(closed.url) as nobody, pytest.raises(Unauthenticated, match="API key is needed"):
        nobody.jobs()
    with shoal_api.connect(closed.url, text) as other, pytest.raises(Forbidden, match="scope swarm"):
        other.jobs()
