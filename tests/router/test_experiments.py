"""Experiments: who gets which variant, for good; what a variant changes; and that none takes a private request out."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.engine import Message
from router.anthropic.request import parse_messages
from router.budget.payer import Payer
from router.call import Call
from router.experiments.assignment import point, variant_of
from router.experiments.experiment import Experiment, Variant
from router.experiments.prompt import with_system
from router.experiments.trials import Experiments
from router.openai.choices import several
from router.openai.request import parse_chat
from router.origin import Origin
from router.policy.condition import ALWAYS, one
from router.policy.constraints import Like
from router.policy.decision import Decision, Trial
from router.policy.rule import POLICIES, PolicyName, Rule
from router.unit import unit_of
from tests.router.asked import ALL, HAIKU, OPUS, call, on_auto, policy

SECRET = "jane@acme.com"
PREFIX = "Answer in one sentence."
CONTROL = Variant("as-ever")
LARGE = Variant("large", sends=Rule("large", to=("large",)))
CLOUD = Variant("cloud", sends=Rule("cloud", to=(OPUS.name, "small")))
BRIEF = Variant("brief", system=PREFIX)
UNITS = [f"session {number}" for number in range(4000)]
LOCAL = {one.name for one in ALL if one.is_local}


def ran(experiment: Experiment, unit: str) -> str | None:
    found = variant_of(experiment, unit)
    return None if found is None else found.name


def decided(asked: Call, *experiments: Experiment, rules: tuple[Rule, ...] = ()) -> tuple[Call, Decision]:
    return Experiments(experiments, policy(*rules)).decide(asked)


def unit(asked: Call) -> str:
    return unit_of(asked.session_id, asked.origin.payer.key_id, asked.id)


def seated(experiment: Experiment, name: str) -> Call:
    """A request that gets the variant `name`."""
    calls = (replace(call(), session_id=str(number)) for number in range(1000))
    return next(asked for asked in calls if ran(experiment, unit(asked)) == name)


def test_a_variant_is_the_same_in_every_process_and_version() -> None:
    assert [round(point(text), 6) for text in ("", "a", "b")] == [0.866604, 0.26259, 0.629407]
    experiment = Experiment("e", (CONTROL, LARGE, BRIEF), 0.75)
    seats = ["brief", "as-ever", None, None, "large", "brief"]
    assert [ran(experiment, f"session {number}") for number in range(6)] == seats


@given(st.text(), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_larger_share_moves_nobody_who_takes_part(unit: str, first: float, second: float) -> None:
    low, high = sorted((first, second))
    experiment = Experiment("e", (CONTROL, LARGE, BRIEF), low)
    before = ran(experiment, unit)
    assert before is None or ran(replace(experiment, share=high), unit) == before


def test_shares_and_weights_are_kept() -> None:
    experiment = Experiment("e", (replace(CONTROL, weight=3.0), LARGE), 0.5)
    counts = Counter(ran(experiment, unit) for unit in UNITS)
    assert counts[None] == pytest.approx(2000, abs=130)  # four standard deviations
    assert counts["as-ever"] == pytest.approx(1500, abs=130)


def test_two_experiments_draw_apart() -> None:
    first, second = (Experiment(name, (CONTROL, LARGE)) for name in ("e", "f"))
    both = sum(ran(first, unit) == ran(second, unit) for unit in UNITS)
    assert both == pytest.approx(2000, abs=130)


def test_a_conversation_keeps_its_variant_else_a_key_does_else_a_request_is_alone() -> None:
    key = Origin(payer=Payer("k1", "name"))
    assert unit(replace(call(origin=key), session_id="s")) == "session s"
    assert unit(call(origin=key)) == "key k1"
    assert unit(call()) == "request call-1"
    assert {unit(one) for one in several(replace(call(), id="chatcmpl-0123"), 3)} == {"request chatcmpl-0123"}


def test_a_variant_sends_its_requests_elsewhere_and_the_decision_says_so() -> None:
    experiment = Experiment("e", (CONTROL, LARGE))
    _, found = decided(seated(experiment, "large"), experiment)
    assert (found.names, found.trial) == (("large",), Trial("e", "large"))
    assert {verdict.why for verdict in found.lost} == {"the variant does not name it"}
    assert (found.by, found.rule, str(found.trial)) == ("policy", "prefer-local", "e=large")
    _, found = decided(seated(experiment, "as-ever"), experiment)
    assert (found.names[0], found.trial) == ("small", Trial("e", "as-ever"))


@pytest.mark.parametrize("name", POLICIES)
def test_a_variant_may_be_a_policy(name: PolicyName) -> None:
    sends = Variant("other", sends=Rule("other", policy=name))
    experiment = Experiment("e", (CONTROL, sends))
    asked = seated(experiment, "other")
    assert decided(asked, experiment)[1].names == policy(policy=name).decide(asked).names


def test_who_is_not_drawn_for_one_experiment_may_be_for_the_next() -> None:
    first, second = Experiment("e", (CONTROL, LARGE), 0.3), Experiment("f", (CONTROL, BRIEF))
    calls = [replace(call(), session_id=str(number)) for number in range(200)]
    trials = {str(decided(asked, first, second)[1].trial).split("=")[0] for asked in calls}
    assert trials == {"e", "f"}


RULE = Rule("reviews", on_auto(one("role", Like((frozenset({"reviewer"}),)))), to=("small",))


@pytest.mark.parametrize(
    ("rule", "asked", "takes_part"),
    [
        (None, call(), True),
        (None, call(model="large"), False),
        (None, call(origin=Origin(role="reviewer")), False),
        ("reviews", call(origin=Origin(role="reviewer")), True),
        ("reviews", call(), False),
        (None, call(origin=Origin(payer=Payer(job="j1"))), False),
    ],
)
def test_who_takes_part_is_told_by_what_decides(rule: str | None, asked: Call, takes_part: bool) -> None:
    _, found = decided(asked, Experiment("e", (CONTROL, LARGE), rule=rule), rules=(RULE,))
    assert (found.trial is not None) == takes_part


@given(st.lists(st.sampled_from([CONTROL, LARGE, CLOUD, BRIEF]), min_size=2, max_size=4), st.integers(0, 50))
def test_no_variant_takes_a_private_request_to_a_cloud(variants: list[Variant], session: int) -> None:
    named = tuple(replace(variant, name=str(number)) for number, variant in enumerate(variants))
    experiment = Experiment("e", named)
    for asked in (call(SECRET), call(origin=Origin(is_private=True))):
        _, found = decided(replace(asked, session_id=str(session)), experiment)
        assert set(found.names) <= LOCAL
        assert found.names
        assert set(found.chances) <= LOCAL
        assert (found.trial is None) == (CLOUD in variants)


def test_a_rules_mark_holds_in_every_variant() -> None:
    marking = Rule("marked", on_auto(ALWAYS), policy="local-only", marks_private=True)
    experiment = Experiment("e", (CLOUD, LARGE), rule="marked")
    _, found = decided(call(), experiment, rules=(marking,))
    assert (set(found.names), found.trial) == (LOCAL, None)


def test_the_odds_are_those_over_all_draws() -> None:
    experiment = Experiment("e", (replace(CONTROL, weight=1.0), replace(CLOUD, weight=3.0)), 0.8)
    for number in range(20):
        _, found = decided(replace(call(), session_id=str(number)), experiment)
        assert found.chances == pytest.approx({"small": 0.2 + 0.8 / 4, OPUS.name: 0.8 * 3 / 4})


def test_the_odds_of_two_experiments_are_of_the_second_for_those_whom_the_first_leaves() -> None:
    first, second = Experiment("e", (CONTROL, LARGE), 0.5), Experiment("f", (CONTROL, CLOUD), 0.4)
    _, found = decided(call(), first, second)
    assert found.chances == pytest.approx({"small": 0.25 + 0.5 * (0.6 + 0.2), "large": 0.25, OPUS.name: 0.5 * 0.2})


def test_odds_that_are_those_of_a_session_say_so_whoever_takes_part() -> None:
    experiment = Experiment("e", (CONTROL, CLOUD), 0.5)
    found = [decided(replace(call(), session_id=str(number)), experiment)[1] for number in range(20)]
    assert {one.trial is None for one in found} == {True, False}
    assert all(one.is_drawn_by_unit for one in found)
    assert not decided(call(), Experiment("e", (CONTROL, BRIEF)))[1].is_drawn_by_unit
    assert not decided(call(model="large"), experiment)[1].is_drawn_by_unit


def test_prompts_alone_leave_the_odds_as_they_are() -> None:
    _, found = decided(call(), Experiment("e", (CONTROL, BRIEF)))
    assert (found.odds, found.chances) == ({}, {"small": 1.0})


def test_a_bare_prompt_takes_part_in_no_experiment_between_system_prompts() -> None:
    bare = replace(call(), raw="Once upon a time")
    assert decided(bare, Experiment("e", (CONTROL, BRIEF)))[1].trial is None
    assert decided(bare, Experiment("e", (CONTROL, LARGE)))[1].trial is not None


def test_a_variants_system_prompt_comes_first() -> None:
    experiment = Experiment("e", (CONTROL, BRIEF))
    asked = seated(experiment, "brief")
    told = replace(asked, messages=(Message("system", "Be kind."), *asked.messages))
    assert decided(asked, experiment)[0].messages == (Message("system", PREFIX), *asked.messages)
    assert decided(told, experiment)[0].messages[0] == Message("system", f"{PREFIX}\n\nBe kind.")
    assert decided(seated(experiment, "as-ever"), experiment)[0].source is None


def words(asked: Call) -> list[str]:
    """All that is said in a conversation; dialects join texts with other blanks."""
    return " ".join(message.content for message in asked.messages).split()


USER = {"role": "user", "content": "hi"}
BILLED = {"type": "text", "text": "x-anthropic-billing-header: 1"}
BLOCK = {"type": "text", "text": "Be kind."}
TOLD = f"{PREFIX}\n\nBe kind."


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"system": PREFIX}),
        ({"system": "Be kind."}, {"system": TOLD}),
        ({"system": [BLOCK]}, {"system": [{"type": "text", "text": PREFIX}, BLOCK]}),
        ({"system": [BILLED, BLOCK]}, {"system": [BILLED, {"type": "text", "text": PREFIX}, BLOCK]}),
    ],
)
def test_a_cloud_of_anthropics_dialect_is_sent_the_same(before: Mapping[str, object], after: object) -> None:
    body = {"model": "auto", "max_tokens": 5, "messages": [USER], **before}
    changed = with_system(parse_messages(json.dumps(body).encode(), {}, "c"), PREFIX)
    assert changed.source is not None
    assert json.loads(changed.source.body) == {**body, **after}  # type: ignore[dict-item]  # a mapping by its parameters
    again = parse_messages(changed.source.body, {}, "c")
    assert words(again) == words(changed)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([USER], [{"role": "system", "content": PREFIX}, USER]),
        ([{"role": "system", "content": "Be kind."}, USER], [{"role": "system", "content": TOLD}, USER]),
        ([{"role": "developer", "content": "Be kind."}, USER], [{"role": "developer", "content": TOLD}, USER]),
        (
            [{"role": "system", "content": [BLOCK]}, USER],
            [{"role": "system", "content": PREFIX}, {"role": "system", "content": [BLOCK]}, USER],
        ),
    ],
)
def test_a_cloud_of_openais_dialect_is_sent_the_same(before: list[object], after: list[object]) -> None:
    parsed, _ = parse_chat(json.dumps({"messages": before, "temperature": 0.5}).encode(), {}, "c")
    changed = with_system(parsed, PREFIX)
    assert changed.source is not None
    assert json.loads(changed.source.body) == {"messages": after, "temperature": 0.5}
    again, _ = parse_chat(changed.source.body, {}, "c")
    assert words(again) == words(changed)


def test_the_clouds_that_an_experiment_sends_to_are_known() -> None:
    routing = policy().routing
    assert Experiment("e", (CONTROL, LARGE, BRIEF)).clouds(routing) == ()
    assert Experiment("e", (CONTROL, CLOUD)).clouds(routing) == (OPUS.name,)
    local = Variant("local", sends=Rule("local", policy="local-only"))
    assert Experiment("e", (CONTROL, local)).clouds(routing) == ()
    cheap = Variant("cheap", sends=Rule("cheap", policy="cheapest"))
    assert Experiment("e", (CONTROL, cheap)).clouds(routing) == (OPUS.name, HAIKU.name)
