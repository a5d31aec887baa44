"""Calls and routings for the tests of policy and privacy."""

from datetime import datetime
from zoneinfo import ZoneInfo

from replicas.engine import Message, Sampling
from router.call import Call
from router.origin import NOBODY, Origin
from router.policy.candidate import Candidate
from router.policy.condition import Condition, all_of, one
from router.policy.constraints import Like, OneOf
from router.policy.decide import Policy
from router.policy.rule import Routing, Rule
from router.prices import price_list

SMALL = Candidate("small", context_tokens=100, aliases=("tiny",))
LARGE = Candidate("large", context_tokens=4096, ttft_s=1.0, tokens_per_s=10.0)
OPUS = Candidate(
    "acme/claude-opus-5-5",
    is_local=False,
    context_tokens=200_000,
    price=price_list().price("claude-opus-5-5"),
    sees_images=True,
)
HAIKU = Candidate(
    "acme/claude-haiku-4-5", is_local=False, price=price_list().price("claude-haiku-4-5"), tokens_per_s=100.0
)
ALL = (SMALL, LARGE, OPUS, HAIKU)
PRIVATE = one("private", OneOf(frozenset({True})))
PUBLIC = one("private", OneOf(frozenset({False})))


def call(
    text: str = "hello",
    model: str | None = None,
    max_tokens: int = 100,
    *,
    has_image: bool = False,
    origin: Origin = NOBODY,
) -> Call:
    """A question of one turn."""
    return Call("call-1", model, (Message("user", text),), Sampling(max_tokens), has_image=has_image, origin=origin)


def at_noon(zone: ZoneInfo) -> datetime:
    return datetime(2026, 11, 21, 12, 0, tzinfo=zone)


def policy(*rules: Rule, candidates: tuple[Candidate, ...] = ALL, **more: object) -> Policy:
    """A policy of `rules`; `more` are fields of the routing."""
    return Policy(Routing(candidates, rules, **more), clock=at_noon, sees_all=True)  # type: ignore[arg-type]  # fields by name


def on_auto(condition: Condition) -> Condition:
    """`condition`, for requests that leave the choice."""
    return all_of((condition, one("model", Like((frozenset({"auto"}),)))))
