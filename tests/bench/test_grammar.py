"""What bench.grammar counts, on a tiny model that talks nonsense within its grammars."""

from bench.grammar import Price, Validity, aims, prices, validity
from replicas.slot import SlotConfig, SlotEngine
from tests.replicas.engines import tiny


def test_answers_of_an_engine_that_ended_by_themselves_are_valid_under_their_schemas() -> None:
    engine = SlotEngine(tiny(), SlotConfig(slots=8, max_len=512, threads=1, provider="cpu"))
    found = validity(engine, 40)
    engine.close()
    assert found.invalid == ()
    assert 0 < found.valid == found.ended <= 40
    assert 0 < found.forced < found.tokens


def test_a_price_is_taken_for_every_grammar() -> None:
    engine = SlotEngine(tiny(), SlotConfig(slots=2, max_len=512, threads=1, provider="cpu"))
    paid = prices(engine, 2, rounds=1)
    engine.close()
    assert [price.grammar for price in paid] == ["any text", "JSON strings"]
    assert all(price.with_tokens_s > 0 < price.without_tokens_s for price in paid)


def test_the_cost_is_the_part_of_the_speed_that_is_lost() -> None:
    assert Price(8, "any text", without_tokens_s=100.0, with_tokens_s=95.0).cost == 1 - 0.95


def test_one_invalid_answer_and_one_dear_grammar_miss_their_own_aims() -> None:
    good = Validity(schemas=500, ended=400, valid=400, tokens=9, forced=3, time_s=1.0, invalid=())
    bad = Validity(schemas=500, ended=400, valid=399, tokens=9, forced=3, time_s=1.0, invalid=(7,))
    cheap, dear = Price(1, "any text", 100.0, 95.5), Price(8, "JSON strings", 100.0, 94.0)
    assert [aim.is_reached for aim in aims(good, [cheap, dear])] == [True, True, False]
    assert [aim.is_reached for aim in aims(bad, [cheap])] == [False, True]


def test_without_an_answer_that_ended_nothing_is_called_valid() -> None:
    none = Validity(schemas=500, ended=0, valid=0, tokens=9, forced=3, time_s=1.0, invalid=())
    assert not aims(none, [])[0].is_reached
