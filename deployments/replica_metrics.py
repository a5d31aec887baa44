"""The metrics of one pool replica, by prometheus-client, under Shoal's names and under vLLM's.

The engine's own figures are read from `Engine.stats()` when somebody asks; latencies are observed on the sinks as
chunks pass. vLLM's names (its metrics documentation, v0.11) are aliases with the same values, so that boards made
for it work.
"""

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from replicas.engine import Chunk, EngineStats
from replicas.errors import ShoalError

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKEN_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)

VLLM_ALIASES = {
    "shoal_ttft_seconds": "vllm:time_to_first_token_seconds",
    "shoal_inter_token_latency_seconds": "vllm:inter_token_latency_seconds",
    "shoal_generation_seconds": "vllm:e2e_request_latency_seconds",
    "shoal_engine_slots_used": "vllm:num_requests_running",
    "shoal_engine_queued": "vllm:num_requests_waiting",
    "shoal_engine_kv_used_ratio": "vllm:kv_cache_usage_perc",
    "shoal_prompt_tokens": "vllm:prompt_tokens",
    "shoal_generated_tokens": "vllm:generation_tokens",
    "shoal_generations": "vllm:request_success",
}


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
        gauges = {
            "shoal_engine_slots": ("Rows that can decode at once", stats.slots),
            "shoal_engine_slots_used": ("Rows that hold a generation", stats.slots_used),
            "shoal_engine_queued": ("Generations that wait for a slot", stats.queued),
            "shoal_engine_kv_bytes": ("Size of the KV cache", stats.kv_bytes),
            "shoal_engine_kv_used_ratio": ("Part of the KV cache that holds tokens", stats.kv_used_ratio),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily("shoal_prompt_tokens", "Prompt tokens prefilled", value=stats.prompt_tokens_total)
        yield CounterMetricFamily("shoal_generated_tokens", "Tokens generated", value=stats.generated_tokens_total)
        yield CounterMetricFamily("shoal_engine_steps", "Engine steps", value=stats.steps_total)
        yield _batch_histogram(stats.batch_sizes)


def _batch_histogram(sizes: tuple[tuple[int, int], ...]) -> HistogramMetricFamily:
    buckets = [(str(b), float(sum(n for size, n in sizes if size <= b))) for b in BATCH_BUCKETS]
    total = float(sum(n for _, n in sizes))
    rows = float(sum(size * n for size, n in sizes))
    return HistogramMetricFamily(
        "shoal_engine_batch_rows", "Rows in a decode step", buckets=[*buckets, ("+Inf", total)], sum_value=rows
    )


class Meter:
    """Watches the chunks of one generation."""

    def __init__(self, metrics: "ReplicaMetrics") -> None:
        self._metrics = metrics
        self._started_s = metrics.clock()
        self._last_s: float | None = None

    def observe(self, chunk: Chunk) -> None:
        """Take the time of a chunk; called on the engine's thread."""
        now_s = self._metrics.clock()
        if chunk.tokens:
            if self._last_s is None:
                self._metrics.ttft.observe(now_s - self._started_s)
            else:
                self._metrics.itl.observe((now_s - self._last_s) / chunk.tokens)
            self._last_s = now_s
        if chunk.final is not None:
            self._metrics.duration.observe(now_s - self._started_s)
            self._metrics.generations.labels(finish=chunk.final.finish.value).inc()


class ReplicaMetrics:
    """Every metric that a replica keeps itself."""

    def __init__(self, stats: Callable[[], EngineStats], clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.registry = CollectorRegistry()
        self.registry.register(EngineCollector(stats))
        self.ttft = Histogram(
            "shoal_ttft_seconds", "Admission to first token", buckets=LATENCY_BUCKETS_S, registry=self.registry
        )
        self.itl = Histogram(
            "shoal_inter_token_latency_seconds",
            "Time between tokens of one generation",
            buckets=TOKEN_BUCKETS_S,
            registry=self.registry,
        )
        self.duration = Histogram(
            "shoal_generation_seconds", "Admission to last token", buckets=LATENCY_BUCKETS_S, registry=self.registry
        )
        self.admission_batch = Histogram(
            "shoal_admission_batch_requests",
            "Requests admitted to the engine in one go",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self.generations = Counter(
            "shoal_generations", "Generations by how they ended", ["finish"], registry=self.registry
        )
        self.refusals = Counter(
            "shoal_refusals", "Generations the engine did not take, by error", ["error"], registry=self.registry
        )

    def meter(self) -> Meter:
        """A watcher for one generation that begins now."""
        return Meter(self)

    def refused(self, error: ShoalError) -> None:
        """The engine did not take a generation."""
        self.refusals.labels(error=type(error).__name__).inc()

    def families(self, model: str, replica_id: str) -> list[Metric]:
        """All families with the labels `model` and `replica`, and vLLM's aliases with `model_name`."""
        families = [labelled(family, {"model": model, "replica": replica_id}) for family in self.registry.collect()]
        aliases = [
            renamed(family, VLLM_ALIASES[family.name], {"model_name": model})
            for family in families
            if family.name in VLLM_ALIASES
        ]
        return families + aliases


def labelled(family: Metric, labels: dict[str, str]) -> Metric:
    """The same family with `labels` on every sample. Creation-time samples are dropped: they say nothing here."""
    copy = Metric(family.name, family.documentation, family.type)
    samples = [s for s in family.samples if not s.name.endswith("_created")]
    copy.samples = [s._replace(labels={**labels, **s.labels}) for s in samples]
    return copy


def renamed(family: Metric, name: str, labels: dict[str, str]) -> Metric:
    """The same family under another name, with `labels` added."""
    copy = Metric(name, family.documentation, family.type)
    copy.samples = [
        s._replace(name=name + s.name.removeprefix(family.name), labels={**s.labels, **labels}) for s in family.samples
    ]
    return copy


def merged(families: Iterable[Metric]) -> list[Metric]:
    """One family per name, with the samples of all: Prometheus wants each name once."""
    by_name: dict[str, Metric] = {}
    for family in families:
        known = by_name.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        known.samples = [*known.samples, *family.samples]
    return list(by_name.values())
