"""Forward passes to the last bit: neighbours, rows, masks, cuts and moves do not show."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.export import Export
from replicas.gguf.export import export
from replicas.slot.kv.slab import KvSlab
from replicas.slot.model.forward import MAX_VERIFIED, Forward, longest_chunk
from replicas.slot.model.graph import engine_graph, load_graph
from replicas.slot.place import CPU
from replicas.slot.request.lane import Lane
from replicas.slot.start.providers import open_session
from tests.models import tiny_gguf, tiny_longrope_export
from tests.replicas.engines import tiny
from tests.replicas.passes import BLOCK, PROMPT, Logits, chunks, decoded_alone_and_together, opened, prefilled
from tests.replicas.reference import Reference

SWITCH_TOKENS = 48
LONG = Lane(is_long=True)


@pytest.fixture(scope="module")
def forward() -> Iterator[Forward]:
    forward = opened(tiny())
    yield forward
    forward.close()


@pytest.fixture(scope="module")
def longrope(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forward]:
    folder = tiny_longrope_export(tmp_path_factory.mktemp("longrope") / "tiny", SWITCH_TOKENS)
    forward = opened(Export.load(folder), max_len=200)
    yield forward
    forward.close()


@given(st.integers(1, 300), st.lists(st.integers(2, 70), min_size=1, max_size=5))
def test_no_chunk_is_one_token_unless_the_prompt_is(tokens: int, budgets: list[int]) -> None:
    cuts = chunks(tokens, budgets)
    assert sum(cuts) == tokens
    assert (min(cuts) >= 2) == (tokens > 1)
    assert all(cut <= max(budgets) + 1 for cut in cuts)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(2, BLOCK), min_size=1, max_size=4), st.integers(0, 3))
def test_how_a_prompt_is_cut_does_not_show(forward: Forward, budgets: list[int], row: int) -> None:
    whole = prefilled(forward, 0, PROMPT, [BLOCK, BLOCK, 70 - 2 * BLOCK])
    following = forward.decode(0, [9], [70])[0].copy()
    assert np.array_equal(prefilled(forward, row, PROMPT, chunks(70, budgets)), whole)
    tokens, lengths = [9] * (row + 1), [70] * (row + 1)
    assert np.array_equal(forward.decode(0, tokens, lengths)[row], following)


def test_every_cut_in_two_gives_the_same_bits(forward: Forward) -> None:
    prompt = PROMPT[:BLOCK]
    whole = prefilled(forward, 0, prompt, [BLOCK])
    cuts = range(2, BLOCK - 1)
    assert all(np.array_equal(prefilled(forward, 0, prompt, [cut, BLOCK - cut]), whole) for cut in cuts)


def test_a_chunk_beyond_a_block_shows(forward: Forward) -> None:
    # Why chunks are bounded. If this fails onnxruntime has changed for the better, and the bound can go.
    prompt = PROMPT[: BLOCK + 1]
    bounded = prefilled(forward, 0, prompt, [BLOCK - 1, 2])
    assert not np.array_equal(prefilled(forward, 0, prompt, [BLOCK + 1]), bounded)


def test_chunks_stay_within_a_block_of_queries() -> None:
    assert [longest_chunk(head_size) for head_size in (16, 64, 96, 128, 256)] == [32, 128, 85, 64, 32]


def test_neighbours_and_the_length_of_the_mask_do_not_show(forward: Forward) -> None:
    alone, together = decoded_alone_and_together(forward, [70, 3, 40, 2])
    assert all(np.array_equal(one, row) for one, row in zip(alone, together, strict=True))


def test_a_range_of_rows_decodes_as_it_does_among_all(forward: Forward) -> None:
    lengths = [70, 3, 40, 20]
    _, together = decoded_alone_and_together(forward, lengths)
    all_rows = together.copy()
    assert np.array_equal(forward.decode(1, [11, 11], lengths[1:3]), all_rows[1:3])
    assert np.array_equal(forward.decode(3, [11], lengths[3:]), all_rows[3:])


def test_the_size_of_the_slab_does_not_show(forward: Forward) -> None:
    large = opened(tiny(), slots=2, max_len=500)
    assert np.array_equal(prefilled(large, 1, PROMPT, [32, 38]), prefilled(forward, 1, PROMPT, [30, 40]))


def test_a_pass_that_gives_its_memory_back_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, forward: Forward
) -> None:
    kept = prefilled(forward, 0, PROMPT, [BLOCK, BLOCK, 70 - 2 * BLOCK])
    monkeypatch.setattr("replicas.slot.model.forward.LARGE_PASS", 1)
    assert np.array_equal(prefilled(forward, 1, PROMPT, [BLOCK, BLOCK, 70 - 2 * BLOCK]), kept)


def test_a_moved_row_goes_on_as_before() -> None:
    slab = KvSlab(tiny(), 4, 128, CPU)
    forward = Forward(open_session(tiny(), CPU, 1, is_spinning=False), tiny(), slab, 4, 128)
    prefilled(forward, 0, PROMPT, [70])
    expected = forward.decode(0, [9], [70])[0].copy()
    prefilled(forward, 3, PROMPT, [70])
    prefilled(forward, 0, PROMPT[:5], [5])
    slab.move(3, 0, 70)
    assert np.array_equal(forward.decode(0, [9], [70])[0], expected)


def test_rows_in_device_memory_move_by_the_graph() -> None:
    # The path of a GPU, with the CPU as its device: buffers of onnxruntime, moves by Identity nodes.
    slab = KvSlab(tiny(), 3, 128, replace(CPU, is_host=False))
    device = Forward(open_session(tiny(), CPU, 1, is_spinning=False), tiny(), slab, 3, 128)
    expected = prefilled(device, 0, PROMPT, [70])
    following = device.decode(0, [9], [70])[0].copy()
    assert np.array_equal(prefilled(device, 2, PROMPT, [70]), expected)
    prefilled(device, 0, PROMPT[:5], [5])
    slab.move(2, 0, 70)
    assert np.array_equal(device.decode(0, [9], [70])[0], following)


@pytest.mark.parametrize("count", [2, 3, 15, 16])
def test_verified_tokens_get_the_logits_of_a_prefill_that_ends_there(forward: Forward, count: int) -> None:
    prefilled(forward, 0, PROMPT[:20], [20])
    prefilled(forward, 1, PROMPT[:20], [20])
    verified = forward.verify(0, PROMPT[20 : 20 + count], 20).copy()
    ends = [forward.prefill(1, PROMPT[20:end], 20)[0].copy() for end in range(22, 21 + count)]
    assert verified.shape == (count, tiny().vocab)
    assert np.array_equal(verified[1:], ends)


def test_a_pass_that_would_leave_its_memory_is_not_run(forward: Forward) -> None:
    with pytest.raises(AssertionError):
        forward.verify(0, PROMPT[: MAX_VERIFIED + 1], 0)
    with pytest.raises(AssertionError):
        forward.prefill(0, PROMPT[:3], 126)
    assert forward.prefill(0, PROMPT[:2], 126).shape == (1, tiny().vocab)


def test_embeddings_are_what_the_head_turns_into_logits(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf")
    export(source, tmp_path / "export")
    forward = opened(Export.load(tmp_path / "export"))
    hidden = forward.embed(0, PROMPT[:30], 0)
    expected = forward.verify(1, PROMPT[:16], 0)
    head = Reference.read(source).weights["output.weight"]
    assert forward.can_embed
    # The head rounds what goes into it to 8 bits; logits here deviate by about 4.
    np.testing.assert_allclose(hidden[:16] @ head.T, expected, rtol=0, atol=0.3)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(2, BLOCK), min_size=1, max_size=4), st.integers(0, 3))
def test_how_an_embedded_prompt_is_cut_does_not_show(forward: Forward, budgets: list[int], row: int) -> None:
    whole = np.concatenate([forward.embed(0, PROMPT[:30], 0), forward.embed(0, PROMPT[30:60], 30)])
    parts, start = [], 0
    for cut in chunks(60, budgets):
        parts.append(forward.embed(row, PROMPT[start : start + cut], start))
        start += cut
    assert np.array_equal(np.concatenate(parts), whole)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(2, BLOCK), min_size=1, max_size=4), st.integers(0, 3), st.sampled_from([20, 47, 70]))
def test_a_row_of_the_long_regime_may_be_cut_anywhere(
    longrope: Forward, budgets: list[int], row: int, tokens: int
) -> None:
    prompt = PROMPT[:tokens]
    whole = prefilled(longrope, 0, prompt, chunks(tokens, [BLOCK]), LONG)
    following = longrope.decode(0, [9], [tokens], LONG)[0].copy()
    assert np.array_equal(prefilled(longrope, row, prompt, chunks(tokens, budgets), LONG), whole)
    assert np.array_equal(longrope.decode(row, [9], [tokens], LONG)[0], following)


@pytest.mark.parametrize(
    ("lane", "lengths"), [(LONG, [70, 3, 47, 48]), (Lane(), [47, 3, 40, 2])], ids=["long", "short"]
)
def test_neighbours_of_a_regime_do_not_show(longrope: Forward, lane: Lane, lengths: list[int]) -> None:
    alone, together = decoded_alone_and_together(longrope, lengths, lane)
    assert all(np.array_equal(one, row) for one, row in zip(alone, together, strict=True))


def test_a_row_of_the_long_regime_gets_what_one_long_call_gives(longrope: Forward, tmp_path: Path) -> None:
    expected = _logits_of_one_call(Export.load(tiny_longrope_export(tmp_path / "tiny", SWITCH_TOKENS)))
    got = prefilled(longrope, 0, PROMPT, [20, 20, 30], LONG)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    short, long = (prefilled(longrope, 0, PROMPT[:20], [20], lane) for lane in (Lane(), LONG))
    assert np.abs(short - long).max() > 0.1


def test_the_sliced_graph_gives_the_exports_last_logits(forward: Forward) -> None:
    got = prefilled(forward, 0, PROMPT, [70])
    np.testing.assert_allclose(got, _logits_of_one_call(tiny()), rtol=1e-4, atol=1e-4)


def _logits_of_one_call(export: Export) -> Logits:
    """The last logits of the whole prompt, from the export as it lies on disk."""
    session = ort.InferenceSession(str(export.model_file))
    empty = np.zeros((1, export.kv_heads, 0, export.head_size), np.float32)
    past = {name % layer: empty for name in export.names.past for layer in range(export.layers)}
    ids = np.array([PROMPT], np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), **past}
    last: Logits = session.run(["logits"], feeds)[0][0, -1]
    return last


def test_a_head_that_is_not_understood_is_sliced_behind(monkeypatch: pytest.MonkeyPatch, forward: Forward) -> None:
    monkeypatch.setattr("replicas.slot.model.graph._HEADS", frozenset())
    assert b"shoal.last.logits" in engine_graph(load_graph(tiny().model_file), "logits")
    behind = opened(tiny())
    assert not behind.can_embed
    assert np.array_equal(prefilled(behind, 0, PROMPT, [70]), prefilled(forward, 0, PROMPT, [70]))
    assert np.array_equal(behind.verify(0, PROMPT[:9], 0), forward.verify(0, PROMPT[:9], 0))
