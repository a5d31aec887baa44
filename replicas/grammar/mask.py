"""A packed mask over the vocabulary, applied to one row of logits.

Bit i of the mask (word i // 32, lowest bit first) says whether token i may come. Each byte of it picks eight floats out
of a table, +inf for what may stay and -inf for what may not, and the row becomes the smaller of both: two vector
operations, no branch. NaN stays NaN, so that a broken model is still seen.
"""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.int32]
"""One bit a token, [ceil(vocab / 32)]."""

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_LIMITS = np.where(_BITS == 1, np.float32(np.inf), np.float32(-np.inf))


def keep_allowed(logits: NDArray[np.float32], mask: Mask) -> None:
    """Set to -inf what `mask` forbids in `logits` [vocab], in place. Words past the vocabulary do not matter.

    21 us at a vocabulary of 49152; indexing with the unpacked bits took 340 us (numpy 2, one core).
    """
    limits = _LIMITS.take(mask.view(np.uint8), axis=0).reshape(-1)
    np.minimum(logits, limits[: len(logits)], out=logits)
