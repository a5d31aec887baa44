"""The journal: every decision is followed to its end, counted, and told without a word of what was asked."""

import json
import pickle
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from replicas.engine import Chunk, Final, Finish, Usage
from replicas.errors import EngineFailed, NotFound, Overloaded
from router.budget.payer import Payer
from router.call import Call
from router.chain.failure import Reason
from router.chain.gate import Fault
from router.chain.tried import Tried
from router.journal.entry import BY_UNIT, JournalEntry, Option, Outcome, Try
from router.journal.journal import Journal
from router.journal.row import public
from router.journal.session import digest
from router.label import LIMIT
from router.origin import Origin
from router.policy.condition import one
from router.policy.constraints import Like
from router.policy.rule import Rule
from router.translate.source import Source
from tests.router.asked import HAIKU, OPUS, call, on_auto, policy
from tests.router.chains import chunk, end, skipping

CANARY = "canary-7f3a"


@dataclass
class Working:
    """An answer under way: whose it is, and who was tried."""

    model: str | None = "small"
    tries: Sequence[Tried] = field(default_factory=tuple)


class Kept:
    """A journal, what it keeps and what it counts."""

    def __init__(self) -> None:
        self.rows: list[JournalEntry] = []
        self.registry = CollectorRegistry()
        self.journal = Journal(self.registry, self.keep, lambda: 100.0)

    def keep(self, id_: str, word: Callable[[], JournalEntry]) -> None:
        row = word()
        assert row.id == id_
        self.rows.append(row)

    def counted(self, rule: str, model: str, outcome: Outcome) -> float | None:
        labels = {"rule": rule, "model": model, "outcome": outcome.value}
        return self.registry.get_sample_value("shoal_route_decisions_total", labels)

    def follow(
        self, asked: Call, *steps: list[Chunk] | Exception, work: Working | None = None, reads: int = 99
    ) -> None:
        """An answer of these steps, of which so many are read."""

        async def answer() -> AsyncGenerator[list[Chunk], None]:
            for step in steps:
                if isinstance(step, Exception):
                    raise step
                yield step

        async def read() -> None:
            record = self.journal.begun(asked, policy(policy="local-only").decide(asked), "ok")
            left = reads
            async with aclosing(record.follow(work or Working(), answer())) as stream:
                async for _ in stream:
                    left -= 1
                    if left == 0:
                        return

        with suppress(EngineFailed, Overloaded, ZeroDivisionError):
            skipping(read())


def test_an_answer_is_told_with_its_tokens_times_and_sureness() -> None:
    kept = Kept()
    final = Final(Finish.END, Usage(7, 2, 5), mean_logprob=-0.5, min_logprob=-2.0)
    kept.follow(call(), [], [chunk("a")], [chunk("b"), chunk(final=final)])
    [row] = kept.rows
    result = row.result
    assert (row.id, row.at, row.by, row.rule, row.chosen) == ("call-1", 100.0, "policy", "local-only", "small")
    assert row.options == (Option("small", 1.0), Option("large", 0.0))
    assert (result.outcome, result.answered_by, result.tries) == (
        Outcome.ANSWERED,
        "small",
        (Try("small", "answered"),),
    )
    assert (result.prompt, result.cached, result.generated) == (7, 5, 2)
    assert (result.mean_logprob, result.min_logprob, result.is_success) == (-0.5, -2.0, True)
    assert result.ttft_s is not None
    assert 0 <= result.ttft_s <= result.latency_s
    assert kept.counted("policy local-only", "small", Outcome.ANSWERED) == 1


def test_whose_caller_reads_the_end_and_goes_is_answered() -> None:
    kept = Kept()
    kept.follow(call(), [chunk("a")], [end()], reads=2)
    assert kept.rows[0].result.outcome is Outcome.ANSWERED


def test_whose_caller_goes_before_the_end_has_left_with_what_was_made() -> None:
    kept = Kept()
    kept.follow(call(), [chunk("a")], [chunk("b")], [end()], reads=1)
    result = kept.rows[0].result
    assert (result.outcome, result.answered_by, result.generated) == (Outcome.LEFT, "small", 1)
    assert result.tries == (Try("small", "left"),)


@pytest.mark.parametrize(
    ("broken", "reason", "tried"),
    [
        (Overloaded("small", 1.0), "Overloaded", "busy"),
        (EngineFailed("x"), "EngineFailed", "broken"),
        (ZeroDivisionError(), "ZeroDivisionError", "broken"),
        ([end(Finish.ERROR, EngineFailed("x"))], "EngineFailed", "broken"),
        ([end(Finish.CANCELLED)], "EngineFailed", "broken"),
    ],
)
def test_an_answer_that_fails_is_told_with_its_error(broken: Exception | list[Chunk], reason: str, tried: str) -> None:
    kept = Kept()
    kept.follow(call(), [], broken)
    result = kept.rows[0].result
    assert (result.outcome, result.reason, result.answered_by) == (Outcome.FAILED, reason, "")
    assert (result.tries, result.ttft_s) == ((Try("small", tried),), None)
    assert kept.counted("policy local-only", "", Outcome.FAILED) == 1


