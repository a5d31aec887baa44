"""What an engine says of itself: the loop's counters with what was fixed at the start."""

from collections.abc import Callable
from dataclasses import dataclass

from replicas.engine import EngineStats
from replicas.slot.about import About
from replicas.slot.step.loop import Loop


@dataclass(frozen=True, slots=True)
class Live:
    """What is asked for each time. `cache_bytes` are in use."""

    adapters: Callable[[], tuple[str, ...]] = tuple
    cache_bytes: Callable[[], int] = int
    recomputed_tokens: Callable[[], int] = int


def stats(about: About, loop: Loop, live: Live) -> EngineStats:
    """A snapshot."""
    tally = loop.tally
    return EngineStats(
        model=about.model,
        engine=about.engine,
        provider=about.provider,
        slots=about.slots,
        slots_used=loop.rows.used,
        queued=loop.queued,
        kv_bytes=about.kv_bytes,
        kv_used_ratio=loop.rows.tokens / (about.slots * about.context_tokens),
        context_tokens=about.context_tokens,
        prompt_tokens_total=tally.prompt_tokens,
        generated_tokens_total=tally.generated_tokens,
        steps_total=tally.steps,
        batch_sizes=tally.batch_sizes,
        is_healthy=loop.is_healthy,
        threads=about.threads,
        determinism=about.determinism,
        fallbacks=about.fallbacks,
        adapters=live.adapters(),
        prefill_s_total=tally.prefill_s,
        decode_s_total=tally.decode_s,
        cached_tokens_total=tally.cached_tokens,
        recomputed_tokens_total=live.recomputed_tokens(),
        cache_bytes=live.cache_bytes(),
        cache_limit_bytes=about.cache_limit_bytes,
        preemptions_total=tally.preemptions,
        restarts_total=tally.restarts,
        replayed_tokens_total=tally.replayed_tokens,
        forced_tokens_total=tally.forced_tokens,
        draft_tokens_total=tally.draft_tokens,
        accepted_tokens_total=tally.accepted_tokens,
    )
