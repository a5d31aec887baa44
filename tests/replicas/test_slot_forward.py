"""Forward passes to the last bit: neighbours, rows, masks, cuts and moves do not show."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from replicas.slot.forward import Forward, longest_chunk
from replicas.slot.graph import engine_graph, load_graph
from replicas.slot.loop import next_chunk
from replicas.slot.place import CPU
from replicas.slot.providers import open_session
from replicas.slot.slab import KvSlab
from tests.replicas.engines import tiny

Logits = NDArray[np.float32]
PROMPT = tuple(3 + (7 * place) % 250 for place in range(70))
BLOCK = longest_chunk(16)


def _forward(slots: int = 4, max_len: int = 128) -> Forward:
    slab = KvSlab(tiny(), slots, max_len, CPU)
    return Forward(open_session(tiny(), CPU, 1, is_spinning=False), tiny(), slab, slots, max_len)


@pytest.fixture(scope="module")
def forward() -> Forward:
    return _forward()


def _prefilled(forward: Forward, row: int, prompt: tuple[int, ...], cuts: list[int]) -> Logits:
    start, logits = 0, None
    for cut in cuts:
        logits = forward.prefill(row, prompt[start : start + cut], start)
        start += cut
    assert logits is not None
    assert start == len(prompt)
    copied: Logits = logits[0].copy()
    return copied


def _chunks(tokens: int, budgets: list[int]) -> list[int]:
    cuts: list[int] = []
    while sum(cuts) < tokens:
        cuts.append(next_chunk(tokens - sum(cuts), budgets[len(cuts) % len(budgets)]))
    return cuts


@given(st.integers(1, 300), st.lists(st.integers(2, 70), min_size=1, max_size=5))
def test_no_chunk_is_one_token_unless_the_prompt_is(tokens: int, budgets: list[int]) -> None:
    cuts = _chunks(tokens, budgets)
    assert sum(cuts) == tokens
    assert (min(cuts) >= 2) == (tokens > 1)
    assert all(cut <= max(budgets) + 1 for cut in cuts)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(2, BLOCK), min_size=1, max_size=4), st.integers(0, 3))
def test_how_a_prompt_is_cut_does_not_show(forward: Forward, budgets: list[int], row: int) -> None:
    whole = _prefilled(forward, 0, PROMPT, [BLOCK, BLOCK, 70 - 2 * BLOCK])
    following = forward.decode(0, [9], [70])[0].copy()
    assert np.array_equal(_prefilled(forward, row, PROMPT, _chunks(70, budgets)), whole)
    tokens, lengths = [9] * (row + 1), [70] * (row + 1)
    assert np.array_equal(forward.decode(0, tokens, lengths)[row], following)


def test_every_cut_in_two_gives_the_same_bits(forward: Forward) -> None:
    prompt = PROMPT[:BLOCK]
    whole = _prefilled(forward, 0, prompt, [BLOCK])
    cuts = range(2, BLOCK - 1)
    assert all(np.array_equal(_prefilled(forward, 0, prompt, [cut, BLOCK - cut]), whole) for cut in cuts)


def test_a_chunk_beyond_a_block_shows(forward: Forward) -> None:
    # Why chunks are bounded. If this fails onnxruntime has changed for the better, and the bound can go.
    prompt = PROMPT[: BLOCK + 1]
    bounded = _prefilled(forward, 0, prompt, [BLOCK - 1, 2])
    assert not np.array_equal(_prefilled(forward, 0, prompt, [BLOCK + 1]), bounded)


def test_chunks_stay_within_a_block_of_queries() -> None:
    assert [longest_chunk(head_size) for head_size in (16, 64, 96, 128, 256)] == [32, 128, 85, 64, 32]


def test_neighbours_and_the_length_of_the_mask_do_not_show(forward: Forward) -> None:
    lengths = [70, 3, 40, 2]
    alone = []
    for length in lengths:
        _prefilled(forward, 0, PROMPT[:length], [length])
        alone.append(forward.decode(0, [11], [length])[0].copy())
    for row, length in enumerate(lengths):
        _prefilled(forward, row, PROMPT[:length], [length])
    together = forward.decode(0, [11] * 4, lengths)
    assert all(np.array_equal(one, row) for one, row in zip(alone, together, strict=True))


def test_the_size_of_the_slab_does_not_show(forward: Forward) -> None:
    large = _forward(slots=2, max_len=500)
    assert np.array_equal(_prefilled(large, 1, PROMPT, [70]), _prefilled(forward, 1, PROMPT, [30, 40]))


def test_a_moved_row_goes_on_as_before(forward: Forward) -> None:
    _prefilled(forward, 0, PROMPT, [70])
    expected = forward.decode(0, [9], [70])[0].copy()
    _prefilled(forward, 3, PROMPT, [70])
    _prefilled(forward, 0, PROMPT[:5], [5])
    forward.move(3, 0, 70)
    assert np.array_equal(forward.decode(0, [9], [70])[0], expected)


def test_rows_in_device_memory_move_by_the_graph() -> None:
    # The path of a GPU, with the CPU as its device: buffers of onnxruntime, moves by Identity nodes.
    slab = KvSlab(tiny(), 3, 128, replace(CPU, is_host=False))
    device = Forward(open_session(tiny(), CPU, 1, is_spinning=False), tiny(), slab, 3, 128)
    expected = _prefilled(device, 0, PROMPT, [70])
    following = device.decode(0, [9], [70])[0].copy()
    assert np.array_equal(_prefilled(device, 2, PROMPT, [70]), expected)
    _prefilled(device, 0, PROMPT[:5], [5])
    device.move(2, 0, 70)
    assert np.array_equal(device.decode(0, [9], [70])[0], following)


def test_the_sliced_graph_gives_the_exports_last_logits(forward: Forward) -> None:
    plain = ort.InferenceSession(str(tiny().model_file))
    empty = np.zeros((1, tiny().kv_heads, 0, tiny().head_size), np.float32)
    past = {name % layer: empty for name in tiny().names.past for layer in range(tiny().layers)}
    ids = np.array([PROMPT], np.int64)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), **past}
    logits = plain.run(["logits"], feed)[0][0, -1]
    np.testing.assert_allclose(_prefilled(forward, 0, PROMPT, [70]), logits, rtol=1e-4, atol=1e-4)


def test_a_head_that_is_not_understood_is_sliced_behind(monkeypatch: pytest.MonkeyPatch, forward: Forward) -> None:
    monkeypatch.setattr("replicas.slot.graph._HEADS", frozenset())
    assert b"shoal.last.logits" in engine_graph(load_graph(tiny().model_file), "logits")
    assert np.array_equal(_prefilled(_forward(), 0, PROMPT, [70]), _prefilled(forward, 0, PROMPT, [70]))
