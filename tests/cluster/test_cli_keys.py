"""`shoal keys`: a secret is shown once and kept nowhere, and what a key may do is shown as it was given."""

import json
from pathlib import Path

import pytest

from router.keys.key import digest_of, read
from router.store import Store, StoreAddress, Use, open_store
from tests.cluster.command import Shell

pytestmark = pytest.mark.usefixtures("empty_home")


def stored(home: Path) -> Store:
    return open_store(StoreAddress.of_file(home / "shoal.sqlite"))


def test_the_printed_key_is_the_one_whose_digest_is_kept(shoal: Shell, empty_home: Path) -> None:
    text = shoal("keys", "create", "crawler").out.strip()
    found = read(text)
    store = stored(empty_home)
    [kept] = store.keys.all()
    store.close()
    assert found == (kept.key.id, found[1] if found else "")
    assert found
    assert digest_of(found[1]) == kept.digest


def test_the_secret_is_in_no_file_and_in_no_later_output(shoal: Shell, empty_home: Path) -> None:
    found = read(shoal("keys", "create", "crawler").out.strip())
    assert found
    listed = shoal("keys", "list").out + shoal("keys", "list", "--json").out
    files = b"".join(path.read_bytes() for path in empty_home.rglob("*") if path.is_file())
    assert found[0].encode() in files
    assert found[1].encode() not in files
    assert found[1] not in listed


def test_a_key_gets_the_scopes_limits_and_weight_that_were_asked_for(shoal: Shell) -> None:
    limits = ["--limit", "requests_per_minute=60", "--limit", "concurrency=4"]
    made = json.loads(shoal("keys", "create", "ops", "--scope", "admin", *limits, "--weight", "2.5", "--json").out)
    [listed] = json.loads(shoal("keys", "list", "--json").out)
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert (listed["scopes"], listed["weight"]) == (["admin"], 2.5)
    assert listed["limits"] == {"requests_per_minute": 60, "tokens_per_minute": None, "concurrency": 4}


def test_a_key_may_do_all_but_administer_unless_told_otherwise(shoal: Shell) -> None:
    made = json.loads(shoal("keys", "create", "agent", "--json").out)
    assert made["scopes"] == ["embeddings", "inference", "sessions", "swarm"]


def test_a_revoked_key_is_listed_as_such(shoal: Shell) -> None:
    id_ = json.loads(shoal("keys", "create", "agent", "--json").out)["id"]
    assert shoal("keys", "revoke", id_).status == 0
    [listed] = json.loads(shoal("keys", "list", "--json").out)
    assert listed["revoked_at"]
    assert "revoked" in shoal("keys", "list").out


def test_usage_is_listed_beside_its_key(shoal: Shell, empty_home: Path) -> None:
    id_ = json.loads(shoal("keys", "create", "agent", "--json").out)["id"]
    store = stored(empty_home)
    store.usage.add([Use(id_, "2026-01-31", "echo", 2, 30, 10, 12)])
    store.close()
    [listed] = json.loads(shoal("keys", "list", "--json").out)
    assert listed["used"] == {"requests": 2, "tokens": 42, "last_day": "2026-01-31"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "x", "--limit", "speed=3"], "concurrency"),
        (["create", "x", "--limit", "concurrency=0"], "at least 1"),
        (["create", "x", "--limit", "concurrency"], "NAME=N"),
        (["revoke", "ghost"], "`shoal keys list` shows the ids"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(shoal: Shell, arguments: list[str], words: str) -> None:
    ended = shoal("keys", *arguments)
    assert ended.status == 1
    assert words in ended.err


def test_the_store_that_the_settings_name_is_used(shoal: Shell, tmp_path: Path, empty_home: Path) -> None:
    Path("shoal.yaml").write_text(f"store: {{url: 'sqlite:///{tmp_path}/other.sqlite'}}")
    assert shoal("keys", "create", "agent").status == 0
    assert (tmp_path / "other.sqlite").exists()
    assert not (empty_home / "shoal.sqlite").exists()


def test_settings_that_hold_a_password_are_refused(shoal: Shell) -> None:
    Path("shoal.yaml").write_text("store: {url: 'postgresql://me:geheim@host/x'}")
    ended = shoal("keys", "list")
    assert ended.status == 1
    assert "store.password_env" in ended.err
    assert "geheim" not in ended.err


def test_a_private_key_is_made_kept_and_shown_as_one(shoal: Shell, empty_home: Path) -> None:
    made = [json.loads(shoal("keys", "create", "k", "--json", *more).out) for more in ((), ("--private",))]
    store = stored(empty_home)
    assert [key["private"] for key in made] == [kept.key.is_private for kept in store.keys.all()] == [False, True]
    store.close()
    assert shoal("keys", "list").out.split().count("private") == 1
