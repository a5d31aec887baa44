"""Rules are checked before they route: names, rules that nothing reaches, private requests that could get out."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.errors import SettingsError
from router.origin import Origin
from router.policy.check import check
from router.policy.condition import ALWAYS, MOST_BOXES, Condition, all_of, any_of, beyond, one
from router.policy.constraints import Constraint, Like, OneOf, Range, Value
from router.policy.rule import POLICIES, PolicyName, Routing, Rule
from tests.router.asked import ALL, HAIKU, OPUS, PRIVATE, PUBLIC, call, on_auto, policy

FLAGS = st.builds(OneOf, st.sampled_from([frozenset({True}), frozenset({False}), frozenset({True, False})]))
RANGES = st.builds(lambda a, b: Range(min(a, b), max(a, b)), st.integers(0, 6), st.integers(0, 6)) | st.builds(
    Range, st.integers(0, 6)
)
PATTERNS = st.frozensets(st.sampled_from(["a", "ab", "b", "a*", "*", "?", "?*", "[ab]", "*b"]), min_size=1, max_size=2)
LIKES = st.builds(lambda patterns: Like((patterns,)), PATTERNS)
NUMBERS = st.builds(one, st.just("private"), FLAGS) | st.builds(one, st.sampled_from(["tools", "tokens_in"]), RANGES)
TEXTS = st.builds(one, st.just("role"), LIKES)


def nested(atoms: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    """Conditions of `atoms` in `all` and `any`, some deep."""
    return st.recursive(
        atoms,
        lambda inner: (
            st.builds(all_of, st.lists(inner, min_size=1, max_size=3))
            | st.builds(any_of, st.lists(inner, min_size=1, max_size=3))
        ),
        max_leaves=6,
    )


CONDITIONS = nested(NUMBERS | TEXTS)
PLAIN = nested(NUMBERS)
FEATURES = st.fixed_dictionaries(
    {
        "private": st.booleans(),
        "tools": st.integers(0, 8),
        "tokens_in": st.integers(0, 8),
        "role": st.sampled_from(["", "a", "ab", "b", "ba", "c"]),
    }
)


def problem(*rules: Rule, zone: str = "UTC") -> str:
    with pytest.raises(SettingsError) as caught:
        check(Routing(ALL, rules, time_zone=zone))
    return str(caught.value)


def like(*patterns: str) -> Like:
    return Like((frozenset(patterns),))


@given(st.lists(CONDITIONS, min_size=1, max_size=4), CONDITIONS, st.lists(FEATURES, min_size=20))
def test_whatever_reaches_a_rule_is_among_what_is_said_to(
    earlier: list[Condition], last: Condition, asked: list[Mapping[str, Value]]
) -> None:
    """Hence a rule that is called dead never decides, and privacy is never passed by mistake."""
    left = Condition(tuple(beyond(last.boxes, [box for condition in earlier for box in condition.boxes])))
    reaching = [one for one in asked if last.holds(one) and not any(condition.holds(one) for condition in earlier)]
    assert all(left.holds(one) for one in reaching)


@given(st.lists(PLAIN, min_size=1, max_size=3), PLAIN, st.lists(FEATURES, min_size=20))
def test_without_patterns_nothing_else_is(
    earlier: list[Condition], last: Condition, asked: list[Mapping[str, Value]]
) -> None:
    """Hence no rule is refused that could be reached."""
    left = Condition(tuple(beyond(last.boxes, [box for condition in earlier for box in condition.boxes])))
    reaching = [last.holds(one) and not any(condition.holds(one) for condition in earlier) for one in asked]
    assert [left.holds(one) for one in asked] == reaching


@given(LIKES, LIKES, st.sampled_from(["", "a", "ab", "b", "ba", "c"]))
def test_two_patterns_meet_in_what_is_like_both(first: Like, second: Like, text: str) -> None:
    both = first.meet(second)
    assert (both is not None and both.holds(text)) == (first.holds(text) and second.holds(text))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (ALWAYS, one("tools", Range(1))),
        (one("tools", Range(1)), one("tools", Range(3, 5))),
        (any_of([one("tools", Range(0, 2)), one("tools", Range(3))]), ALWAYS),
        (any_of([PRIVATE, PUBLIC]), one("role", like("a"))),
        (one("header:x-team", like("*")), one("role", like("a"))),
        (one("role", like("?*")), one("role", like("a*", "?b", "[ab]*"))),
        (one("role", like("a*")), one("role", like("ab", "a*c"))),
        (one("model", like("*")), on_auto(ALWAYS)),
    ],
)
def test_a_rule_that_earlier_ones_leave_nothing_is_refused(earlier: Condition, later: Condition) -> None:
    rules = (Rule("first", earlier, to=("small",)), Rule("second", later, to=("large",)))
    assert "'second' is never reached: the rules before it take all" in problem(*rules)


def test_a_rule_that_several_earlier_ones_cover_together_is_refused() -> None:
    rules = [Rule(f"r{n}", one("tools", Range(n, n)), to=("small",)) for n in range(3)]
    assert "'last' is never reached" in problem(*rules, Rule("last", one("tools", Range(0, 2)), to=("large",)))


def test_conditions_that_exclude_each_other_are_refused() -> None:
    never = all_of([one("tools", Range(5)), one("tools", Range(0, 3))])
    assert "'it' is never reached: its conditions exclude each other" in problem(Rule("it", never, to=("small",)))


def test_an_unknown_candidate_is_told_with_the_nearest() -> None:
    assert "'it' sends to 'smal', which is not there; did you mean 'small'?" in problem(Rule("it", to=("smal",)))


def test_two_rules_of_one_name_are_refused() -> None:
    rules = (Rule("it", PRIVATE, to=("small",)), Rule("it", to=("small",)))
    assert "two rules are called 'it'" in problem(*rules)


def test_a_time_zone_that_does_not_exist_is_refused() -> None:
    assert "'Mars/Base' is no time zone" in problem(zone="Mars/Base")
    assert "is no time zone" in problem(zone="../etc/passwd")


@pytest.mark.parametrize(
    "rules",
    [
        (Rule("out", to=("small", OPUS.name)),),
        (Rule("out", PRIVATE, to=(OPUS.name,)),),
        (Rule("some", all_of([PRIVATE, one("tools", Range(1))]), to=("small",)), Rule("out", to=(OPUS.name,))),
        (Rule("some", one("role", like("a")), policy="local-only"), Rule("out", to=(OPUS.name,))),
    ],
)
def test_a_rule_by_which_a_private_request_could_get_out_is_refused(rules: tuple[Rule, ...]) -> None:
    assert f"'out' could send a private request to the cloud {OPUS.name}; put a rule" in problem(*rules)


@pytest.mark.parametrize(
    "rules",
    [
        (Rule("private", PRIVATE, policy="local-only"), Rule("out", to=("small", OPUS.name))),
        (Rule("out", PUBLIC, to=(OPUS.name,)),),
        (Rule("any", policy="prefer-cloud"),),  # ready-made policies keep private requests by themselves
    ],
)
def test_rules_that_keep_private_requests_here_pass(rules: tuple[Rule, ...]) -> None:
    check(Routing(ALL, rules))


def test_a_rule_may_not_mark_private_and_send_out() -> None:
    rule = Rule("it", PUBLIC, to=(OPUS.name,), marks_private=True)
    assert "'it' marks requests private and sends them to the cloud" in problem(rule)


def test_rules_that_cannot_be_compared_are_refused_not_passed() -> None:
    names: list[tuple[str, Constraint]] = [
        ("tools", Range(3, 5)),
        ("tokens_in", Range(3, 5)),
        ("tokens_out", Range(3, 5)),
    ]
    rules = [
        Rule(f"r{n}", all_of([one(name, Range(10 * n + 3, 10 * n + 5)) for name, _ in names]), to=("small",))
        for n in range(200)
    ]
    assert "overlaps too much" in problem(*rules, Rule("last", to=("large",)))


def test_too_many_alternatives_are_too_many() -> None:
    either = any_of([one("tools", Range(n, n)) for n in range(20)])
    other = any_of([one("tokens_in", Range(n, n)) for n in range(20)])
    assert len(either.boxes) * len(other.boxes) > MOST_BOXES
    with pytest.raises(OverflowError):
        all_of([either, other])


TARGETS = st.sampled_from([*POLICIES, (OPUS.name,), (HAIKU.name, "small"), ("large", OPUS.name), ("small",)])
ASKED = st.sampled_from([None, "auto", "small", OPUS.name, "claude-haiku-4-5", "unknown"])
SECRETS = st.sampled_from(
    ["jane@acme.com", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "AKIAIOSFODNN7EXAMPLE"]
)


@given(st.lists(st.tuples(CONDITIONS, TARGETS), max_size=4), st.sampled_from(POLICIES), ASKED, SECRETS, st.booleans())
def test_whatever_is_routed_by_a_private_request_has_no_cloud_in_its_route(
    written: list[tuple[Condition, PolicyName | tuple[str, ...]]],
    last: PolicyName,
    asked: str | None,
    secret: str,
    is_marked: bool,
) -> None:
    """Rules that the check would refuse are among these."""
    rules = tuple(
        Rule(f"r{n}", when, to=() if isinstance(to, str) else to, policy=to if isinstance(to, str) else None)
        for n, (when, to) in enumerate(written)
    )
    one_call = call("hello" if is_marked else f"mine: {secret}", asked, origin=Origin(is_private=is_marked))
    decision = policy(*rules, policy=last).decide(one_call)
    assert set(decision.names) <= {"small", "large"}
    assert decision.marking.is_private
