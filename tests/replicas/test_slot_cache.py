"""The prefix cache: what it saves, what it may never change, and sessions as bytes."""

import hashlib
import json
import struct
from collections.abc import Iterator

import pytest

from replicas.collect import Completed, collect
from replicas.engine import Determinism, Generation, Sampling
from replicas.errors import InvalidRequest, NotFound, SettingsError
from replicas.slot import SlotConfig, SlotEngine
from replicas.slot.kv.blocks import BlockPool
from tests.replicas.engines import sampled, tiny

CACHE_BYTES = 4 << 20
LONG = sampled(max_tokens=40, ignore_eos=True)


def cached_engine(
    determinism: Determinism = "strict", cache_bytes: int = CACHE_BYTES, *, speculation: bool = False
) -> SlotEngine:
    return SlotEngine(
        tiny(),
        SlotConfig(
            slots=4,
            max_len=512,
            threads=1,
            determinism=determinism,
            cache_bytes=cache_bytes,
            speculation=speculation,
        ),
    )


@pytest.fixture
def engine() -> Iterator[SlotEngine]:
    engine = cached_engine()
    yield engine
    engine.close()


def _ids(length: int, seed: int = 5) -> tuple[int, ...]:
    return tuple(3 + (11 * place + seed * place * place) % 270 for place in range(length))


def ask(
    engine: SlotEngine, prompt: tuple[int, ...], sampling: Sampling = LONG, session: str | None = None
) -> Completed:
    return collect(engine, Generation("one", prompt, sampling, session_id=session))


def _fresh(prompt: tuple[int, ...], sampling: Sampling = LONG) -> str:
    engine = cached_engine(cache_bytes=0)
    text = ask(engine, prompt, sampling).text
    engine.close()
    return text


@pytest.mark.parametrize("shared", [31, 32, 33, 64, 95, 96, 130])
def test_a_shared_beginning_is_read_once_and_changes_nothing(engine: SlotEngine, shared: int) -> None:
    head = _ids(shared)
    ask(engine, (*head, 201, *_ids(20, 7)))
    prompt = (*head, 202, *_ids(30, 9))
    answer = ask(engine, prompt)
    assert answer.final.usage.cached == shared // 32 * 32
    assert answer.text == _fresh(prompt)


def test_the_same_prompt_again_leaves_at_least_two_tokens_to_read(engine: SlotEngine) -> None:
    for length in (64, 65, 66):
        prompt = _ids(length, length)
        first = ask(engine, prompt)
        again = ask(engine, prompt)
        assert again.final.usage.cached == (length - 2) // 32 * 32
        assert again.text == first.text == _fresh(prompt)


def _turns(engine: SlotEngine) -> tuple[tuple[int, ...], Completed]:
    """A first turn of 40 tokens answered by 60, and the second one, which repeats both."""
    prompt = _ids(40)
    sampling = sampled(max_tokens=60, ignore_eos=True)
    first = collect(engine, Generation("one", prompt, sampling, top_logprobs=0, session_id="mine"))
    second = (*prompt, *(score.chosen.token for score in first.scores), *_ids(8, 3))
    return second, ask(engine, second)


def test_strict_reads_the_last_answer_again_and_says_so(engine: SlotEngine) -> None:
    prompt, answer = _turns(engine)
    assert answer.final.usage.cached == 32
    assert engine.stats().recomputed_tokens_total == 64
    assert answer.text == _fresh(prompt)


def test_relaxed_goes_on_where_the_last_answer_stopped() -> None:
    engine = cached_engine("relaxed")
    _, answer = _turns(engine)
    assert answer.final.usage.cached == 96
    assert engine.stats().recomputed_tokens_total == 0
    engine.close()


def test_the_cache_stays_within_its_bytes_and_forgets_the_oldest() -> None:
    block_bytes = 32 * tiny().kv_token_bytes
    engine = cached_engine(cache_bytes=4 * block_bytes)
    for seed in range(5, 15):
        ask(engine, _ids(70, seed))
        assert engine.stats().cache_bytes <= engine.stats().cache_limit_bytes
    assert ask(engine, _ids(70, 14)).final.usage.cached == 64
    assert ask(engine, _ids(70, 5)).final.usage.cached == 0
    engine.close()


