"""The sections `budgets:` and `costs:` of the settings, and what becomes of them."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from cluster.routing_settings import Name
from cluster.section import Section
from replicas.errors import NotFound, SettingsError
from router.budget import Budget
from router.budget.money import nano_of
from router.prices import Price, PriceList, price_list

Usd = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]


class BudgetSettings(Section):
    """At most `usd` in a `period` (of UTC) for clouds: for all together, or for `each` key or job. `keys` are patterns
    of ids or names of keys; those that share a budget are a team."""

    name: Name
    usd: float = Field(gt=0, le=1_000_000_000, allow_inf_nan=False)
    period: Literal["day", "month", "total"] = "day"
    each: Literal["key", "job"] | None = None
    keys: tuple[str, ...] = ()


class PriceSettings(Section):
    """A price of one's own, in USD per million tokens. Null: as `input`; for an hour in the cache: as `cache_write`."""

    name: str = Field(min_length=1, max_length=200)
    input: Usd
    output: Usd
    cached_input: Usd | None = None
    cache_write: Usd | None = None
    cache_write_hour: Usd | None = None
    read_on: date | None = None


class CostSettings(Section):
    """What clouds cost. `baseline`: the model that savings are counted against; the default is the cheapest of its
    vendor, so that they are not made large."""

    baseline: str | None = "claude-haiku-4-5"
    prices: tuple[PriceSettings, ...] = ()


def budgets_of(written: tuple[BudgetSettings, ...]) -> tuple[Budget, ...]:
    """The budgets. Raises SettingsError for a name that two have."""
    names = [budget.name for budget in written]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"budgets: two are called {twice!r}")
    return tuple(Budget(one.name, nano_of(one.usd), one.period, one.each, one.keys) for one in written)


def prices_of(costs: CostSettings) -> PriceList:
    """The prices that come with Shoal, and those of the settings before them. Raises SettingsError."""
    names = [price.name for price in costs.prices]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"costs.prices: {twice!r} is there twice")
    shipped = price_list()
    return shipped.having([_price(price, shipped.as_of) for price in costs.prices])


def baseline_of(costs: CostSettings) -> Price | None:
    """What savings are counted against. Raises SettingsError for a model without a price."""
    if costs.baseline is None:
        return None
    try:
        return prices_of(costs).price(costs.baseline)
    except NotFound as missing:
        raise SettingsError(f"costs.baseline: {missing}") from missing


def _price(written: PriceSettings, as_of: date) -> Price:
    cached = written.input if written.cached_input is None else written.cached_input
    read_on = written.read_on or as_of
    writes = (written.cache_write, written.cache_write_hour)
    return Price(written.name, "settings", written.input, cached, written.output, "settings", read_on, *writes)
