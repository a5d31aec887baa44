"""What an engine says of itself, as Prometheus families: read from `Engine.stats()` when somebody asks.

One table says which field is called what; counters get their `_total` from prometheus-client. Names and choices (the
provider, whether answers are strict) are labels of `shoal_engine_info`, which is always 1.
"""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from replicas.engine import EngineStats

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)

Figure = tuple[str, str, Callable[[EngineStats], float]]

GAUGES: tuple[Figure, ...] = (
    ("shoal_engine_slots", "Rows that can decode at once", lambda s: s.slots),
    ("shoal_engine_slots_used", "Rows that hold a generation", lambda s: s.slots_used),
    ("shoal_engine_queued", "Generations that wait for a slot", lambda s: s.queued),
    ("shoal_engine_kv_bytes", "Size of the KV cache", lambda s: s.kv_bytes),
    ("shoal_engine_kv_used_ratio", "Part of the KV cache that holds tokens", lambda s: s.kv_used_ratio),
    ("shoal_engine_cache_bytes", "What is kept of earlier prompts", lambda s: s.cache_bytes),
    ("shoal_engine_cache_limit_bytes", "Most that may be kept of earlier prompts", lambda s: s.cache_limit_bytes),
    ("shoal_engine_context_tokens", "Most tokens of prompt and answer together", lambda s: s.context_tokens),
    ("shoal_engine_threads", "Threads of one forward pass", lambda s: s.threads),
    ("shoal_engine_adapters", "LoRA adapters that are loaded", lambda s: len(s.adapters)),
    ("shoal_engine_fallbacks", "Providers that were tried and did not work", lambda s: len(s.fallbacks)),
    ("shoal_engine_healthy", "0 while runs of the model keep failing", lambda s: s.is_healthy),
)

COUNTERS: tuple[Figure, ...] = (
    (
        "shoal_prompt_tokens",
        "Prompt tokens, computed or reused",
        lambda s: s.prompt_tokens_total + s.cached_tokens_total,
    ),
    ("shoal_prefilled_tokens", "Prompt tokens that were computed", lambda s: s.prompt_tokens_total),
    ("shoal_cached_tokens", "Prompt tokens whose KV was reused", lambda s: s.cached_tokens_total),
    ("shoal_recomputed_tokens", "KV made anew for strict determinism", lambda s: s.recomputed_tokens_total),
    ("shoal_generated_tokens", "Tokens generated", lambda s: s.generated_tokens_total),
    ("shoal_replayed_tokens", "Tokens decoded again after a break", lambda s: s.replayed_tokens_total),
    ("shoal_forced_tokens", "Tokens that a grammar dictated", lambda s: s.forced_tokens_total),
    ("shoal_draft_tokens", "Tokens guessed ahead", lambda s: s.draft_tokens_total),
    ("shoal_accepted_tokens", "Guessed tokens that the model confirmed", lambda s: s.accepted_tokens_total),
    ("shoal_engine_steps", "Engine steps", lambda s: s.steps_total),
    ("shoal_engine_prefill_seconds", "Time spent on prompts", lambda s: s.prefill_s_total),
    ("shoal_engine_decode_seconds", "Time spent on answers", lambda s: s.decode_s_total),
    ("shoal_engine_preemptions", "Generations that gave their slot to another", lambda s: s.preemptions_total),
    ("shoal_engine_restarts", "Generations begun again after a failed run", lambda s: s.restarts_total),
)


class EngineCollector(Collector):
    """Turns `Engine.stats()` into metric families, one sample each."""

    def __init__(self, stats: Callable[[], EngineStats]) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: the engine may not be there yet when the registry asks."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The engine's state now."""
        stats = self._stats()
        for name, text, figure in GAUGES:
            yield GaugeMetricFamily(name, text, value=figure(stats))
        for name, text, figure in COUNTERS:
            yield CounterMetricFamily(name, text, value=figure(stats))
        yield _info(stats)
        yield _batch_histogram(stats.batch_sizes)


def _info(stats: EngineStats) -> GaugeMetricFamily:
    labels = {"engine": stats.engine, "provider": stats.provider, "determinism": stats.determinism}
    family = GaugeMetricFamily("shoal_engine_info", "Always 1; what the engine is", labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    return family


def _batch_histogram(sizes: tuple[tuple[int, int], ...]) -> HistogramMetricFamily:
    buckets = [(str(b), float(sum(n for size, n in sizes if size <= b))) for b in BATCH_BUCKETS]
    total = float(sum(n for _, n in sizes))
    rows = float(sum(size * n for size, n in sizes))
    return HistogramMetricFamily(
        "shoal_engine_batch_rows", "Rows in a decode step", buckets=[*buckets, ("+Inf", total)], sum_value=rows
    )
