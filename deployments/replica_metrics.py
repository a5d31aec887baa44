"""The metrics of one pool replica, by prometheus-client, under Shoal's names and under vLLM's.

The engine's own figures come from `engine_metrics`; latencies are observed on the sinks as chunks pass. vLLM's names
(its metrics documentation) are aliases with the same values, so that boards made for it work.
"""

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric

from deployments.engine_metrics import BATCH_BUCKETS, EngineCollector
from replicas.engine import Chunk, EngineStats
from replicas.errors import ShoalError

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKEN_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1)

VLLM_ALIASES = {
    "vllm:time_to_first_token_seconds": "shoal_ttft_seconds",
    "vllm:inter_token_latency_seconds": "shoal_inter_token_latency_seconds",
    "vllm:e2e_request_latency_seconds": "shoal_generation_seconds",
    "vllm:num_requests_running": "shoal_engine_slots_used",
    "vllm:num_requests_waiting": "shoal_engine_queued",
    "vllm:num_preemptions": "shoal_engine_preemptions",
    "vllm:kv_cache_usage_perc": "shoal_engine_kv_used_ratio",
    "vllm:prompt_tokens": "shoal_prompt_tokens",
    "vllm:prefix_cache_queries": "shoal_prompt_tokens",
    "vllm:prefix_cache_hits": "shoal_cached_tokens",
    "vllm:generation_tokens": "shoal_generated_tokens",
    "vllm:spec_decode_num_draft_tokens": "shoal_draft_tokens",
    "vllm:spec_decode_num_accepted_tokens": "shoal_accepted_tokens",
    "vllm:request_success": "shoal_generations",
}
"""vLLM's name to ours. Every prompt token is looked up in the cache, so two of its figures are one of ours."""


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
        by_name = {family.name: family for family in families}
        aliases = [renamed(by_name[ours], theirs, {"model_name": model}) for theirs, ours in VLLM_ALIASES.items()]
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
