"""`shoal status`: rates are differences of counters, the view names all an engine tells, watching ends cleanly."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import instance
from cluster.status.rates import rates, rates_between
from cluster.status.report import ReplicaState, Report, replica_states
from cluster.status.view import facts, what
from replicas.engine import EngineStats
from tests.cluster.command import Shell
from tests.deployments.asking import CHAT, body
from tests.deployments.served import Served, serving

NEW = EngineStats("m", "slot", "cpu", 16, 3, 2, 1_000_000, 0.25, 4096, 0, 0, 0, ())
BUSY = replace(
    NEW,
    prompt_tokens_total=300,
    cached_tokens_total=100,
    generated_tokens_total=50,
    batch_sizes=((1, 10), (3, 5), (16, 1)),
    threads=2,
    fallbacks=(("CUDA", "no device"),),
    adapters=("tools",),
    prefill_s_total=1.0,
    decode_s_total=0.5,
    cache_bytes=2_000_000,
    cache_limit_bytes=8_000_000,
    recomputed_tokens_total=7,
    preemptions_total=4,
    restarts_total=1,
    replayed_tokens_total=9,
    forced_tokens_total=6,
    draft_tokens_total=40,
    accepted_tokens_total=10,
)
HERE = instance.Instance("127.0.0.1", 1, 1, 0.0)


def report(taken_s: float, **engines: EngineStats) -> Report:
    return Report(HERE, {}, [], tuple(ReplicaState("m", i, stats) for i, stats in engines.items()), taken_s)


def test_rates_are_what_happened_between_two_looks() -> None:
    made = rates(NEW, BUSY, 2.0)
    assert (made.prompt_tokens_s, made.generated_tokens_s) == (200, 25)
    assert (made.cached_ratio, made.accepted_ratio) == (0.25, 0.25)
    assert (made.prefill_ratio, made.decode_ratio) == (0.5, 0.25)
    assert made.rows_per_step == pytest.approx((10 + 15 + 16) / 16)


def test_a_share_of_nothing_is_none() -> None:
    made = rates(BUSY, BUSY, 2.0)
    assert (made.prompt_tokens_s, made.generated_tokens_s) == (0, 0)
    assert (made.cached_ratio, made.accepted_ratio, made.rows_per_step) == (None, None, None)


def test_only_a_replica_that_both_looks_saw_has_rates() -> None:
    before, now = report(10.0, a=NEW, gone=NEW), report(12.0, a=BUSY, new=BUSY)
    assert rates_between([before], [now]) == {("m", "a"): rates(NEW, BUSY, 2.0)}
    assert rates_between([now], [now]) == {}


@given(st.lists(st.tuples(st.integers(1, 1024), st.integers(1, 10**9)), max_size=6, unique_by=lambda pair: pair[0]))
def test_the_state_of_an_engine_survives_json(sizes: list[tuple[int, int]]) -> None:
    stats = replace(BUSY, batch_sizes=tuple(sorted(sizes)))
    raw = {**asdict(stats), "batch_sizes": {str(rows): steps for rows, steps in stats.batch_sizes}}
    body = json.loads(json.dumps({"pools": [{"model": "m", "replicas": {"r": raw}}]}))
    assert replica_states(body) == (ReplicaState("m", "r", stats),)


@pytest.mark.parametrize("pools", [[3], [{"model": "m"}], [{"model": "m", "replicas": {"r": {}}}]])
def test_what_is_no_status_is_said_to_be_none(pools: list[object]) -> None:
    with pytest.raises(ValueError, match="not the status"):
        replica_states({"pools": pools})


def test_everything_that_an_engine_tells_has_a_line() -> None:
    assert dict(facts(BUSY, rates(NEW, BUSY, 2.0))) == {
        "slots": "3 of 16 used, 2 waiting",
        "tokens": "200/s read, 25/s written (400 read, 50 written)",
        "batches": "2.6 rows a step now; steps by rows  1: 10  3-4: 5  9-16: 1",
        "time": "50% on prompts, 25% on answers",
        "KV": "1 MB, 25% used",
        "cache": "2 of 8 MB, 25% of prompt tokens reused (100 in all), 7 made anew",
        "given way": "4 times, 1 restarts, 9 tokens decoded again",
        "guessed": "40 tokens ahead, 25% right",
        "dictated": "6 tokens by grammars",
        "adapters": "tools",
        "not used": "CUDA: no device",
    }


def test_what_never_happened_has_no_line() -> None:
    assert [name for name, _ in facts(NEW, None)] == ["slots", "tokens", "KV"]


def test_an_engine_that_keeps_failing_is_said_to() -> None:
    assert what(BUSY) == "slot engine, on cpu, 4,096 tokens of context, 2 threads, strict"
    assert what(replace(BUSY, is_healthy=False)).endswith("NOT HEALTHY")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """An edge without Ray, recorded as an instance of an empty home."""
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    with serving() as served:
        instance.record(tmp_path, *served.address)
        yield served


def answer_then_interrupt(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While `status --watch` waits the first time an answer is made; the second time comes Ctrl-C."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt
        assert httpx.post(served.url + CHAT, json=body("hello"), timeout=20).status_code == 200

    monkeypatch.setattr(time, "sleep", wait)


def test_watching_as_json_is_a_line_per_look_until_an_interrupt(
    served: Served, shoal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_then_interrupt(served, monkeypatch)
    ended = shoal("status", "--watch", "0.5", "--json")
    assert (ended.status, ended.err) == (0, "")
    [look] = [json.loads(line) for line in ended.out.splitlines()]
    written = {rates["model"]: rates["generated_tokens_s"] for rates in look["rates"]}
    assert written["echo"] > 0
    assert written["tiny"] == 0
    assert look["instances"][0]["is_answering"] is True


def test_watching_shows_every_engine_and_ends_cleanly(
    served: Served, shoal: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_then_interrupt(served, monkeypatch)
    ended = shoal("status", "--watch")
    assert (ended.status, ended.err) == (0, "")
    assert "echo engine" in ended.out
    assert "/s written" in ended.out


def test_watching_without_an_instance_ends_with_status_1(
    shoal: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    assert shoal("status", "--watch").status == 1
