"""Repacked blocks hold the same weights, read back by ONNX Runtime's layout and compared with the gguf package."""

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from replicas.gguf.blocks import BLOCK, Bytes, Floats, floats, pack, quantize_8_bits
from tests.models import q6_k

BLOCK_BYTES = {"Q4_0": 18, "Q8_0": 34}


def raw_rows(kind: str) -> st.SearchStrategy[Bytes]:
    """Rows of any bytes at all, but for scales that are numbers."""

    def finite(raw: Bytes) -> Bytes:
        blocks = raw.reshape(-1, BLOCK_BYTES[kind])
        blocks[:, 1] &= 0xBF  # the exponent of the half float is not all ones
        return raw

    shape = st.tuples(st.integers(1, 5), st.integers(1, 3).map(lambda blocks: blocks * BLOCK_BYTES[kind]))
    return hnp.arrays(np.uint8, shape).map(finite)


def unpacked(packed: Bytes, scales: Floats, bits: int) -> Floats:
    """Weights as MatMulNBits defines them: low half of a byte first, (q - 2^(bits-1)) * scale."""
    steps = packed if bits == 8 else np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1)
    values = steps.astype(np.float32) - 2 ** (bits - 1)
    scaled: Floats = (values.reshape(len(packed), -1, BLOCK) * scales[..., None]).reshape(len(packed), -1)
    return scaled


@given(raw_rows("Q4_0"))
def test_any_q4_0_block_comes_across_exactly(raw: Bytes) -> None:
    np.testing.assert_array_equal(unpacked(*pack(raw, "Q4_0"), 4), dequantize(raw, GGMLQuantizationType.Q4_0))


@given(raw_rows("Q8_0"))
def test_any_q8_0_block_comes_across_exactly(raw: Bytes) -> None:
    np.testing.assert_array_equal(unpacked(*pack(raw, "Q8_0"), 8), dequantize(raw, GGMLQuantizationType.Q8_0))


@given(hnp.arrays(np.float32, (3, 64), elements=st.floats(-1000, 1000, width=32)))
def test_cutting_to_8_bits_errs_by_half_a_step_at_most(values: Floats) -> None:
    packed, scales = quantize_8_bits(values)
    half_step = np.repeat(scales, BLOCK, axis=1) / 2
    assert (np.abs(unpacked(packed, scales, 8) - values) <= half_step * 1.001 + 1e-30).all()


@pytest.mark.parametrize("kind", ["Q4_1", "F16", "F32"])
def test_dequantized_values_are_those_of_the_gguf_package(kind: str) -> None:
    values = np.random.default_rng(0).normal(0, 1, (7, 96)).astype(np.float32)
    raw = quantize(values, GGMLQuantizationType[kind])
    expected = dequantize(raw, GGMLQuantizationType[kind])
    np.testing.assert_array_equal(floats(raw.view(np.uint8), kind), expected)


def test_q6_k_values_survive_the_way_through_8_bits() -> None:
    values = np.random.default_rng(0).normal(0, 1, (7, 512)).astype(np.float32)
    got = unpacked(*pack(q6_k(values), "Q6_K"), 8)
    assert np.abs(got - values).max() < np.abs(values).max() / 31
