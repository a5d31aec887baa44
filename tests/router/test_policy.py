"""Who answers: the first rule that holds, else the model that was asked for, else the policy; private ones stay."""

from dataclasses import replace
from typing import get_args

import pytest

from replicas.errors import BudgetSpent, Unavailable, Withheld
from replicas.tools.tool import Tool
from router.budget import Payer
from router.origin import NOBODY, Origin
from router.policy.candidate import Candidate
from router.policy.condition import ALWAYS, BUDGETS, all_of, any_of, one
from router.policy.constraints import Constraint, Like, OneOf, Range
from router.policy.decide import UNPRICED, Policy
from router.policy.decision import BUDGET_SPENT, Verdict
from router.policy.rule import POLICIES, AtLimit, PolicyName, Routing, Rule
from tests.router.asked import ALL, HAIKU, LARGE, OPUS, SMALL, at_noon, call, on_auto, policy

SECRET = "jane@acme.com"
LOCAL = {"small", "large"}


def like(*patterns: str) -> Like:
    return Like((frozenset(patterns),))


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("local-only", ["small", "large"]),
        ("prefer-local", ["small", "large", OPUS.name, HAIKU.name]),
        ("prefer-cloud", [OPUS.name, HAIKU.name, "small", "large"]),
        ("cheapest", ["small", "large", HAIKU.name, OPUS.name]),
        ("fastest", ["small", OPUS.name, HAIKU.name, "large"]),  # unknown ones first: so they get known
    ],
)
def test_a_ready_made_policy_ranks_all_candidates(name: PolicyName, best: list[str]) -> None:
    decision = policy(policy=name).decide(call())
    assert (decision.by, decision.rule, list(decision.names)) == ("policy", name, best)
    assert {*decision.names, *(one.name for one in decision.lost)} == {one.name for one in ALL}


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_lets_a_private_request_out(name: PolicyName) -> None:
    deciding = policy(policy=name)
    for decision in (deciding.decide(call(SECRET)), deciding.decide(call(origin=Origin(is_private=True)))):
        assert set(decision.names) == LOCAL
        assert {one.why for one in decision.lost} <= {"private requests stay here", "local-only leaves it out"}


def test_the_first_rule_that_holds_decides() -> None:
    rules = [
        Rule("long", on_auto(one("tokens_in", Range(50))), to=("large",)),
        Rule("code", on_auto(one("code", OneOf(frozenset({True})))), to=("large", "small")),
        Rule("rest", on_auto(ALWAYS), policy="local-only"),
    ]
    deciding = policy(*rules)
    told = ["fix this python function " * 20, "fix this python function", "good morning"]
    assert [deciding.decide(call(text)).rule for text in told] == ["long", "code", "rest"]


def test_a_rule_says_why_each_candidate_stands_where_it_does() -> None:
    decision = policy(Rule("mine", ALWAYS, to=("large", HAIKU.name))).decide(call(SECRET))
    assert [(one.name, one.why) for one in decision.route] == [("large", "number 1 of the rule")]
    assert {one.name: one.why for one in decision.lost} == {
        HAIKU.name: "private requests stay here",
        "small": "the rule does not name it",
        OPUS.name: "the rule does not name it",
    }


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("large", "large"),
        ("tiny", "small"),
        ("claude-local-large", "large"),
        ("large:adapter", "large"),
        ("acme/claude-haiku-4-5", HAIKU.name),
        ("claude-haiku-4-5", HAIKU.name),
    ],
)
def test_a_model_that_is_asked_for_by_any_of_its_names_is_taken(asked: str, found: str) -> None:
    decision = policy(Rule("rest", on_auto(ALWAYS), to=("small",))).decide(call(model=asked))
    assert (decision.by, decision.names, decision.is_unknown) == ("model", (found,), False)


def test_a_model_that_nobody_knows_is_told_as_unknown_unless_a_rule_takes_it() -> None:
    assert policy().decide(call(model="gpt-17")).is_unknown
    rule = Rule("claude is large here", one("model", like("claude-*")), to=("large",))
    assert policy(rule).decide(call(model="claude-haiku-4-5")).names == ("large",)


