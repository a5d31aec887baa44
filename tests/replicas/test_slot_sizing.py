"""Slots, their length and the prefix cache come from free memory; what the operator set is kept or refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.errors import EngineFailed
from replicas.export import Export
from replicas.slot.start import sizing
from replicas.slot.start.sizing import MOST_SLOTS, SPARE_ROWS, Memory, Sizes, Wanted, sizes_of
from tests.replicas.engines import tiny

GIB = 1 << 30


@pytest.fixture
def phi(monkeypatch: pytest.MonkeyPatch) -> Export:
    """The shape of Phi-4-mini: 256 KiB of KV a token, 2.6 GiB of weights."""
    monkeypatch.setattr(sizing, "weight_bytes", lambda _: int(2.6 * GIB))
    export = replace(tiny(), layers=32, kv_heads=8, head_size=128, context_tokens=131072, max_mask_tokens=131072)
    assert export.kv_token_bytes == 256 * 1024
    return export


@pytest.mark.parametrize(("free", "slots"), [(8, 2), (24, 13), (250, MOST_SLOTS)])
def test_a_4_b_model_gets_slots_of_4096_tokens_by_memory(phi: Export, free: int, slots: int) -> None:
    sizes = sizes_of(phi, Memory(free * GIB), Wanted())
    assert (sizes.slots, sizes.max_len) == (slots, 4096)
    assert sizes.cache_bytes > 0.9 * GIB


def test_little_memory_makes_slots_shorter_before_it_refuses(phi: Export) -> None:
    sizes = sizes_of(phi, Memory(int(4.5 * GIB)), Wanted())
    assert (sizes.slots, 512 < sizes.max_len < 4096) == (1, True)
    with pytest.raises(EngineFailed, match=r"a slot of 512 tokens takes 0\.12 GiB .* or a smaller model"):
        sizes_of(phi, Memory(int(3.2 * GIB)), Wanted())


def test_a_length_that_no_slot_can_have_is_refused_with_one_that_fits(phi: Export) -> None:
    with pytest.raises(EngineFailed, match=r"set context_tokens to 12[0-9]{3} or less") as refused:
        sizes_of(phi, Memory(12 * GIB), Wanted(max_len=32768))
    assert "a slot of 32768 tokens takes 8.00 GiB" in str(refused.value)


def test_what_the_operator_set_is_kept(phi: Export) -> None:
    wanted = Wanted(slots=3, max_len=2048, cache_bytes=0)
    assert sizes_of(phi, Memory(24 * GIB), wanted) == Sizes(3, 2048, 0)


def test_too_many_slots_are_logged_on_the_host_and_refused_on_a_device(
    phi: Export, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = Wanted(slots=16, max_len=4096)
    assert sizes_of(phi, Memory(8 * GIB), wanted).slots == 16
    assert "16 slots of 4096 tokens do not fit into the free memory, 2 do" in caplog.text
    with pytest.raises(EngineFailed, match="16 slots of 4096 tokens do not fit"):
        sizes_of(phi, Memory(64 * GIB, device_bytes=8 * GIB), wanted)


def test_on_a_device_the_prefix_cache_is_the_hosts(phi: Export) -> None:
    roomy = sizes_of(phi, Memory(64 * GIB, device_bytes=24 * GIB), Wanted())
    assert roomy.slots > sizes_of(phi, Memory(24 * GIB), Wanted()).slots
    assert 14 * GIB < roomy.cache_bytes < 15 * GIB


def test_a_slot_is_never_longer_than_the_model(phi: Export) -> None:
    short = replace(phi, max_mask_tokens=300)
    assert sizes_of(short, Memory(24 * GIB), Wanted(max_len=4096)).max_len == 300
    assert sizes_of(short, Memory(24 * GIB), Wanted()).max_len == 300


def test_the_weights_of_a_model_are_counted_with_its_graph() -> None:
    folder = tiny().directory
    sizes = [(folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data")]
    assert sizing.weight_bytes(tiny()) == pytest.approx(sum(sizes), abs=4096)  # the file may end in padding


@given(free=st.integers(0, 64 * GIB), most=st.integers(1, 64), device=st.none() | st.integers(0, 64 * GIB))
def test_what_an_engine_chooses_fits(free: int, most: int, device: int | None) -> None:
    export = replace(tiny(), layers=32, kv_heads=8, head_size=128, max_mask_tokens=131072)
    try:
        sizes = sizes_of(export, Memory(free, device), Wanted(most_slots=most))
    except EngineFailed:
        assert min(free, device if device is not None else free) < 2 * GIB
        return
    kv_bytes = (sizes.slots + SPARE_ROWS) * sizes.max_len * export.kv_token_bytes
    assert 1 <= sizes.slots <= most
    assert kv_bytes + (sizes.cache_bytes if device is None else 0) <= (free if device is None else device)
