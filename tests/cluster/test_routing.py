"""Settings become a routing: every condition means what it says, and what cannot be right is told by its place."""

import pickle
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cluster.planning import plan_of
from cluster.routing import routing_of
from cluster.settings import validated
from replicas.engine import Message, Sampling
from replicas.errors import SettingsError
from router.call import Call
from router.origin import Origin
from router.policy.decide import Policy
from router.policy.rule import Routing

CLOUD = {
    "name": "acme",
    "kind": "openai",
    "base_url": "https://api.acme.dev/v1",
    "key_env": "ACME_KEY",
    "models": [{"name": "gpt-5.4-mini"}, {"name": "vendor/huge", "aliases": ["huge"], "price": "claude-opus-5-5"}],
}
MODELS = [{"name": "small", "aliases": ["tiny"]}, {"name": "large", "engine": {"context_tokens": 4096}}]
TREE = {"models": MODELS, "clouds": [CLOUD]}


def routing(written: dict[str, object], **changes: object) -> Routing:
    return routing_of(validated({**TREE, **changes, "routing": written}, "shoal.yaml"))


def refusal(written: dict[str, object], **changes: object) -> str:
    with pytest.raises(SettingsError) as caught:
        routing(written, **changes)
    return str(caught.value)


def rule(when: object, to: object = "large") -> dict[str, object]:
    return {"name": "it", "when": when, "to": to}


def holds(when: object, text: str = "hello", *, origin: Origin | None = None, at: str = "12:00") -> bool:
    """A rule `when` holds for this request."""
    deciding = Policy(routing({"rules": [rule(when)]}), clock=lambda zone: datetime.fromisoformat(f"2026-11-21T{at}"))
    call = Call("c", None, (Message("user", text),), Sampling(100), origin=origin or Origin())
    return deciding.decide(call).by == "rule"


def test_candidates_are_local_models_with_the_default_first_then_those_of_clouds() -> None:
    found = routing_of(validated({**TREE, "default_model": "large"}, "shoal.yaml"), {"small": 77}).candidates
    assert [(one.name, one.is_local, one.context_tokens) for one in found] == [
        ("large", True, 4096),
        ("small", True, 77),
        ("acme/gpt-5.4-mini", False, None),
        ("acme/vendor/huge", False, None),
    ]
    assert [one.price.id for one in found if one.price] == ["gpt-5.4-mini", "claude-opus-5-5"]


@pytest.mark.parametrize(
    ("to", "route"),
    [
        ("tiny", ("small",)),
        (["large", "huge", "acme/vendor/huge"], ("large", "acme/vendor/huge")),
        ("both", ("gpt-5.4-mini", "small")),
        (["large", "both"], ("large", "gpt-5.4-mini", "small")),
    ],
)
def test_a_rule_sends_to_models_by_any_name_and_to_chains(to: object, route: tuple[str, ...]) -> None:
    written: dict[str, object] = {"chains": {"both": ["gpt-5.4-mini", "tiny"]}}
    written["rules"] = [rule({"private": False}, to)]
    [found] = routing(written).rules
    assert found.to == tuple("acme/" + name if name.startswith("gpt") else name for name in route)


def test_a_rule_may_leave_the_order_to_a_policy() -> None:
    [found] = routing({"rules": [rule({}, "cheapest")]}).rules
    assert (found.to, found.policy) == ((), "cheapest")


@pytest.mark.parametrize(
    ("when", "text", "origin", "expected"),
    [
        ({}, "hi", Origin(), True),
        ({"tokens_in": {"min": 50}}, "word " * 50, Origin(), True),
        ({"tokens_in": {"min": 50}}, "word", Origin(), False),
        ({"tokens_out": {"max": 99}}, "hi", Origin(), False),
        ({"role": "review*"}, "hi", Origin(role="reviewer"), True),
        ({"role": ["a", "b"]}, "hi", Origin(role="b"), True),
        ({"role": ["a", "b"]}, "hi", Origin(role="c"), False),
        ({"headers": {"X-Team": "red"}}, "hi", Origin(headers={"x-team": "red"}), True),
        ({"headers": {"X-Team": "*"}, "tools": {"max": 0}}, "hi", Origin(headers={"x-team": "red"}), True),
        ({"headers": {"X-Team": "*"}, "tools": {"max": 0}}, "hi", Origin(), False),
        ({"role": "*"}, "hi", Origin(), False),
        ({"agent": ["*", "a"]}, "hi", Origin(agent="b"), True),
        ({"any": [{"role": "a"}, {"agent": "b"}]}, "hi", Origin(agent="b"), True),
        ({"any": [{"role": "a"}, {"agent": "b"}], "private": True}, "hi", Origin(agent="b"), False),
        ({"all": [{"role": "a"}, {"any": [{"agent": "b"}, {"code": True}]}]}, "fix this code", Origin(role="a"), True),
        ({"language": ["de", "fr"]}, "Was ist das und wie geht es dem Hund?", Origin(), True),
        ({"budget": "spent"}, "hi", Origin(), False),
        ({"model": "claude-*"}, "hi", Origin(), False),
        ({"private": True}, "mail jane@acme.com", Origin(), True),
    ],
)
def test_a_condition_means_what_it_says(when: object, text: str, origin: Origin, *, expected: bool) -> None:
    assert holds(when, text, origin=origin) is expected