@pytest.mark.parametrize("asked", [None, "", "auto"])
def test_no_model_or_auto_leaves_the_choice(asked: str | None) -> None:
    assert policy().decide(call(model=asked)).by == "policy"


def test_a_private_request_for_a_cloud_is_withheld_and_says_why() -> None:
    decision = policy().decide(call(SECRET, model=OPUS.name))
    refusal = decision.refusal()
    assert decision.names == ()
    assert isinstance(refusal, Withheld)
    assert "email" in str(refusal)
    assert SECRET not in str(refusal)


def test_a_rule_may_mark_requests_private() -> None:
    decision = policy(Rule("hr", one("role", like("hr")), policy="prefer-cloud", marks_private=True)).decide(
        call(origin=Origin(role="hr"))
    )
    assert decision.marking.reasons == ("rule",)
    assert set(decision.names) == LOCAL


def test_a_spent_budget_leaves_local_models() -> None:
    deciding = policy(policy="prefer-cloud")
    assert set(deciding.decide(call(), budget="spent").names) == LOCAL


def test_without_money_a_request_for_a_cloud_alone_goes_to_local_models_and_says_so() -> None:
    decision = policy().decide(call(model=OPUS.name), budget="spent")
    assert decision.is_degraded
    assert {(one.name, one.why) for one in decision.route} == {(name, "local, for want of money") for name in LOCAL}
    assert [(one.name, one.why) for one in decision.lost] == [(OPUS.name, BUDGET_SPENT)]


@pytest.mark.parametrize("model", [None, OPUS.name])
def test_where_so_configured_a_request_that_there_is_no_money_for_is_refused(model: str | None) -> None:
    decision = policy(policy="prefer-cloud", at_limit="refuse").decide(call(model=model), budget="spent")
    assert decision.names == ()
    assert isinstance(decision.refusal(), BudgetSpent)


@pytest.mark.parametrize("at_limit", get_args(AtLimit))
def test_without_money_what_a_local_model_answers_goes_on(at_limit: AtLimit) -> None:
    decision = policy(policy="prefer-local", at_limit=at_limit).decide(call(), budget="spent")
    assert (decision.names, decision.is_degraded) == (("small", "large"), False)


def test_without_money_private_requests_are_withheld_and_not_too_dear() -> None:
    decision = policy(at_limit="refuse").decide(call(SECRET, model=OPUS.name), budget="spent")
    assert isinstance(decision.refusal(), Withheld)


def test_a_cloud_without_a_price_is_not_asked_by_who_has_a_budget() -> None:
    bare = Candidate("acme/bare", is_local=False)
    routing = Routing((SMALL, bare, OPUS), policy="prefer-cloud")
    deciding = Policy(routing, clock=at_noon, is_limited=lambda payer: payer.job == "j1")
    payers = [Origin(payer=Payer(job=job)) for job in ("", "j1")]
    asked = [call(model=model, origin=payer) for model in (None, bare.name) for payer in payers]
    free, limited, named, refused = map(deciding.decide, asked)
    assert free.names == (bare.name, OPUS.name, "small")
    assert limited.names == (OPUS.name, "small")
    assert limited.lost == (Verdict(bare.name, UNPRICED),)
    assert (named.names, refused.names) == ((bare.name,), ())
    assert isinstance(refused.refusal(), Unavailable)
    assert "set its `price`" in str(refused.refusal())


def test_clouds_without_a_client_are_not_in_the_route() -> None:
    missing = dict.fromkeys((HAIKU.name, OPUS.name), "no key")
    decision = Policy(Routing(ALL, policy="prefer-cloud"), missing, at_noon).decide(call())
    assert set(decision.names) == LOCAL
    assert {one.why for one in decision.lost} == {"no key"}


def test_an_image_goes_to_a_model_that_sees_and_text_models_come_after() -> None:
    decision = policy().decide(call(has_image=True))
    assert decision.names == (OPUS.name, "small", "large", HAIKU.name)
    assert "cannot see images" in decision.route[1].why


