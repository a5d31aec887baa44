"""Adapters over a socket: loaded, asked and unloaded while the service runs, alike on every replica, late ones too."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from deployments.authentication import scope_of
from deployments.plan import AppPlan, EnginePlan, PoolPlan
from replicas.errors import EngineFailed
from replicas.slot import SlotEngine
from router.keys import Scope
from tests.deployments.asking import CHAT, MESSAGES, body, raw_client
from tests.deployments.served import ECHO, Served, serving
from tests.replicas.engines import WAIT_S, slot_engine, tiny
from tests.replicas.peft import random_pairs, write_peft

ADAPTERS = "/v1/adapters"
TOOL = {"name": "weather", "description": "Tell it", "input_schema": {"type": "object", "properties": {}}}
RESULT = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "4 C"}]},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with three adapters beside it: a plain one, one for tools, and one that is none."""
    directory = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(tiny().directory, directory)
    (directory / "adapters").mkdir()
    write_peft(directory / "adapters" / "poet", random_pairs())
    write_peft(directory / "adapters" / "tools", random_pairs(seed=1))
    (directory / "adapters" / "tools" / "adapter.json").write_text('{"purpose": "tools", "format": "chatml"}')
    (directory / "adapters" / "broken").mkdir()
    (directory / "adapters" / "broken" / "adapter_config.json").write_text("{}")
    write_peft(directory / "outside", random_pairs())
    return directory


@pytest.fixture
def engines() -> list[SlotEngine]:
    return [slot_engine(), slot_engine()]


@pytest.fixture
def served(model: Path, engines: list[SlotEngine]) -> Iterator[Served]:
    """Two replicas of the model."""
    pool = PoolPlan("small", model, EnginePlan(slots=4), context_tokens=256)
    with serving(AppPlan((pool, ECHO), "small"), small=[*engines]) as served:
        yield served


def post(served: Served, name: object, **fields: object) -> httpx.Response:
    return httpx.post(served.url + ADAPTERS, json={"name": name, **fields}, timeout=30)


def delete(served: Served, name: str) -> httpx.Response:
    return httpx.delete(f"{served.url}{ADAPTERS}/{name}", timeout=30)


def status(served: Served, model: str) -> int:
    asked = body(model=model, max_tokens=2, temperature=0)
    return httpx.post(served.url + CHAT, json=asked, timeout=30).status_code


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    ends_at_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends_at_s
        time.sleep(0.01)


def test_an_adapter_is_loaded_on_every_replica_asked_and_unloaded(served: Served, engines: list[SlotEngine]) -> None:
    assert status(served, "small:poet") == 404
    loaded = post(served, "poet", model="small")
    assert (loaded.status_code, loaded.json()["replicas"]) == (200, ["replica0", "replica1"])
    assert [engine.stats().adapters for engine in engines] == [("poet",)] * 2
    assert status(served, "small:poet") == 200
    unloaded = delete(served, "poet")
    assert (unloaded.status_code, unloaded.json()["is_loaded"]) == (200, False)
    assert [engine.stats().adapters for engine in engines] == [()] * 2
    assert status(served, "small:poet") == 404


def test_the_list_tells_what_lies_there_and_what_is_loaded(served: Served) -> None:
    post(served, "tools")
    listed = httpx.get(served.url + ADAPTERS, params={"model": "small"}).json()
    assert listed["model"] == "small"
    rows = {row["name"]: row for row in listed["adapters"]}
    assert {name: row["is_loaded"] for name, row in rows.items()} == {"broken": False, "poet": False, "tools": True}
    assert (rows["tools"]["purpose"], rows["tools"]["format"]) == ("tools", "chatml")
    assert rows["tools"]["size_bytes"] > 0


def test_a_replica_that_starts_later_has_what_was_loaded_and_not_what_was_unloaded(served: Served, model: Path) -> None:
    post(served, "poet")
    late = slot_engine()
    late.load_adapter("tools", model / "adapters" / "tools")  # as the plan of its start had it
    served.on_loop(lambda: served.pools["small"].add(late))
    until(lambda: late.stats().adapters == ("poet",))
    late.close()


def test_a_request_that_meets_a_replica_without_the_adapter_is_answered(
    served: Served, engines: list[SlotEngine]
) -> None:
    post(served, "poet")
    for engine in engines:
        engine.unload_adapter("poet")  # as a replica that is not in line yet
    assert status(served, "small:poet") == 200
    assert [engine.stats().adapters for engine in engines] == [("poet",)] * 2


