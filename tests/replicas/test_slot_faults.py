"""What breaks stays where it is: the requests concerned get a typed error, the others lose nothing but time."""

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from replicas.collect import collect
from replicas.engine import Chunk, Finish, Generation, Sampling
from replicas.errors import EngineFailed, InvalidRequest
from replicas.slot.kv.slab import KvSlab
from replicas.slot.model.forward import Forward
from tests.replicas.engines import Inbox, sampled, slot_engine

GREEDY = sampled(max_tokens=12, ignore_eos=True)
Lengths = list[int]


def _prompt(length: int) -> tuple[int, ...]:
    return tuple(3 + (11 * place + 5 * length) % 270 for place in range(length))


def _request(id_: str, length: int, sampling: Sampling = GREEDY) -> Generation:
    return Generation(id_, _prompt(length), sampling)


def _alone(length: int, sampling: Sampling = GREEDY) -> str:
    engine = slot_engine(1)
    text = collect(engine, _request("alone", length, sampling)).text
    engine.close()
    return text


def test_a_run_that_throws_once_costs_nobody_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    decode, calls = Forward.decode, iter(range(10**6))

    def broken(*args: object) -> object:
        if next(calls) == 3:
            raise RuntimeError("the run broke")
        return decode(*args)  # type: ignore[arg-type]  # passed on as they came

    engine = slot_engine(2)
    monkeypatch.setattr(Forward, "decode", broken)
    inboxes = {20: Inbox(), 33: Inbox()}
    for length, inbox in inboxes.items():
        engine.submit(_request(str(length), length), inbox)
    for length, inbox in inboxes.items():
        assert inbox.final().error is None
        assert inbox.text == _alone(length)
    engine.close()


def test_a_row_that_makes_runs_throw_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Forward.decode

    def broken(self: Forward, row: int, tokens: list[int], lengths: Lengths, *lane: object) -> NDArray[np.float32]:
        if max(lengths) >= 60:
            raise RuntimeError("too long for this kernel")
        return decode(self, row, tokens, lengths, *lane)  # type: ignore[arg-type]  # passed on as they came

    expected = _alone(20)
    monkeypatch.setattr(Forward, "decode", broken)
    engine, bad, good = slot_engine(), Inbox(), Inbox()
    engine.submit(_request("bad", 58), bad)
    engine.submit(_request("good", 20), good)
    assert isinstance(bad.final().error, EngineFailed)
    assert "too long for this kernel" in str(bad.final().error)
    assert good.final().error is None
    assert good.text == expected
    assert engine.is_healthy
    engine.close()


