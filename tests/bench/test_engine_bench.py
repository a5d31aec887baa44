"""The arithmetic of `bench.engine`, and its sides on tiny models."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.engine.conversation import Talk, talks
from bench.engine.measures import Figures, decode_tokens_s, figures, medians, percentile
from bench.engine.peer import Peer, PeerMissing, peers
from bench.engine.race import Row, race
from bench.engine.report import Found, table, tree
from bench.engine.side import Place
from bench.engine.stalls import Stall, stall
from bench.engine.work import Answers, Sizes, Work, at_once, poisson, read_answers, read_work, to_line, work
from tests.models import Tiny, tiny_export
from tests.replicas.engines import tiny

SIZES = Sizes(prompt_tokens=12, answer_tokens=6, vocab=280)


def _figures(decode: float, total: float = 1.0) -> Figures:
    return Figures(decode, total, 1.0, 1.0, 1.0, 1.0)


class Steady:
    """A side that needs `step_s` for a token of every stream."""

    def __init__(self, name: str, step_s: float, log: list[str]) -> None:
        self.name = name
        self._step_s = step_s
        self._log = log

    def run(self, work: Work) -> Answers:
        self._log.append(self.name)
        return Answers(tuple(tuple(a + self._step_s * (n + 1) for n in range(work.tokens)) for a in work.arrivals_s))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_least_value_that_enough_are_not_above(values: list[float], part: float) -> None:
    found = percentile(values, part)
    assert found in values
    assert sum(value <= found for value in values) >= part * len(values) - 1e-6
    assert sum(value < found for value in values) < part * len(values)


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_times_count_from_the_arrival_and_gaps_stay_within_a_stream() -> None:
    done = Work(((1,), (2,)), (0.0, 1.0), tokens=3)
    found = figures(done, Answers(((0.5, 0.6, 0.7), (1.25, 1.5, 2.0))))
    assert (found.ttft_p50_ms, found.ttft_p99_ms) == (250.0, 500.0)
    assert found.itl_p99_ms == 500.0
    assert found.total_tokens_s == 3.0


def test_decoding_is_measured_while_the_most_streams_decode() -> None:
    # Both decode from 1.0 to 2.0, in which four tokens come; alone the first one is four times as fast.
    first = (0.5, 0.75, 1.0, 1.5, 2.0)
    second = (1.0, 1.5, 2.0, 3.0, 4.0)
    assert decode_tokens_s((first, second)) == 4.0


def test_a_stream_that_lacks_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\[1\] tokens and not 2"):
        figures(Work(((1,),), (0.0,), 2), Answers(((0.5,),)))


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(0.001, 10), st.integers(0, 1000))
def test_poisson_arrivals_begin_at_once_ascend_and_repeat(streams: int, gap_s: float, seed: int) -> None:
    arrivals = poisson(streams, gap_s, seed)
    assert (len(arrivals), arrivals[0]) == (streams, 0.0)
    assert all(earlier <= later for earlier, later in pairwise(arrivals))
    assert arrivals == poisson(streams, gap_s, seed)


def test_poisson_gaps_have_the_mean_that_was_asked_for() -> None:
    arrivals = poisson(5000, 0.25, seed=1)
    assert arrivals[-1] / 4999 == pytest.approx(0.25, rel=0.05)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(0, 99))
def test_work_and_answers_survive_the_pipe(streams: int, seed: int) -> None:
    task = work(SIZES, at_once(streams), seed)
    assert read_work(to_line(task)) == task
    answers = Answers(tuple((0.25, 1.5) for _ in range(streams)))
    assert read_answers(to_line(answers)) == answers


def test_no_two_runs_have_a_prompt_in_common() -> None:
    prompts = [prompt for seed in range(20) for prompt in work(SIZES, at_once(4), seed).prompts]
    assert len(set(prompts)) == 80


def test_every_side_gets_the_same_work_and_each_begins_a_round() -> None:
    log: list[str] = []

    @contextmanager
    def opened() -> Iterator[list[Steady]]:
        log.append("opened")
        yield [Steady("a", 0.1, log), Steady("b", 0.2, log)]

    rows = race(opened, (1, 2), SIZES, rounds=2)
    assert log == ["opened", *["a", "b"] * 3, "opened", *["b", "a"] * 3]
    assert [(row.arrival, row.streams, row.side) for row in rows[2:4]] == [("at once", 2, "a"), ("at once", 2, "b")]
    assert [round(row.figures.decode_tokens_s) for row in rows[:4]] == [10, 5, 20, 10]


def test_medians_are_taken_of_each_figure() -> None:
    assert medians([_figures(1.0, 9.0), _figures(2.0, 8.0), _figures(9.0, 1.0)]) == _figures(2.0, 8.0)


@pytest.fixture
def found() -> Found:
    rows = [
        Row("at once", 8, "engine", _figures(95.0)),
        Row("at once", 8, "raw loop", _figures(100.0)),
        Row("at once", 8, "llama.cpp", _figures(70.0)),
        Row("Poisson", 8, "engine", _figures(1.0, 50.0)),
        Row("Poisson", 8, "og.Engine", _figures(1.0, 20.0)),
    ]
    conversation = [Talk("no cache", 1500, 900.0, 0, 0), Talk("strict", 1500, 300.0, 900, 20)]
    return Found(
        "tiny", rows, {"og.Generator": "not there"}, conversation, [Stall(4, 4096, 10.0, 25.0, 1.8, 3.0)], True
    )


def test_aims_say_what_was_reached_and_what_was_missed(found: Found) -> None:
    reached = {aim.what: (aim.figure, aim.is_reached) for aim in found.aims()}
    assert reached["decode, engine / raw loop, 8 streams"] == (0.95, True)
    assert reached["decode, engine / llama.cpp, 8 streams"] == (95.0 / 70.0, False)
    assert reached["tokens/s, engine / og.Engine, 8 staggered streams"] == (2.5, True)
    assert reached["TTFT at turn 10, no cache / cache"] == (3.0, False)
    assert reached["ITL p99 while a long prompt is read / without, 4 streams"] == (2.5, False)


def test_a_side_that_is_missing_is_named_with_its_reason(found: Found) -> None:
    assert "og.Generator is missing: not there" in table(found)
    assert tree(found)["missing"] == {"og.Generator": "not there"}


PLACE = Place(tiny().directory, threads=1, streams=3, max_len=64)


@pytest.fixture(scope="module", params=["engine", "raw loop", "og.Generator", "og.Engine"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    peer = Peer(request.param, PLACE)
    yield peer
    peer.close()


def test_a_side_gives_every_stream_all_tokens_after_its_arrival(peer: Peer) -> None:
    for arrivals_s in (at_once(3), (0.0, 0.01, 0.02)):
        task = work(SIZES, arrivals_s, seed=5)
        times_s = peer.run(task).times_s
        assert [len(stream) for stream in times_s] == [SIZES.answer_tokens] * 3
        assert all(stream[0] > arrival for stream, arrival in zip(times_s, arrivals_s, strict=True))
        assert all(earlier <= later for stream in times_s for earlier, later in pairwise(stream))


def test_peers_that_cannot_run_are_left_out_with_their_reason(tmp_path: Path) -> None:
    here = Path(sys.executable)
    nowhere = Place(tmp_path, threads=1, streams=1, max_len=64)
    wanted = {"raw loop": (PLACE, here), "og.Engine": (PLACE, tmp_path / "python"), "engine": (nowhere, here)}
    with peers(wanted, work(SIZES, at_once(2), seed=0)) as (running, missing):
        assert [peer.name for peer in running] == ["raw loop"]
        assert "cannot be run" in missing["og.Engine"]
        assert "genai_config.json cannot be read" in missing["engine"]


def test_a_worker_that_fails_says_why() -> None:
    peer = Peer("raw loop", PLACE)
    with pytest.raises(RuntimeError, match="raw loop: "):
        peer.run(Work(((1, 2),), (0.0,), tokens=500))
    peer.close()
    peer.close()


def test_an_interpreter_without_the_library_is_a_missing_peer() -> None:
    with pytest.raises(PeerMissing, match=r"No module named|cannot open"):
        Peer("llama.cpp", PLACE)


def test_a_conversation_is_had_on_each_kind_of_engine(tmp_path: Path) -> None:
    model = tiny_export(tmp_path / "tiny", Tiny(context_tokens=4096))
    found = {talk.kind: talk for talk in talks(model, threads=1, rounds=1)}
    assert len({talk.prompt_tokens for talk in found.values()}) == 1
    assert found["no cache"].cached_tokens == 0 < found["strict"].cached_tokens
    assert found["strict"].cached_tokens <= found["relaxed"].cached_tokens


def test_running_streams_are_watched_while_a_long_prompt_is_read() -> None:
    found = stall(tiny().directory, threads=1, streams=4, rounds=2, calm_s=0.05, longest=300)
    assert found.prompt_tokens == 300
    assert min(found.calm_ms, found.busy_ms, found.ttft_s) > 0