def test_the_tries_of_a_chain_are_told_with_their_checks_and_what_they_cost() -> None:
    kept = Kept()
    tries = [
        Tried("small", Reason.REJECTED, fault=Fault("refusal", "it declines"), cost_usd=0.0),
        Tried(HAIKU.name, Reason.BUSY, Overloaded("x", 1.0), cost_usd=0.0),
        Tried(OPUS.name, Reason.ANSWERED, cost_usd=0.25),
    ]
    kept.follow(call(), [chunk("a")], [end()], work=Working(OPUS.name, tries))
    result = kept.rows[0].result
    assert (result.outcome, result.answered_by, result.cost_nano) == (Outcome.ANSWERED, OPUS.name, 250_000_000)
    assert result.tries == (Try("small", "rejected", "refusal"), Try(HAIKU.name, "busy"), Try(OPUS.name, "answered"))


def test_an_answer_that_a_gate_had_kept_back_is_below_the_bar() -> None:
    kept = Kept()
    tries = [Tried("small", Reason.REJECTED, fault=Fault("length", "short")), Tried("small", Reason.ANSWERED)]
    kept.follow(call(), [chunk("a")], [end()], work=Working("small", tries))
    assert (kept.rows[0].result.outcome, kept.rows[0].result.reason) == (Outcome.BELOW_BAR, "length")
    assert not kept.rows[0].result.is_success


def test_who_could_not_be_asked_at_all_is_refused() -> None:
    kept = Kept()
    asked = call(model=CANARY)
    decision = policy().decide(asked)
    kept.journal.refused(asked, decision, "ok", NotFound("model", CANARY))
    [row] = kept.rows
    assert (row.options, row.chosen, row.rule, row.by) == ((), "", "", "model")
    assert (row.result.outcome, row.result.reason) == (Outcome.REFUSED, "NotFound")
    assert kept.counted("asked for by name", "", Outcome.REFUSED) == 1


def test_without_a_place_to_keep_them_decisions_are_counted_all_the_same() -> None:
    kept = Kept()

    kept.registry = CollectorRegistry()
    kept.journal = Journal(kept.registry)
    kept.follow(call(), [chunk("a")], [end()])
    assert kept.rows == []
    assert kept.counted("policy local-only", "small", Outcome.ANSWERED) == 1


def test_chance_is_told_with_its_odds_and_with_whom_it_passed_over() -> None:
    kept = Kept()
    decision = replace(policy(policy="local-only").decide(call()), odds={"large": 0.25, OPUS.name: 0.5, "small": 0.25})
    kept.journal.refused(call(), decision, "ok", EngineFailed("x"))
    assert kept.rows[0].options == (Option("small", 0.25), Option("large", 0.25), Option(OPUS.name, 0.5))
    assert BY_UNIT not in kept.rows[0].features


def test_odds_of_a_session_are_told_from_those_of_a_request() -> None:
    kept = Kept()
    drawn = replace(policy().decide(call()), odds={"small": 1.0}, is_drawn_by_unit=True)
    kept.journal.refused(call(), drawn, "ok", EngineFailed("x"))
    assert kept.rows[0].features[BY_UNIT] is True


def test_nothing_is_worded_before_whoever_keeps_it_asks_for_it() -> None:
    words: list[Callable[[], JournalEntry]] = []
    journal = Journal(CollectorRegistry(), lambda _, word: words.append(word), lambda: 100.0)
    asked = replace(call(), source=Source("openai", json.dumps({"user": CANARY}).encode()))
    journal.refused(asked, policy().decide(asked), "ok", EngineFailed("x"))
    assert CANARY.encode() not in pickle.dumps(words)  # nor is the body held that long
    assert [word().id for word in words] == ["call-1"]


def test_a_row_has_what_may_be_known_of_a_request_and_not_a_word_of_it() -> None:
    kept = Kept()
    origin = Origin(role="reviewer", agent="a1", headers={"x-team": CANARY}, payer=Payer("k1", CANARY))
    rule = Rule("team", on_auto(one("header:x-team", Like((frozenset({"*"}),)))), to=("small",))
    asked = replace(call(f"fix the bug in this python code {CANARY}", origin=origin), session_id=f"k1/{CANARY}")
    decision = policy(rule).decide(asked, "low")
    kept.journal.refused(asked, decision, "low", EngineFailed(CANARY))
    [row] = kept.rows
    assert CANARY not in repr(row)
    assert (row.rule, row.key_id, row.session) == ("team", "k1", digest(f"k1/{CANARY}"))
    told = {"role": "reviewer", "agent": "a1", "budget": "low", "code": True, "language": "en", "tools": 0}
    assert told.items() <= row.features.items()


def test_of_a_private_request_there_are_numbers_and_flags_alone() -> None:
    kept = Kept()
    asked = call("hello", origin=Origin(role=CANARY, agent=CANARY, is_private=True), model=CANARY)
    kept.journal.refused(asked, policy().decide(asked), "ok", EngineFailed("x"))
    [row] = kept.rows
    assert row.is_private
    assert CANARY not in repr(row)
    assert {type(value) for value in row.features.values()} <= {int, bool}
    assert row.features["tokens_in"] == 5


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans()), st.booleans())
def test_what_is_kept_of_features_fits_any_database(features: dict[str, str | int | bool], is_private: bool) -> None:
    kept = public(features, is_private=is_private)
    assert all(not name.startswith("header:") for name in kept)
    texts = [value for value in kept.values() if isinstance(value, str)]
    assert all("\0" not in text and len(text) <= LIMIT and text.encode("utf-8") is not None for text in texts)
    assert not (is_private and texts)


def test_a_name_that_is_too_long_for_the_store_is_cut() -> None:
    kept = Kept()
    kept.follow(call(), [chunk("a")], [end()], work=Working("m" * (LIMIT + 1)))
    assert kept.rows[0].result.answered_by == "m" * LIMIT
