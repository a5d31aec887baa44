"""`shoal costs`: what was spent on clouds, and what the local answers have saved. No instance has to run.

Savings are against one cloud model for everything, at its price on the day of each answer: a comparison of prices, not
of quality. Tokens are those that the model counted which answered.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from cluster.cli_keys import opened
from cluster.console import out, print_json
from cluster.money_settings import baseline_of, budgets_of
from cluster.options import ConfigOption, JsonOption
from cluster.settings import load_settings
from router.budget import Budget
from router.budget.money import usd_of
from router.store import Entry, Store


class By(StrEnum):
    """What spending is told apart by."""

    MODEL = "model"
    AGENT = "agent"
    RULE = "rule"
    DAY = "day"
    KEY = "key"
    JOB = "job"


READ: dict[By, Callable[[Entry], str]] = {
    By.MODEL: lambda entry: entry.model,
    By.AGENT: lambda entry: entry.agent,
    By.RULE: lambda entry: entry.rule,
    By.DAY: lambda entry: entry.day,
    By.KEY: lambda entry: entry.key_id,
    By.JOB: lambda entry: entry.job,
}
SHOWN = (By.MODEL, By.AGENT, By.RULE, By.DAY)


def costs(
    by: Annotated[list[By] | None, typer.Option(help="May be repeated; default model, agent, rule, day.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="Today and the days before it, UTC.")] = 30,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was spent, what local answers saved, and how the budgets stand."""
    settings = load_settings(config)
    baseline, today = baseline_of(settings.costs), datetime.now(UTC).date()
    since = today - timedelta(days=days - 1)
    with opened(config) as store:
        entries = store.ledger.since(since.isoformat())
        accounts = stand(budgets_of(settings.budgets), store, today)
    groups = {one: grouped(entries, READ[one]) for one in by or SHOWN}
    if as_json:
        told = {"since": since.isoformat(), "until": today.isoformat(), "baseline": baseline and baseline.id}
        by_name = {one.value: rows for one, rows in groups.items()}
        print_json({**told, "total": sums(entries), "by": by_name, "budgets": accounts})
        return
    total = sums(entries)
    words = f"{total['answers']:,} answers since {since}: ${total['spent_usd']:.4f} spent"
    if baseline is not None:
        words += (
            f", ${total['saved_usd']:.4f} saved against ${total['baseline_usd']:.4f} for all of them on {baseline.id}"
        )
    out.print(words, highlight=False, markup=False)
    for one, rows in groups.items():
        out.print(table(one, rows))
    if accounts:
        out.print(budget_table(accounts))


def sums(entries: Sequence[Entry]) -> dict[str, int | float]:
    """All of `entries` together."""
    spent, baseline = (sum(one.cost_nano for one in entries), sum(one.baseline_nano for one in entries))
    return {
        "answers": sum(one.answers for one in entries),
        "prompt_tokens": sum(one.prompt for one in entries),
        "cached_tokens": sum(one.cached for one in entries),
        "generated_tokens": sum(one.generated for one in entries),
        "spent_usd": usd_of(spent),
        "baseline_usd": usd_of(baseline),
        "saved_usd": usd_of(baseline - spent),
    }


def grouped(entries: Sequence[Entry], name_of: Callable[[Entry], str]) -> list[dict[str, str | int | float]]:
    """The sums by name, in the order of names."""
    names = sorted({name_of(entry) for entry in entries})
    return [{"name": name, **sums([one for one in entries if name_of(one) == name])} for name in names]


def stand(budgets: Sequence[Budget], store: Store, today: date) -> list[dict[str, str | float]]:
    """What is taken of every budget in its present period, also by calls that are under way, and what of that nobody
    settled: the process that had reserved it died, or the store was away for too long."""
    periods = sorted({budget.period_of(today) for budget in budgets})
    taken, unsettled = store.budgets.accounts(periods), store.budgets.unsettled(periods, time.time())
    rows: list[dict[str, str | float]] = []
    for budget in budgets:
        found = {whose: nano for (whose, period), nano in taken.items() if period == budget.period_of(today)}
        own = {whose: nano for whose, nano in found.items() if whose.partition("/")[0] == budget.name}
        for whose, nano in (own or {budget.name: 0}).items():
            row: dict[str, str | float] = {"budget": whose, "period": (period := budget.period_of(today))}
            open_usd = usd_of(unsettled.get((whose, period), 0))
            rows.append(
                {**row, "taken_usd": usd_of(nano), "unsettled_usd": open_usd, "limit_usd": usd_of(budget.limit_nano)}
            )
    return rows


def table(by: By, rows: Sequence[dict[str, str | int | float]]) -> Table:
    """The sums, a line each."""
    numbers = ("answers", "prompt tokens", "generated tokens", "spent $", "saved $")
    shown = Table(by.value, *(Column(name, justify="right") for name in numbers), box=None, padding=(0, 2, 0, 0))
    for row in rows:
        counts = (f"{row[name]:,}" for name in ("answers", "prompt_tokens", "generated_tokens"))
        money = (f"{row[name]:.4f}" for name in ("spent_usd", "saved_usd"))
        shown.add_row(Text(str(row["name"]) or "-"), *counts, *money)
    return shown


def budget_table(rows: Sequence[dict[str, str | float]]) -> Table:
    """The budgets, a line each."""
    numbers = (Column(name, justify="right") for name in ("taken $", "unsettled $", "limit $"))
    shown = Table("budget", "period", *numbers, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        money = (f"{row[name]:.4f}" for name in ("taken_usd", "unsettled_usd", "limit_usd"))
        shown.add_row(Text(str(row["budget"])), Text(str(row["period"])), *money)
    return shown
