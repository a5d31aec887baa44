"""Replica metrics: names by the rule, vLLM's names beside them, pages of many replicas that Prometheus can read."""

import re
from dataclasses import astuple, replace

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from deployments.engine_metrics import EngineCollector
from deployments.ingress_metrics import IngressMetrics, metrics_page
from deployments.replica_metrics import VLLM_ALIASES, ReplicaMetrics, merged
from replicas.engine import Chunk, EngineStats, Final, Finish, Usage
from replicas.errors import Overloaded

STATS = EngineStats("m", "slot", "cpu", 16, 3, 2, 1000, 0.25, 4096, 70, 50, 30, ((1, 10), (3, 5), (16, 2)))
UNITS = (
    "seconds|bytes|ratio|rows|records|requests|tokens|steps|generations|refusals|slots|slots_used|queued|flight"
    "|threads|adapters|fallbacks|healthy|preemptions|restarts|info"
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def answered(clock: Clock) -> ReplicaMetrics:
    """Metrics after one generation: first token after 0.2 s, then two more in 0.1 s."""
    metrics = ReplicaMetrics(lambda: STATS, clock)
    meter = metrics.meter()
    for wait_s, chunk in [
        (0.2, Chunk("a", "x", 1)),
        (0.1, Chunk("a", "yz", 2)),
        (0.3, Chunk("a", "", 0, Final(Finish.END, Usage(1, 3)))),
    ]:
        clock.now_s += wait_s
        meter.observe(chunk)
    return metrics


def value(families: list[Metric], name: str) -> float:
    [found] = [s.value for family in families for s in family.samples if s.name == name]
    return float(found)


def test_every_name_follows_the_rule() -> None:
    names = {family.name for family in ReplicaMetrics(lambda: STATS).families("m", "r")}
    ours = {name for name in names if not name.startswith("vllm:")}
    ours |= {family.name for family in IngressMetrics().registry.collect()}
    assert {name for name in ours if not re.fullmatch(rf"shoal(_[a-z]+)*_({UNITS})", name)} == set()


@pytest.mark.parametrize(("theirs", "ours"), VLLM_ALIASES.items())
def test_each_alias_has_the_values_of_its_original(theirs: str, ours: str) -> None:
    by_name = {family.name: family for family in answered(Clock()).families("m", "r")}
    values = [(s.name.removeprefix(ours), s.value) for s in by_name[ours].samples]
    assert values
    assert values == [(s.name.removeprefix(theirs), s.value) for s in by_name[theirs].samples]
    assert all(s.labels["model_name"] == "m" for s in by_name[theirs].samples)


def test_latencies_are_those_of_the_clock() -> None:
    families = answered(Clock()).families("m", "r")
    assert value(families, "shoal_ttft_seconds_sum") == pytest.approx(0.2)
    assert value(families, "shoal_inter_token_latency_seconds_sum") == pytest.approx(0.05)
    assert value(families, "shoal_generation_seconds_sum") == pytest.approx(0.6)
    assert value(families, "shoal_generations_total") == 1


def test_a_refusal_is_counted_by_its_error() -> None:
    metrics = ReplicaMetrics(lambda: STATS)
    metrics.refused(Overloaded("m", 1.0))
    [family] = [f for f in metrics.families("m", "r") if f.name == "shoal_refusals"]
    assert [(s.labels["error"], s.value) for s in family.samples] == [("Overloaded", 1)]


def test_the_histogram_of_batch_rows_adds_up() -> None:
    [family] = [f for f in ReplicaMetrics(lambda: STATS).families("m", "r") if f.name == "shoal_engine_batch_rows"]
    buckets = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert (buckets["1"], buckets["2"], buckets["4"], buckets["16"], buckets["+Inf"]) == (10, 10, 15, 17, 17)
    assert value([family], "shoal_engine_batch_rows_sum") == 10 + 15 + 32
    assert value([family], "shoal_engine_batch_rows_count") == 17


def test_every_number_of_the_stats_is_a_metric() -> None:
    full = replace(
        STATS,
        threads=5,
        prefill_s_total=0.5,
        decode_s_total=0.75,
        cached_tokens_total=31,
        recomputed_tokens_total=32,
        cache_bytes=33,
        cache_limit_bytes=34,
        preemptions_total=35,
        restarts_total=36,
        replayed_tokens_total=37,
        forced_tokens_total=38,
        draft_tokens_total=39,
        accepted_tokens_total=40,
    )
    numbers = [n for n in astuple(full) if isinstance(n, int | float) and not isinstance(n, bool)]
    assert len(set(numbers)) == len(numbers), "a figure that is new, or equal to another, proves nothing"
    told = {sample.value for family in EngineCollector(lambda: full).collect() for sample in family.samples}
    assert set(numbers) <= told


def test_what_an_engine_is_stands_in_labels() -> None:
    [family] = [f for f in ReplicaMetrics(lambda: STATS).families("m", "r") if f.name == "shoal_engine_info"]
    assert family.samples[0].labels == {
        "model": "m",
        "replica": "r",
        "engine": "slot",
        "provider": "cpu",
        "determinism": "strict",
    }


def test_a_page_of_many_replicas_parses_and_names_each_family_once() -> None:
    ingress = IngressMetrics()
    ingress.observe_request("BREW", "/v1/messages", 405)
    replicas = [family for id_ in ("r1", "r2") for family in answered(Clock()).families("m", id_)]
    page = metrics_page(ingress, replicas).decode()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert page.count("# TYPE shoal_ttft_seconds histogram") == 1
    assert {s.labels["replica"] for s in families["shoal_engine_slots_used"].samples} == {"r1", "r2"}
    assert {s.labels["replica"] for s in families["vllm:num_requests_running"].samples} == {"r1", "r2"}
    assert families["shoal_http_requests"].samples[0].labels["method"] == "other"
    assert "_created" not in page


def test_merging_leaves_what_it_was_given_as_it_was() -> None:
    families = answered(Clock()).families("m", "r")
    before = [len(family.samples) for family in families]
    merged([*families, *families])
    assert [len(family.samples) for family in families] == before
