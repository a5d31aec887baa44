"""How long to wait before a pool is asked again: never sooner than it wants, and never all at the same time.

Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): a wait is drawn between nothing
and a bound that doubles with each failure.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retries:
    """`times` a failed ask is repeated. A wait is drawn up to `base_s`, doubled each time, at most `cap_s`.

    Who asks for a longer wait than `cap_s` gets none: the caller is told to come again. While another link is left,
    that is so from `elsewhere_s` on.
    """

    times: int = 2
    base_s: float = 0.25
    cap_s: float = 8.0
    elsewhere_s: float = 2.0

    def wait_s(self, failures: int, wanted_s: float | None, *, is_last: bool, chance: random.Random) -> float | None:
        """Seconds before the next ask, after `failures` of them; None: ask here no more. `wanted_s` is the pool's word
        (retry-after), if it gave one."""
        if failures > self.times:
            return None
        bound_s = min(self.cap_s, self.base_s * 2.0 ** (failures - 1))
        longest_s = self.cap_s if is_last else min(self.cap_s, self.elsewhere_s)
        if wanted_s is None:
            return chance.uniform(0.0, min(bound_s, longest_s))
        return None if wanted_s > longest_s else wanted_s + chance.uniform(0.0, self.base_s)
