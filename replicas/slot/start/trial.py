"""One prompt and one step of decoding: does the model run here, and are its numbers any?"""

import numpy as np
from numpy.typing import NDArray

from replicas.errors import EngineFailed
from replicas.slot.model.forward import Forward


def try_step(forward: Forward) -> None:
    """Raises EngineFailed if logits are not numbers, and whatever a run raises. Writes to the first row."""
    _require_numbers(forward.prefill(0, (0, 0), 0))
    _require_numbers(forward.decode(0, (0,), (2,)))


def _require_numbers(logits: NDArray[np.float32]) -> None:
    """Some may be -inf: models forbid the padding of their vocabulary so. The greatest is NaN if any is."""
    if not np.isfinite(logits.max()):
        raise EngineFailed("the model's output is not a number")
