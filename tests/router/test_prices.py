"""The price file."""

import json
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.cloud.answer import Spent
from replicas.engine import Usage
from replicas.errors import NotFound, SettingsError
from router.prices import Price, cost_usd, price_list, read_prices

ENTRY = {
    "id": "m",
    "vendor": "v",
    "input": 2.0,
    "cached_input": 0.5,
    "output": 10.0,
    "source": "a page",
    "read_on": "2026-11-21",
}


def file(*entries: object) -> bytes:
    return json.dumps({"as_of": "2026-11-21", "unit": "USD", "models": entries}).encode()


def test_cached_tokens_cost_the_cached_price() -> None:
    price = Price("m", "v", 2.0, 0.5, 10.0, source="a page", read_on=date(2026, 11, 21))
    assert price.cost_usd(Usage(prompt=3_000_000, cached=1_000_000, generated=100_000)) == pytest.approx(5.5)
    assert price.cost_usd(Usage(0, 0)) == 0.0


PRICE = Price("m", "v", 2.0, 0.5, 10.0, "a page", date(2026, 11, 21), cache_write_usd=2.5, cache_write_1h_usd=4.0)


def test_tokens_that_a_cloud_writes_to_its_cache_cost_what_that_costs() -> None:
    spent = Spent(Usage(3_000_000, 100_000, cached=1_000_000), cache_write=1_000_000, cache_write_1h=200_000)
    assert PRICE.spent_usd(spent) == pytest.approx(1 * 2.0 + 1 * 0.5 + 0.8 * 2.5 + 0.2 * 4.0 + 0.1 * 10.0)


def test_what_a_cloud_says_it_charges_is_what_was_spent() -> None:
    assert PRICE.spent_usd(Spent(Usage(1_000_000, 1_000_000), cost_usd=0.25)) == 0.25


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_no_answer_costs_more_than_the_worst_case(prompt: int, generated: int, data: st.DataObject) -> None:
    cached = data.draw(st.integers(0, prompt))
    write = data.draw(st.integers(0, prompt - cached))
    spent = Spent(Usage(prompt, generated, cached), write, data.draw(st.integers(0, write)))
    assert PRICE.spent_usd(spent) <= PRICE.worst_usd(prompt, generated) * (1 + 1e-9) + 1e-9


def test_prices_of_ones_own_come_before_those_of_the_same_name() -> None:
    own = replace(PRICE, id="claude-haiku-4-5")
    found = price_list().having([own, PRICE])
    assert (found.price("claude-haiku-4-5"), found.price("m")) == (own, PRICE)
    assert len(found.prices) == len(price_list().prices) + 1


def test_the_prices_that_come_along_are_sane_and_name_their_source() -> None:
    found = price_list()
    assert len({price.vendor for price in found.prices}) >= 2
    for price in found.prices:
        assert 0 < price.cached_input_usd < price.input_usd < price.output_usd
        assert "https://" in price.source
        assert price.read_on <= found.as_of


def test_a_cost_can_be_asked_by_name() -> None:
    assert cost_usd("claude-opus-5-5", Usage(prompt=1_000_000, generated=0)) == pytest.approx(4.0)


def test_a_model_without_a_price_is_not_found() -> None:
    with pytest.raises(NotFound, match="there is claude-opus-5-5"):
        cost_usd("nothing", Usage(1, 1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        file(),
        file(ENTRY, ENTRY),
        file({**ENTRY, "input": -1.0}),
        file({**ENTRY, "output": "10"}),
        file({**ENTRY, "source": ""}),
        file({**ENTRY, "read_on": "soon"}),
        file({**ENTRY, "inputs": 1.0}),
    ],
)
def test_a_wrong_price_file_is_refused(data: bytes) -> None:
    with pytest.raises(SettingsError, match="the price file"):
        read_prices(data)


def test_a_right_price_file_is_read() -> None:
    assert read_prices(file(ENTRY)).price("m").output_usd == 10.0