def test_requests_with_tools_go_to_an_adapter_for_tools_as_long_as_it_is_loaded(served: Served) -> None:
    def tokens() -> int:
        asked = body(model="small", tools=[TOOL], messages=RESULT)
        counted = httpx.post(f"{served.url}{MESSAGES}/count_tokens", json=asked, timeout=30)
        return int(counted.json()["input_tokens"])

    by_model = tokens()
    post(served, "tools")
    by_adapter = tokens()
    assert by_adapter != by_model  # the adapter's own layout
    asked = body(model="small", tools=[{"type": "function", "function": {"name": "f"}}], max_tokens=2)
    delete(served, "tools")
    assert tokens() == by_model
    assert httpx.post(served.url + CHAT, json=asked, timeout=30).status_code == 200


def test_an_adapter_in_use_stays_on_every_replica(served: Served, engines: list[SlotEngine]) -> None:
    post(served, "poet")
    with raw_client(served.address) as client:
        client.post(CHAT, body(model="small:poet", max_tokens=200, ignore_eos=True, stream=True))
        client.read_until(b"data: ")
        refused = delete(served, "poet")
        assert refused.status_code == 400
        assert "under way" in refused.json()["error"]["message"]
    assert [engine.stats().adapters for engine in engines] == [("poet",)] * 2
    until(lambda: all(engine.stats().slots_used == 0 for engine in engines))
    assert delete(served, "poet").status_code == 200


def test_what_does_not_load_everywhere_is_loaded_nowhere(
    served: Served, engines: list[SlotEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, path: Path) -> None:
        assert engines[0].stats().adapters == (name,)
        raise EngineFailed(f"no memory for {path}")

    monkeypatch.setattr(engines[1], "load_adapter", full)
    assert post(served, "poet").status_code == 500
    assert [engine.stats().adapters for engine in engines] == [()] * 2
    assert status(served, "small:poet") == 404


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("ghost", 404, "beside the model: broken, poet, tools"),
        ("../outside", 404, "adapter '../outside' does not exist"),
        ("broken", 400, "does not fit the model"),
        ("", 400, "name"),
        (7, 400, "name"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_reason(served: Served, name: object, code: int, words: str) -> None:
    refused = post(served, name)
    assert refused.status_code == code
    assert words in refused.json()["error"]["message"]
    assert str(served.plan.pool("small").path) not in refused.text


def test_what_is_loaded_already_or_not_at_all_is_told(served: Served) -> None:
    post(served, "poet")
    again, missing = post(served, "poet"), delete(served, "tools")
    assert (again.status_code, "unload it first" in again.json()["error"]["message"]) == (400, True)
    assert (missing.status_code, "loaded: poet" in missing.json()["error"]["message"]) == (404, True)


def test_unknown_models_and_engines_without_adapters_are_refused(served: Served) -> None:
    assert [post(served, "poet", model=model).status_code for model in ("ghost", "echo")] == [404, 400]
    assert httpx.get(served.url + ADAPTERS, params={"model": "echo"}).status_code == 400


def test_adapters_are_for_keys_of_operators() -> None:
    assert (scope_of(ADAPTERS), scope_of(f"{ADAPTERS}/poet")) == (Scope.ADMIN, Scope.ADMIN)


def test_a_replica_that_does_not_answer_stops_changes_but_not_the_others_requests(
    served: Served, engines: list[SlotEngine]
) -> None:
    post(served, "poet")
    served.pools["small"].replicas[1].is_stuck = True
    engines[0].unload_adapter("poet")
    assert status(served, "small:poet") == 200
    assert post(served, "tools").status_code == 503
    assert engines[0].stats().adapters == ("poet",)


def test_the_models_list_what_is_loaded_as_long_as_it_is(served: Served) -> None:
    def ids() -> set[str]:
        return {entry["id"] for entry in httpx.get(f"{served.url}/v1/models").json()["data"]}

    assert "small:poet" not in ids()
    post(served, "poet")
    assert {"small", "small:poet", "claude-local-small:poet"} <= ids()
    assert httpx.get(f"{served.url}/v1/models/small:poet").json()["parent"] == "small"
    delete(served, "poet")
    assert "small:poet" not in ids()
    assert httpx.get(f"{served.url}/v1/models/small:poet").status_code == 404


def test_embeddings_with_an_adapter_are_refused_with_the_model_to_ask_for(served: Served) -> None:
    answer = httpx.post(f"{served.url}/v1/embeddings", json={"model": "small:poet", "input": "a"}, timeout=30)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "model")
    assert error["message"] == "model: embeddings have no adapters, so 'poet' cannot be used; ask for 'small'"
