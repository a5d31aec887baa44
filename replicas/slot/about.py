"""What does not change while an engine runs."""

from dataclasses import dataclass

from replicas.engine import Determinism


@dataclass(frozen=True, slots=True)
class About:
    """What does not change while an engine runs."""

    model: str
    engine: str
    provider: str
    slots: int
    context_tokens: int
    kv_bytes: int = 0
    threads: int = 0
    determinism: Determinism = "strict"
    fallbacks: tuple[tuple[str, str], ...] = ()
    cache_limit_bytes: int = 0
