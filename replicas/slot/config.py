"""What an operator may set of a slot engine."""

from dataclasses import dataclass
from pathlib import Path

from replicas.engine import Determinism
from replicas.errors import SettingsError


@dataclass(frozen=True, slots=True)
class SlotConfig:
    """Sizes of a slot engine. `slots` and `max_len` None are chosen by the free memory (sizing.py), `threads` None is
    the physical cores that this process may use. Both are measured (calibration.py) where `calibrations` is a folder
    to keep that in.

    `prefill_chunk` is the most tokens that one step spends on prompts while others wait for their next token (less
    where attention works in smaller blocks: `longest_chunk`). On the bundled model with two cores 64 tokens take 83
    ms, and a larger chunk is no faster per token. `is_spinning` lets idle threads of one run wait actively: a step is
    up to a third faster on cores of its own, and several times slower on cores that others want too. `provider`
    forbids the fallback to another one. `cache_bytes` bounds what is kept of prompts for the next ones, None takes a
    share of the free memory, 0 keeps nothing. While interactive answers run, prompts get so much of each step that
    it takes about `stall_ratio` times as long as without them; where even the smallest piece takes longer, that holds
    in the mean. `speculation` drafts tokens that the text repeats, which needs relaxed determinism.
    """

    slots: int | None = 16
    max_len: int | None = None
    threads: int | None = None
    prefill_chunk: int = 64
    queue_limit: int = 256
    provider: str | None = None
    is_spinning: bool = True
    determinism: Determinism = "strict"
    cache_bytes: int | None = None
    stall_ratio: float = 1.8
    speculation: bool = False
    calibrations: Path | None = None
    memory_share: float = 1.0

    def __post_init__(self) -> None:
        least = {"slots": 1, "threads": 1, "prefill_chunk": 4, "queue_limit": 1}
        for name, bound in least.items():
            if getattr(self, name) is not None and getattr(self, name) < bound:
                raise SettingsError(f"{name} must be at least {bound}, not {getattr(self, name)}")
        if self.stall_ratio <= 1:
            raise SettingsError(f"stall_ratio must be above 1, not {self.stall_ratio}")
        if self.speculation and self.determinism == "strict":
            raise SettingsError(
                "speculation changes the last bits of the KV cache, so now and then an answer: set determinism: relaxed"
            )
        if not 0 < self.memory_share <= 1:
            raise SettingsError(f"memory_share must be above 0 and at most 1, not {self.memory_share}")
        if self.cache_bytes is not None and self.cache_bytes < 0:
            raise SettingsError(f"cache_bytes must be 0 (no cache) or more, not {self.cache_bytes}")
        if self.max_len is not None and self.max_len < 2:
            raise SettingsError(f"max_len must be at least 2, not {self.max_len}")