def test_without_a_cache_nothing_is_kept() -> None:
    engine = cached_engine(cache_bytes=0)
    assert [ask(engine, _ids(70)).final.usage.cached for _ in range(2)] == [0, 0]
    with pytest.raises(SettingsError, match="cache_bytes"):
        engine.export_session("any")
    engine.close()


def test_a_session_moves_to_another_engine(engine: SlotEngine) -> None:
    prompt = _ids(100)
    answer = ask(engine, prompt, session="mine")
    other = cached_engine()
    assert other.import_session(engine.export_session("mine")) == 96
    moved = ask(other, prompt, session="mine")
    assert (moved.final.usage.cached, moved.text) == (96, answer.text)
    other.close()


def test_a_session_that_is_too_large_comes_as_far_as_there_is_room(engine: SlotEngine) -> None:
    prompt = _ids(200)
    answer = ask(engine, prompt, session="mine")
    small = cached_engine(cache_bytes=4 * 32 * tiny().kv_token_bytes)
    assert small.import_session(engine.export_session("mine")) == 96
    moved = ask(small, prompt, session="mine")
    assert (moved.final.usage.cached, moved.text) == (96, answer.text)
    small.close()


def _forged(engine: SlotEngine, prompt: tuple[int, ...]) -> bytes:
    """A saved session of `prompt` whose KV is all zeros, with a checksum that is right."""
    ask(engine, prompt, session="mine")
    data = engine.export_session("mine")
    body = len(data) - 32 - len(prompt) // 32 * 32 * tiny().kv_token_bytes
    content = data[:body] + bytes(len(data) - 32 - body)
    return content + hashlib.sha256(content).digest()


def test_kv_from_outside_serves_its_own_session_alone(engine: SlotEngine) -> None:
    prompt, other = _ids(100), cached_engine()
    other.import_session(_forged(engine, prompt), "attacker")
    assert ask(other, prompt, session="victim").text == ask(other, prompt).text == _fresh(prompt)
    again = cached_engine()
    again.import_session(_forged(engine, prompt), "attacker")
    fooled = ask(again, prompt, session="attacker")
    assert (fooled.final.usage.cached, fooled.text != _fresh(prompt)) == (96, True)
    assert ask(again, prompt, session="victim").text == _fresh(prompt)
    other.close()
    again.close()


def test_a_copy_that_fails_leaves_no_block_that_could_be_found(
    engine: SlotEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, calls = _ids(100), iter(range(10**6))
    store = BlockPool.store

    def failing(self: BlockPool, blocks: list[int], row: int, first: int) -> None:
        if next(calls) == 0:
            raise MemoryError
        store(self, blocks, row, first)

    monkeypatch.setattr(BlockPool, "store", failing)
    assert ask(engine, prompt).text == _fresh(prompt)
    assert ask(engine, prompt).text == _fresh(prompt)


def test_token_ids_that_no_model_has_are_refused(engine: SlotEngine) -> None:
    ask(engine, _ids(100), session="mine")
    data = engine.export_session("mine")
    (length,) = struct.unpack_from("<I", data, 8)
    header = json.loads(data[12 : 12 + length])
    header["tokens"][0] = 2**70
    text = json.dumps(header).encode()
    content = data[:8] + struct.pack("<I", len(text)) + text + data[12 + length : -32]
    with pytest.raises(InvalidRequest, match="header"):
        engine.import_session(content + hashlib.sha256(content).digest())


def test_an_unknown_session_is_not_found(engine: SlotEngine) -> None:
    with pytest.raises(NotFound, match="session"):
        engine.export_session("nobody's")


@pytest.mark.parametrize("place", [0, 9, 40, -40, -1])
def test_a_damaged_session_is_refused(engine: SlotEngine, place: int) -> None:
    ask(engine, _ids(100), session="mine")
    data = bytearray(engine.export_session("mine"))
    data[place] ^= 1
    with pytest.raises(InvalidRequest, match="saved session"):
        engine.import_session(bytes(data))
    for cut in (0, 7, 11, 60, len(data) - 1):
        with pytest.raises(InvalidRequest, match="saved session"):
            engine.import_session(bytes(data[:cut]))


def test_a_session_of_another_kind_of_engine_is_refused(engine: SlotEngine) -> None:
    other = cached_engine("relaxed")
    ask(other, _ids(100), session="mine")
    with pytest.raises(InvalidRequest, match="determinism"):
        engine.import_session(other.export_session("mine"))
    other.close()