@pytest.mark.parametrize(
    ("span", "at", "expected"),
    [
        ("08:00-18:00", "08:00", True),
        ("08:00-18:00", "18:00", False),
        ("22:00-06:00", "23:59", True),
        ("22:00-06:00", "00:00", True),
        ("22:00-06:00", "06:00", False),
        ("22:00-00:00", "23:59", True),
        ("22:00-00:00", "00:00", False),
    ],
)
def test_a_span_of_the_day_may_go_over_midnight(span: str, at: str, *, expected: bool) -> None:
    assert holds({"time": span}, at=at) is expected


def test_a_span_is_in_the_time_zone_of_the_routing() -> None:
    zones: list[ZoneInfo] = []

    def clock(zone: ZoneInfo) -> datetime:
        zones.append(zone)
        return datetime(2026, 11, 21, tzinfo=zone)

    Policy(routing({"time_zone": "Europe/Berlin"}), clock=clock).decide(Call("c", None, (), Sampling(1)))
    assert zones == [ZoneInfo("Europe/Berlin")]


def test_rules_hold_for_requests_that_name_no_model_unless_they_say_so() -> None:
    deciding = Policy(routing({"rules": [rule({"any": [{"role": "*"}, {"model": "claude-*"}]})]}))
    origin, names = Origin(role="any"), (None, "small", "claude-x")
    asked = {name: Call("c", name, (Message("user", "hi"),), Sampling(1), origin=origin) for name in names}
    assert {name: deciding.decide(call).by for name, call in asked.items()} == {
        None: "rule",
        "small": "model",
        "claude-x": "rule",
    }


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"rules": [rule({}, "larg")]}, "'it' sends to 'larg', which is not there; did you mean 'large'?"),
        ({"rules": [rule({}, "huge")]}, "'it' could send a private request to the cloud acme/vendor/huge"),
        ({"rules": [rule({"tools": {"min": 3, "max": 2}})]}, "'it' is never reached"),
        ({"rules": [{**rule({}), "name": "all"}, rule({"role": "a"})]}, "'it' is never reached"),
        ({"chains": {"x": ["nope"]}}, "routing.chains.x: 'nope' is not there"),
        ({"chains": {"tiny": ["large"]}}, "'tiny' is a model's or a policy's name"),
        ({"chains": {"cheapest": ["large"]}}, "'cheapest' is a model's or a policy's name"),
        ({"time_zone": "Nowhere"}, "'Nowhere' is no time zone"),
        ({"policy": "best"}, "routing.policy: Input should be 'local-only'"),
        ({"rules": [rule({"time": "8-18"})]}, "routing.rules.0.when.time: write a span of the day like"),
        ({"rules": [rule({"headers": {"X-API-Key": "a"}})]}, "when.headers: a rule may not look at keys"),
        ({"rules": [rule({"privte": True})]}, "'routing.rules.0.when.privte'; did you mean 'private'?"),
        ({"rules": [rule({"any": [{"rol": "a"}]})]}, "'routing.rules.0.when.any.0.rol'; did you mean 'role'?"),
        ({"privacy": {"detectors": ["names"]}}, "routing.privacy.detectors.0: Input should be"),
    ],
)
def test_what_cannot_be_right_is_told_by_its_place(written: dict[str, object], words: str) -> None:
    assert words in refusal(written)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key_env": "sk-ant-123456"}, "clouds.0.key_env: String should match"),
        ({"base_url": "https://user:pw123@acme.dev"}, "an address holds no key"),
        ({"base_url": "acme.dev"}, "write an address like"),
        ({"kind": "bedrock"}, "clouds.0.kind: Input should be 'anthropic' or 'openai'"),
        ({"models": []}, "clouds.0.models: Tuple should have at least 1 item"),
        ({"models": [{"name": "a", "price": "free"}]}, "acme/a: price 'free' does not exist: there is claude-opus"),
        ({"models": [{"name": "a", "nam": "b"}]}, "'clouds.0.models.0.nam'; did you mean 'name'?"),
        ({"models": [{"name": "a", "aliases": ["auto"]}]}, "a model cannot be called 'auto'"),
        ({"models": [{"name": "a", "aliases": ["tiny"]}]}, "two models answer to 'tiny'"),
    ],
)
def test_a_cloud_that_cannot_be_right_is_told_and_no_key_is_repeated(changes: dict[str, object], words: str) -> None:
    told = refusal({}, clouds=[{**CLOUD, **changes}])
    assert words in told
    assert "123" not in told


def test_a_plan_carries_the_routing_and_survives_pickling(tmp_path: Path) -> None:
    tree = {"models": [{"name": "echo", "engine": {"kind": "echo"}}], "routing": {"rules": [rule({}, "echo")]}}
    plan = plan_of(validated(tree, "shoal.yaml"), tmp_path, has_gpu=False)
    assert [one.name for one in pickle.loads(pickle.dumps(plan)).routes.rules] == ["it"]
    assert plan.routes.candidates[0].context_tokens == plan.pools[0].context_tokens


def test_a_service_with_rules_that_cannot_be_right_does_not_start(tmp_path: Path) -> None:
    tree = {"models": [{"name": "echo", "engine": {"kind": "echo"}}], "routing": {"rules": [rule({}, "ech")]}}
    with pytest.raises(SettingsError, match="'it' sends to 'ech'"):
        plan_of(validated(tree, "shoal.yaml"), tmp_path, has_gpu=False)