@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_runs_that_keep_throwing_make_the_engine_unhealthy(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    engine = slot_engine()
    with monkeypatch.context() as patched:

        def broken(*args: object) -> object:
            raise RuntimeError("no memory")

        patched.setattr(Forward, "prefill", broken)
        patched.setattr(Forward, kind, broken)
        for number in range(2):
            assert engine.is_healthy
            assert collect(engine, _request(str(number), 20)).final.finish is Finish.ERROR
        assert not engine.is_healthy
    assert collect(engine, _request("after", 20)).final.error is None
    assert engine.is_healthy
    assert engine.stats().slots_used == 0
    engine.close()


def test_a_row_that_is_not_a_number_fails_alone_and_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Forward.decode

    def poisoned(self: Forward, row: int, tokens: list[int], lengths: Lengths, *lane: object) -> NDArray[np.float32]:
        logits = decode(self, row, tokens, lengths, *lane)  # type: ignore[arg-type]  # passed on as they came
        logits[[length >= 60 for length in lengths], 5] = np.nan
        return logits

    expected = _alone(20)
    engine, bad, good = slot_engine(), Inbox(), Inbox()
    with monkeypatch.context() as patched:
        patched.setattr(Forward, "decode", poisoned)
        engine.submit(_request("bad", 58), bad)
        engine.submit(_request("good", 20), good)
        final = bad.final()
        assert isinstance(final.error, EngineFailed)
        assert final.usage.generated == 3
        assert good.final().error is None
        assert good.text == expected
    assert collect(engine, _request("again", 58)).final.usage.cached == 0
    engine.close()


def test_rows_that_cannot_be_trusted_begin_again_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    move, calls = KvSlab.move, iter(range(10**6))
    long_sampling = sampled(max_tokens=99, ignore_eos=True, temperature=1.0, seed=3)

    def broken(self: KvSlab, source: int, target: int, tokens: int) -> None:
        if next(calls) == 0:
            raise RuntimeError("copy failed")
        move(self, source, target, tokens)

    def until_it_has_tokens(chunk: Chunk) -> None:
        long(chunk)
        if len(long.chunks) == 3:
            first.cancel()

    engine, short, long = slot_engine(2), Inbox(), Inbox()
    monkeypatch.setattr(KvSlab, "move", broken)
    first = engine.submit(_request("short", 20, sampled(max_tokens=200, ignore_eos=True)), short)
    short.begun()
    engine.submit(_request("long", 41, long_sampling), until_it_has_tokens)
    assert short.final().error is None
    assert long.final().error is None
    assert (engine.stats().restarts_total, engine.stats().replayed_tokens_total > 0) == (1, True)
    assert long.text == _alone(41, long_sampling)
    engine.close()


def test_a_request_that_breaks_the_rows_twice_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("no room for logits")

    engine = slot_engine(2)
    with monkeypatch.context() as patched:
        patched.setattr("replicas.slot.step.rows.Rows.sort", broken)
        final = collect(engine, _request("one", 20)).final
    assert isinstance(final.error, EngineFailed)
    assert collect(engine, _request("after", 20)).text == _alone(20)
    engine.close()


def test_a_choice_that_breaks_is_its_requests_own_and_no_fault_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> int:
        raise IndexError("no weight is left")

    monkeypatch.setattr("replicas.slot.model.sampler.drawn", broken)
    engine, good, expected = slot_engine(), Inbox(), _alone(20)
    engine.submit(_request("good", 20), good)
    for number in range(3):
        final = collect(engine, _request(str(number), 20, sampled(temperature=0.7))).final
        assert str(final.error) == "the engine failed: no token could be chosen: no weight is left"
    assert (good.final().error, good.text) == (None, expected)
    assert engine.is_healthy
    engine.close()


def test_sampling_that_would_overflow_is_refused_or_greedy() -> None:
    engine = slot_engine()
    with pytest.raises(InvalidRequest, match=r"repetition_penalty must be from 0\.01 to 100"):
        engine.submit(_request("one", 20, sampled(repetition_penalty=1e-40, temperature=0.7)), Inbox())
    cold = sampled(max_tokens=12, ignore_eos=True, temperature=1e-40, top_p=0.9)
    assert collect(engine, _request("two", 20, cold)).text == _alone(20)
    engine.close()


def _not_a_number(kind: str, rows: slice) -> Callable[..., NDArray[np.float32]]:
    """A pass of `Forward` whose results for some rows are NaN."""
    run: Callable[..., NDArray[np.float32]] = getattr(Forward, kind)

    def poisoned(*args: object) -> NDArray[np.float32]:
        logits = run(*args)
        logits[rows] = np.nan
        return logits

    return poisoned


def test_a_model_that_gives_no_numbers_makes_the_engine_unhealthy_until_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = slot_engine(prefill_chunk=16)
    with monkeypatch.context() as patched:
        patched.setattr(Forward, "prefill", _not_a_number("prefill", slice(None)))
        for number in range(2):
            assert engine.is_healthy
            assert isinstance(collect(engine, _request(str(number), 40)).final.error, EngineFailed)
        assert not engine.is_healthy
    assert collect(engine, _request("after", 20)).final.error is None
    assert engine.is_healthy
    engine.close()


def test_one_row_without_numbers_among_good_ones_is_no_fault_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, gate = slot_engine(2), threading.Event()
    good = Inbox(gate)
    engine.submit(_request("good", 20, sampled(max_tokens=200, ignore_eos=True)), good)
    good.begun()
    monkeypatch.setattr(Forward, "decode", _not_a_number("decode", slice(1, None)))
    bad = [Inbox() for _ in range(3)]
    for number, inbox in enumerate(bad):
        engine.submit(_request(str(number), 20), inbox)
    gate.set()
    assert all(isinstance(inbox.final().error, EngineFailed) for inbox in bad)
    assert engine.is_healthy
    assert good.final().error is None
    engine.close()


@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_a_provider_whose_trial_gives_no_numbers_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(Forward, kind, _not_a_number(kind, slice(None)))
    with pytest.raises(EngineFailed, match="cpu: the model's output is not a number"):
        slot_engine()


def test_embeddings_that_are_no_numbers_make_the_engine_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Forward, "embed", _not_a_number("embed", slice(None)))
    engine = slot_engine()
    for number in range(2):
        assert engine.is_healthy
        embedding = replace(_request(str(number), 20), wants_embedding=True)
        assert isinstance(collect(engine, embedding).final.error, EngineFailed)
    assert not engine.is_healthy
    engine.close()


def test_a_requests_own_error_is_no_failure_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*args: object) -> None:
        raise InvalidRequest("the grammar allows nothing to follow here", "regex")

    engine = slot_engine()
    with monkeypatch.context() as patched:
        patched.setattr(Forward, "decode", refused)
        assert isinstance(collect(engine, _request("one", 20)).final.error, InvalidRequest)
    assert engine.is_healthy
    assert [record for record in caplog.records if record.exc_info] == []
    engine.close()
