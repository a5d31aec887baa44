"""`shoal costs`: what is in the ledger, added up by what was asked for, and how the budgets stand."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from router.budget import Claim, Reservation
from router.store import Entry, StoreAddress, open_store
from tests.cluster.command import Shell

TODAY = datetime.now(UTC).date()
SETTINGS = """
budgets:
  - {name: all, usd: 5}
  - {name: jobs, usd: 1, each: job, period: total}
  - {name: crawlers, usd: 2, keys: ["crawler-*"], period: month}
costs:
  baseline: mine
  prices:
    - {name: mine, input: 1.0, output: 5.0, read_on: 2026-11-01}
"""


def entry(model: str, day: date = TODAY, cost_nano: int = 0, **names: str) -> Entry:
    named = {"key_id": "k", "job": "", "agent": "", "rule": "policy cheapest", **names}
    sums = {"answers": 2, "prompt": 30, "cached": 10, "generated": 4, "baseline_nano": 500_000_000}
    return Entry(day=day.isoformat(), model=model, cost_nano=cost_nano, **named, **sums)  # type: ignore[arg-type]  # fields by name


@pytest.fixture
def shoal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shoal.yaml").write_text(SETTINGS)
    store = open_store(StoreAddress.of_file(tmp_path / "shoal.sqlite"))
    old = entry("local", TODAY - timedelta(days=40))
    store.ledger.add([entry("local", agent="a"), entry("acme/big", cost_nano=250_000_000, job="j1"), old])
    claims = (Claim("all", TODAY.isoformat(), 10**10), Claim("jobs/j1", "all", 10**10))
    store.budgets.reserve(Reservation("r", 250_000_000, 1e12, claims))
    store.budgets.reserve(Reservation("lost", 50_000_000, 1.0, claims[:1]))
    store.close()
    return Shell(monkeypatch, capsys)


def test_the_total_is_what_was_spent_and_what_was_saved(shoal: Shell) -> None:
    told = json.loads(shoal("costs", "--json").out)
    assert (told["baseline"], told["until"]) == ("mine", TODAY.isoformat())
    assert told["total"] == {
        "answers": 4,
        "prompt_tokens": 60,
        "cached_tokens": 20,
        "generated_tokens": 8,
        "spent_usd": 0.25,
        "baseline_usd": 1.0,
        "saved_usd": 0.75,
    }


def test_spending_is_told_by_model_agent_rule_and_day(shoal: Shell) -> None:
    by = json.loads(shoal("costs", "--json").out)["by"]
    found = {name: [(row["name"], row["spent_usd"], row["saved_usd"]) for row in rows] for name, rows in by.items()}
    assert found["model"] == [("acme/big", 0.25, 0.25), ("local", 0.0, 0.5)]
    assert found["agent"] == [("", 0.25, 0.25), ("a", 0.0, 0.5)]
    assert found["rule"] == [("policy cheapest", 0.25, 0.75)]
    assert found["day"] == [(TODAY.isoformat(), 0.25, 0.75)]


def test_it_can_be_told_by_key_and_job_and_for_more_days(shoal: Shell) -> None:
    told = json.loads(shoal("costs", "--by", "job", "--by", "key", "--days", "60", "--json").out)
    assert {name: [(row["name"], row["answers"]) for row in rows] for name, rows in told["by"].items()} == {
        "job": [("", 4), ("j1", 2)],
        "key": [("k", 6)],
    }


def test_budgets_are_told_with_what_is_taken_of_them(shoal: Shell) -> None:
    rows = json.loads(shoal("costs", "--json").out)["budgets"]
    assert [(row["budget"], row["taken_usd"], row["unsettled_usd"], row["limit_usd"]) for row in rows] == [
        ("all", 0.3, 0.05, 5.0),
        ("jobs/j1", 0.25, 0.0, 1.0),
        ("crawlers", 0.0, 0.0, 2.0),
    ]


def test_people_read_the_same(shoal: Shell) -> None:
    told = shoal("costs")
    assert told.status == 0
    assert "$0.2500 spent, $0.7500 saved against $1.0000 for all of them on mine" in told.out
    assert all(word in told.out for word in ("acme/big", "policy cheapest", "jobs/j1", "limit $"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("costs: {baseline: nothing}", "costs.baseline: price 'nothing' does not exist"),
        ("budgets: [{name: a, usd: 1}, {name: a, usd: 2}]", "two are called 'a'"),
        ("budgets: [{name: a/b, usd: 1}]", "budgets.0.name"),
        ("budgets: [{name: a, usd: 0}]", "greater than 0"),
        ("costs: {prices: [{name: a, input: 1, output: 1}, {name: a, input: 1, output: 1}]}", "'a' is there twice"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(shoal: Shell, text: str, words: str) -> None:
    Path("shoal.yaml").write_text(text)
    told = shoal("costs")
    assert told.status == 1
    assert words in " ".join(told.err.split())