def test_a_prompt_that_is_too_long_for_the_best_goes_to_the_next() -> None:
    decision = policy(policy="local-only").decide(call("word " * 200))
    assert decision.names == ("large", "small")
    assert "do not fit into 100" in decision.route[1].why


def test_fastest_goes_by_what_was_seen() -> None:
    deciding = policy(policy="fastest", candidates=(SMALL, LARGE))
    deciding.speeds.observe("small", ttft_s=1.0, tokens=101, rest_s=100.0)
    decision = deciding.decide(call(max_tokens=100))
    assert [(one.name, one.why) for one in decision.route] == [
        ("large", "11.00 s for 100 tokens"),
        ("small", "101.00 s for 100 tokens"),
    ]


@pytest.mark.parametrize(
    ("name", "constraint", "yes", "no"),
    [
        ("agent", like("planner-*"), Origin(agent="planner-7"), Origin(agent="writer")),
        ("role", like("judge"), Origin(role="judge"), NOBODY),
        ("private", OneOf(frozenset({True})), Origin(is_private=True), NOBODY),
        ("header:x-team", like("red"), Origin(headers={"x-team": "red"}), NOBODY),
    ],
)
def test_rules_look_at_who_asks(name: str, constraint: Constraint, yes: Origin, no: Origin) -> None:
    deciding = policy(Rule("it", one(name, constraint), to=("large",)))
    assert [deciding.decide(call(origin=origin)).by for origin in (yes, no)] == ["rule", "policy"]


@pytest.mark.parametrize(
    ("name", "constraint", "text"),
    [
        ("language", like("de"), "Wie ist das Wetter in der Stadt, und was soll ich heute mit dem Hund tun?"),
        ("language", like("ja"), "今日の天気はどうですか"),
        ("language", like("fr"), "Quelle est la capitale de la France et dans quelle région est-elle ?"),
        ("language", like("und"), "42"),
        ("code", OneOf(frozenset({True})), "def f(x):\n    return x + 1\n\nprint(f(2))"),
        ("code", OneOf(frozenset({True})), "Write a Rust function that reverses a list"),
        ("code", OneOf(frozenset({False})), "Write a poem about the sea"),
        ("tokens_in", Range(54, 54), "a" * 200),
        ("minute", Range(12 * 60, 12 * 60), "noon"),
        ("tools", Range(0, 0), "no tools"),
        ("image", OneOf(frozenset({False})), "no image"),
        ("tokens_out", Range(100, 100), "as many as asked"),
        ("budget", OneOf(frozenset({"ok"})), "money is there"),
    ],
)
def test_rules_look_at_what_is_asked(name: str, constraint: Constraint, text: str) -> None:
    assert policy(Rule("it", one(name, constraint), to=("large",))).decide(call(text)).by == "rule"


def test_tools_are_counted() -> None:
    with_tools = replace(call(), tools=(Tool("a"), Tool("b")))
    assert policy(Rule("it", one("tools", Range(2)), to=("large",))).decide(with_tools).by == "rule"


def test_all_and_any_may_be_nested() -> None:
    either = any_of([one("role", like("a")), all_of([one("role", like("b")), one("tools", Range(0, 0))])])
    deciding = policy(Rule("it", either, to=("large",)))
    assert [deciding.decide(call(origin=Origin(role=role))).by for role in "abc"] == ["rule", "rule", "policy"]


def test_only_what_rules_name_is_read() -> None:
    quick = Policy(Routing((SMALL,), (Rule("it", one("tools", Range(1)), to=("small",)),)), clock=at_noon)
    decision = quick.decide(call(SECRET))
    assert dict(decision.features) == {"tools": 0}
    assert not decision.marking.is_private  # nothing could leave: nothing was examined


def test_a_candidate_that_turns_out_not_to_do_leaves_the_route() -> None:
    decision = policy(policy="local-only").decide(call()).without("small", "too long")
    assert decision.names == ("large",)
    assert (decision.lost[0].name, decision.lost[0].why) == ("small", "too long")


def test_budget_states_are_those_that_rules_may_name() -> None:
    assert BUDGETS == ("ok", "low", "spent")
