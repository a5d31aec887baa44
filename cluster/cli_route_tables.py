"""The tables of `shoal route evaluate` and `shoal route report`."""

from collections.abc import Mapping, Sequence

from rich.table import Column, Table
from rich.text import Text

from router.estimate import Estimate
from router.learned.frontier import Point
from router.learned.offpolicy import Value

PER = 1000
"""Costs are told of so many answers."""


def frontier_table(points: Sequence[Point]) -> Table:
    """A line for each policy and setting."""
    shown = _table("policy", "setting", "local", "quality", "95 %", f"$ per {PER:,}")
    for one in points:
        quality, paid = one.quality, f"{PER * one.cost_usd.value:.4f}"
        ends = f"{quality.low:.3f} - {quality.high:.3f}"
        shown.add_row(one.policy, Text(one.setting), f"{one.local_share:.0%}", f"{quality.value:.3f}", ends, paid)
    return shown


def savings_table(savings: Mapping[str, Estimate], share: float) -> Table:
    """What each way saves at most; the predictor with the threshold that is best for these very requests."""
    shown = _table("", f"saved at {share:.0%} of the cloud's quality", "95 %")
    for name, one in savings.items():
        told = f"{name}, at best" if name == "learned" else name
        shown.add_row(Text(told), f"{one.value:.1%}", f"{one.low:.1%} - {one.high:.1%}")
    return shown


def values_table(values: Mapping[str, tuple[Value, Value]]) -> Table:
    """Quality by three estimates, and cost by the last."""
    shown = _table("policy", "quality, IPS", "SNIPS", "doubly robust", f"$ per {PER:,}")
    for name, (quality, cost) in values.items():
        told = (f"{one.value:.3f} ({one.low:.3f} - {one.high:.3f})" for one in (quality.ips, quality.snips, quality.dr))
        paid = cost.dr
        ends = f"({PER * paid.low:.4f} - {PER * paid.high:.4f})"
        shown.add_row(Text(name), *told, f"{PER * paid.value:.4f} {ends}")
    return shown


def _table(first: str, *others: str) -> Table:
    numbers = (Column(name, justify="left" if name in ("setting", "policy") else "right") for name in others)
    return Table(first, *numbers, box=None, padding=(0, 2, 0, 0))
