"""From GGUF's quantized blocks to those of ONNX Runtime's MatMulNBits and GatherBlockQuantized.

Both hold 32 weights and a scale a block. Q4_0 and Q8_0 are the same numbers in another order, so they come across
exactly: MatMulNBits wants neighbours in one byte and unsigned values round a zero point (8 or 128, its default). Every
other type is dequantized and cut to 8 bits again with one scale a block: Q4_1's real-valued offsets would be exact too,
as float zero points, but their CPU kernel is ten times slower.
"""

from typing import TypeAlias

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

BLOCK = 32
SUPPORTED = ("F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q6_K")
"""Q6_K because llama-quantize gives it to the output tensor of a Q4_0 or Q4_1 file."""

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]


def bits(kind: str) -> int:
    """Bits a weight of type `kind` has in the export."""
    return 4 if kind == "Q4_0" else 8


def pack(rows: Bytes, kind: str) -> tuple[Bytes, Floats]:
    """Raw rows [n, bytes] of type `kind` -> quantized weights [n, K * bits / 8] and scales [n, K / 32]."""
    if kind == "Q4_0":
        return _pack_q4_0(rows)
    if kind == "Q8_0":
        return _pack_q8_0(rows)
    return quantize_8_bits(floats(rows, kind))


def floats(rows: Bytes, kind: str) -> Floats:
    """Raw rows [n, bytes] of type `kind` -> their values [n, K]."""
    if kind == "F32":
        return rows.view("<f4").astype(np.float32, copy=False)
    if kind == "F16":
        return rows.view("<f2").astype(np.float32)
    if kind == "Q4_1":
        return _floats_q4_1(rows)
    values: Floats = dequantize(rows, GGMLQuantizationType[kind])
    return values


def quantize_8_bits(values: Floats) -> tuple[Bytes, Floats]:
    """Nearest 8-bit values round 128 with one scale for 32 weights; the largest error is half a scale."""
    blocks = values.reshape(len(values), -1, BLOCK)
    scales = np.abs(blocks).max(-1) / np.float32(127)
    steps = blocks / np.where(scales == 0, 1, scales)[..., None]
    np.rint(steps, out=steps)
    steps += 128
    with np.errstate(invalid="ignore"):  # values that are no numbers show in the scales, which the caller checks
        return steps.astype(np.uint8).reshape(len(values), -1), scales


def _scale(blocks: Bytes, at: int) -> Floats:
    """The half float at byte `at` of every block [n, blocks, bytes]."""
    return np.ascontiguousarray(blocks[..., at : at + 2]).view("<f2")[..., 0].astype(np.float32)


def _pack_q8_0(rows: Bytes) -> tuple[Bytes, Floats]:
    blocks = rows.reshape(len(rows), -1, 2 + BLOCK)
    # Flipping the sign bit of a two's complement byte adds 128.
    return (blocks[..., 2:] ^ np.uint8(0x80)).reshape(len(rows), -1), _scale(blocks, 0)


def _pack_q4_0(rows: Bytes) -> tuple[Bytes, Floats]:
    blocks = rows.reshape(len(rows), -1, 2 + BLOCK // 2)
    # GGUF: byte j holds weight j (low half) and j + 16; MatMulNBits: byte j holds weights 2j (low half) and 2j + 1.
    pairs = blocks[..., 2:].reshape(*blocks.shape[:2], BLOCK // 4, 2)
    low = (pairs[..., 0] & 0x0F) | (pairs[..., 1] << 4)
    high = (pairs[..., 0] >> 4) | (pairs[..., 1] & 0xF0)
    return np.concatenate([low, high], axis=-1).reshape(len(rows), -1), _scale(blocks, 0)


def _floats_q4_1(rows: Bytes) -> Floats:
    blocks = rows.reshape(len(rows), -1, 4 + BLOCK // 2)
    values = np.concatenate([blocks[..., 4:] & 0x0F, blocks[..., 4:] >> 4], axis=-1).astype(np.float32)
    values *= _scale(blocks, 0)[..., None]
    values += _scale(blocks, 2)[..., None]
    return values.reshape(len(rows), -1)
