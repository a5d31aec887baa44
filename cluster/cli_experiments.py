"""`shoal experiments`: which there are and what they have shown, from the journal. No instance has to run."""

import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from cluster.cli_keys import opened
from cluster.console import err, out, print_json
from cluster.experiments import experiments_of
from cluster.options import ConfigOption, JsonOption
from cluster.routing import routing_of
from cluster.settings import load_settings
from replicas.errors import NotFound
from router.experiments.experiment import Experiment, Variant

if TYPE_CHECKING:
    from router.estimate import Estimate
    from router.experiments.report import Report

experiments_app = typer.Typer(no_args_is_help=True, help="Experiments between policies, models and prompts.")

DAY_S = 86_400.0
WHOLE = (
    "The p-values hold whenever and however often this is looked at: they read the first value of each session, key or "
    "request alone, which no later score changes."
)
IN_PART = "The p-values hold only for the whole experiment, without --days."
DAYS_HELP = "So far back; default: all that is kept."
DaysOption = Annotated[float | None, typer.Option("--days", min=0.001, max=3660, help=DAYS_HELP)]


@experiments_app.command("list")
def list_experiments(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the experiments of the settings, and how many decisions are in the journal of each variant."""
    experiments = configured(config)
    with opened(config) as store:
        counts = {
            one.name: Counter(entry.variant for entry in store.decisions.since(0.0, one.name)) for one in experiments
        }
    rows = [told(one, counts[one.name]) for one in experiments]
    if as_json:
        print_json(rows)
    elif not rows:
        err.print("no experiments: `experiments:` in the settings makes some")
    else:
        out.print(listed(experiments, counts))


@experiments_app.command("report")
def report_command(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    days: DaysOption = None,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence of the intervals.")] = 0.95,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the variants of an experiment with the first of them."""
    from router.experiments.report import report  # late: what computes is not needed by other commands

    experiments = {one.name: one for one in configured(config)}
    if name not in experiments:
        raise NotFound("experiment", name, f"there is {', '.join(experiments) or 'none'} in the settings")
    names = [variant.name for variant in experiments[name].variants]
    since = 0.0 if days is None else time.time() - days * DAY_S
    with opened(config) as store:
        found = report(name, names, store.decisions.since(since, name), level)
        cut_at = store.decisions.cut_at(name)
    stands, words = standing(days, cut_at)
    if as_json:
        print_json({**asdict(found), "p_values_hold": stands, "p_values": words})
        return
    out.print(variant_table(found))
    out.print(comparison_table(found))
    out.print(f"Intervals of {level:.0%} are for one look. {words}", highlight=False)


def standing(days: float | None, cut_at: float | None) -> tuple[bool, str]:
    """Whether the p-values of a report hold that goes so far back, of an experiment whose decisions up to `cut_at`
    (seconds since 1970) may be gone; and for what, in words."""
    if cut_at is not None:
        day = datetime.fromtimestamp(cut_at, UTC).date()
        return False, (
            f"The p-values do not hold: decisions of this experiment up to {day} are no longer in the journal "
            "(journal.keep_experiment_days, journal.keep_rows). An experiment of a new name begins anew."
        )
    return (True, WHOLE) if days is None else (False, IN_PART)


def configured(config: Path | None) -> tuple[Experiment, ...]:
    """The experiments of the settings. Raises SettingsError."""
    settings = load_settings(config)
    return experiments_of(settings, routing_of(settings))


def told(one: Experiment, counts: Counter[str]) -> dict[str, object]:
    """An experiment as JSON."""
    total = sum(variant.weight for variant in one.variants)
    variants = [
        {
            "name": variant.name,
            "share": one.share * variant.weight / total,
            "changes": changes(variant),
            "decisions": counts[variant.name],
        }
        for variant in one.variants
    ]
    return {"name": one.name, "rule": one.rule, "share": one.share, "variants": variants}


def changes(variant: Variant) -> str:
    """What a variant changes, in words."""
    sends = variant.sends
    target = "" if sends is None else f"to {sends.policy or ', '.join(sends.to)}"
    return ", ".join(part for part in (target, "a system prompt" if variant.system else "") if part) or "nothing"


def listed(experiments: tuple[Experiment, ...], counts: dict[str, Counter[str]]) -> Table:
    """The experiments, a line each variant."""
    numbers = (Column(name, justify="right") for name in ("share", "decisions"))
    shown = Table("experiment", "requests of", "variant", "changes", *numbers, box=None, padding=(0, 2, 0, 0))
    for one in experiments:
        total = sum(variant.weight for variant in one.variants)
        for variant in one.variants:
            share = f"{one.share * variant.weight / total:.1%}"
            whose = "the policy" if one.rule is None else f"rule {one.rule!r}"
            words = (Text(text) for text in (one.name, whose, variant.name, changes(variant)))
            shown.add_row(*words, share, f"{counts[one.name][variant.name]:,}")
    return shown


def variant_table(found: "Report") -> Table:
    """The variants, a line each; the first is the control."""
    names = ("decisions", "answers", "units", "success", "score", "p50 s", "p95 s", "$/answer")
    shown = Table("variant", *(Column(name, justify="right") for name in names), box=None, padding=(0, 2, 0, 0))
    for one in found.variants:
        counts = (f"{one.decisions:,}", f"{one.answers:,}", f"{one.units:,}")
        means = (estimate(one.success), estimate(one.score))
        numbers = (number(one.latency_p50_s, 3), number(one.latency_p95_s, 3), number(one.cost_per_answer_usd, 6))
        shown.add_row(Text(one.name), *counts, *means, *numbers)
    return shown


def comparison_table(found: "Report") -> Table:
    """What the variants have more than the control, a line each measure."""
    numbers = (Column(name, justify="right") for name in ("difference", "p"))
    title = f"against {found.variants[0].name}"
    shown = Table(title, "measure", *numbers, box=None, padding=(0, 2, 0, 0))
    for one in found.comparisons:
        difference = estimate(one.difference, "+")
        shown.add_row(Text(one.variant), one.measure, difference, f"{one.p_value:.4f}")
    return shown


def estimate(found: "Estimate | None", sign: str = "") -> str:
    """A value with its interval."""
    return "-" if found is None else f"{found.value:{sign}.3f} ({found.low:{sign}.3f} .. {found.high:{sign}.3f})"


def number(value: float | None, digits: int) -> str:
    """A number, if there is one."""
    return "-" if value is None else f"{value:.{digits}f}"
