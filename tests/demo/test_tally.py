"""Figures and report."""

from datetime import UTC, datetime

import pytest

from cluster.demo.board import Agent
from cluster.demo.documents import Passage
from cluster.demo.engines import ServiceState, batches_between
from cluster.demo.report import report, totals
from cluster.demo.tally import CLOUD_MODELS, Answering, Tally, tally
from replicas.engine import Usage
from replicas.errors import NotFound
from router.prices import cost_usd

WHO = Answering("smollm2-135m-instruct", "slot", "CPUExecutionProvider", 16)
AGENTS = [
    Agent("a.md", "done", "A summary.", Usage(300, 60), "end", time_s=2.0),
    Agent("b|c.md", "done", "One line.\nAnother.", Usage(200, 40), "length", time_s=4.0),
]
PASSAGES = [Passage("a.md", "text", 4), Passage("b|c.md", "te", 1234)]


def made(agents: list[Agent] = AGENTS) -> Tally:
    return tally(agents, 5.0, {1: 10, 2: 40}, WHO)


def service(replicas: dict[str, dict[str, int]]) -> ServiceState:
    states = {
        name: {"engine": "slot", "provider": "cpu", "slots": 4, "batch_sizes": sizes}
        for name, sizes in replicas.items()
    }
    pools = [{"model": "m", "replicas": states}, {"model": "other", "replicas": {}}]
    return ServiceState.model_validate({"default_model": "m", "pools": pools})


def test_figures_add_up() -> None:
    found = made()
    assert (found.usage, found.tokens_s, found.failed) == (Usage(500, 100), 20.0, 0)
    assert (found.batch_mean, found.batch_max) == (1.8, 2)


def test_no_time_and_no_batches_divide_by_nothing() -> None:
    empty = tally([], 0.0, {}, WHO)
    assert (empty.tokens_s, empty.batch_mean, empty.batch_max) == (0.0, 0.0, 0)


def test_costs_are_those_of_two_models_of_different_vendors() -> None:
    costs = made().costs_usd()
    assert [usd for _, usd in costs] == [cost_usd(model, Usage(500, 100)) for model in CLOUD_MODELS]
    assert len({price.vendor for price, _ in costs}) == 2


def test_every_cloud_model_has_a_price() -> None:
    assert {price.id for price, _ in made().costs_usd()} == set(CLOUD_MODELS)
    with pytest.raises(NotFound):
        cost_usd("no-such-model", Usage(1, 1))


def test_batches_are_the_difference_over_all_replicas_of_the_default_model() -> None:
    before = service({"r1": {"1": 5, "4": 2}})
    after = service({"r1": {"1": 5, "4": 9, "8": 1}, "r2": {"8": 3}})
    assert batches_between(before, after) == {4: 7, 8: 4}


def test_the_report_tells_every_file_with_its_summary_and_figures() -> None:
    text = report(made(), AGENTS, PASSAGES, datetime(2026, 11, 21, 12, 30, tzinfo=UTC))
    assert "2026-11-21 12:30 UTC" in text
    assert "| 1 | a.md | 300 | 60 | 2.0 | 30.0 |" in text
    assert "> One line.\n> Another." in text
    assert "cut at its token limit" in text
    assert "the first 2 of 1,234 characters" in text
    assert all(f"{name} | {value}" in text for name, value in totals(made()))


def test_the_report_says_where_prices_come_from_and_how_good_the_model_is() -> None:
    text = report(made(), AGENTS, PASSAGES, datetime(2026, 11, 21, tzinfo=UTC))
    assert all(price.source in text for price, _ in made().costs_usd())
    assert "135 million parameters" in text
    assert "sometimes wrong" in text


def test_a_failed_agent_is_told_in_report_and_totals() -> None:
    failed = [AGENTS[0], Agent("b.md", "failed", error="too long")]
    assert dict(totals(made(failed)))["agents"] == "1 of 2"
    text = report(made(failed), failed, PASSAGES, datetime(2026, 11, 21, tzinfo=UTC))
    assert "> failed: too long" in text
