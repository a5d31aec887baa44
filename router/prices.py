"""What tokens cost at well-known clouds, from a dated data file (prices.json), to say what local work has saved.

Each price names its source and the day it was read; the file is checked when it is loaded. Prices are per million
tokens and change without notice: a figure from here is always shown with `as_of`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from replicas.cloud.answer import Spent
from replicas.engine import Usage
from replicas.errors import NotFound, SettingsError

MILLION = 1_000_000

Usd = Annotated[float, Field(strict=True, ge=0, le=10_000, allow_inf_nan=False)]
Words = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens of one cloud model, and where and when that was read.

    To write a prompt to the cloud's cache costs as much as to read it, where nothing else is said.
    """

    id: str
    vendor: str
    input_usd: float
    cached_input_usd: float
    output_usd: float
    source: str
    read_on: date
    cache_write_usd: float | None = None
    cache_write_1h_usd: float | None = None

    def cost_usd(self, usage: Usage) -> float:
        """What `usage` costs; its cached prompt tokens at the cached price."""
        fresh = (usage.prompt - usage.cached) * self.input_usd
        return (fresh + usage.cached * self.cached_input_usd + usage.generated * self.output_usd) / MILLION

    def spent_usd(self, spent: Spent) -> float:
        """What a cloud charges: by its own word, else for the tokens it counted, those of its cache as such."""
        if spent.cost_usd is not None:
            return spent.cost_usd
        write, write_1h = self._writes_usd
        longer = min(spent.cache_write_1h, spent.cache_write)
        extra = (spent.cache_write - longer) * (write - self.input_usd) + longer * (write_1h - self.input_usd)
        return self.cost_usd(spent.usage) + extra / MILLION

    def worst_usd(self, tokens_in: int, tokens_out: int, *, is_kept_1h: bool = True) -> float:
        """The most that so many tokens cost: none read from the cache, all written to it, for an hour if kept so."""
        write, write_1h = self._writes_usd
        dearest = max(self.input_usd, write, write_1h if is_kept_1h else 0.0)
        return (tokens_in * dearest + tokens_out * self.output_usd) / MILLION

    @property
    def _writes_usd(self) -> tuple[float, float]:
        write = self.input_usd if self.cache_write_usd is None else self.cache_write_usd
        return write, write if self.cache_write_1h_usd is None else self.cache_write_1h_usd


@dataclass(frozen=True, slots=True)
class PriceList:
    """All the prices, valid `as_of` that day."""

    as_of: date
    prices: tuple[Price, ...]

    def price(self, model: str) -> Price:
        """The price of `model`. Raises NotFound with the names there are."""
        for price in self.prices:
            if price.id == model:
                return price
        raise NotFound("price", model, "there is " + ", ".join(price.id for price in self.prices))

    def having(self, prices: Sequence[Price]) -> "PriceList":
        """With `prices` in the place of those of the same names."""
        new = {price.id for price in prices}
        return PriceList(self.as_of, (*(price for price in self.prices if price.id not in new), *prices))


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: Words
    vendor: Words
    input: Usd
    cached_input: Usd
    output: Usd
    source: Words
    read_on: date
    cache_write: Usd | None = None
    cache_write_1h: Usd | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    as_of: date
    unit: Words
    models: Annotated[list[_Entry], Field(min_length=1)]


@cache
def price_list() -> PriceList:
    """The prices that come with Shoal."""
    return read_prices(files("router").joinpath("prices.json").read_bytes())


def read_prices(data: bytes) -> PriceList:
    """Check and read a price file. Raises SettingsError."""
    try:
        found = _File.model_validate_json(data)
    except ValidationError as error:
        raise SettingsError(f"the price file is not valid: {error}") from error
    names = [entry.id for entry in found.models]
    if len(set(names)) < len(names):
        raise SettingsError("the price file names a model twice")
    prices = (
        Price(e.id, e.vendor, e.input, e.cached_input, e.output, e.source, e.read_on, e.cache_write, e.cache_write_1h)
        for e in found.models
    )
    return PriceList(found.as_of, tuple(prices))


def cost_usd(model: str, usage: Usage) -> float:
    """What `usage` would have cost on the cloud model `model`. Raises NotFound."""
    return price_list().price(model).cost_usd(usage)
