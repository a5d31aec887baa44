"""From settings to a routing: names become candidates, conditions constraints, and all of it is checked.

What a rule sends to may be a ready-made policy, a chain, a model by any of its names, or a list of models.
"""

from collections.abc import Iterator, Mapping

from cluster.learned_settings import learning_of
from cluster.money_settings import prices_of
from cluster.routing_settings import (
    CloudModelSettings,
    CloudSettings,
    ConditionSettings,
    RoutingSettings,
    RuleSettings,
)
from cluster.settings import Settings
from replicas.errors import NotFound, SettingsError
from router.chain.backoff import Retries
from router.chain.breaker import Limits
from router.chain.judge import PROMPT, Judging
from router.chain.terms import Terms
from router.policy.candidate import Candidate, by_name
from router.policy.check import check
from router.policy.condition import HEADER, Condition, all_of, any_of, one
from router.policy.constraints import SAID, Like, OneOf, Range
from router.policy.features import AUTO
from router.policy.rule import LEARNED, POLICIES, PolicyName, Routing, Rule
from router.prices import Price, PriceList

DAY_MIN = 24 * 60


def routing_of(settings: Settings, contexts: Mapping[str, int] | None = None) -> Routing:
    """The routing; `contexts` are the contexts of local models, by name, as far as known. Raises SettingsError."""
    candidates = _candidates(settings, contexts or {})
    names = Names(candidates, settings.routing.chains)
    privacy = settings.routing.privacy
    routing = Routing(
        candidates,
        tuple(_rule(rule, names) for rule in settings.routing.rules),
        settings.routing.policy,
        privacy.detectors,
        tuple(address.lower() for address in privacy.harmless_addresses),
        settings.routing.time_zone,
        settings.routing.at_limit,
        Retries(**settings.routing.retries.model_dump()),
        Limits(**settings.routing.breaker.model_dump()),
        learning=learning_of(settings.routing.learned, is_used=_is_learned(settings.routing)),
    )
    check(routing)
    return routing


def _is_learned(routing: RoutingSettings) -> bool:
    return routing.policy == LEARNED or any(rule.to == (LEARNED,) for rule in routing.rules)


def _candidates(settings: Settings, contexts: Mapping[str, int]) -> tuple[Candidate, ...]:
    """Local models with the default one first, then those of the clouds, as they are written."""
    default = settings.default_model
    models = sorted(settings.models, key=lambda model: default not in (model.name, *model.aliases))
    local = (Candidate(m.name, True, m.aliases, contexts.get(m.name, m.engine.context_tokens)) for m in models)
    prices = prices_of(settings.costs)
    clouds = (_cloud_candidate(cloud, model, prices) for cloud in settings.clouds for model in cloud.models)
    return (*local, *clouds)


def _cloud_candidate(cloud: CloudSettings, model: CloudModelSettings, prices: PriceList) -> Candidate:
    return Candidate(
        name=f"{cloud.name}/{model.name}",
        is_local=False,
        aliases=model.aliases,
        context_tokens=model.context_tokens,
        price=_price(cloud, model, prices),
        sees_images=model.sees_images,
        ttft_s=model.ttft_s,
        tokens_per_s=model.tokens_per_s,
    )


def _price(cloud: CloudSettings, model: CloudModelSettings, prices: PriceList) -> Price | None:
    try:
        return prices.price(model.price or model.name)
    except NotFound as missing:
        if model.price is None:
            return None
        raise SettingsError(f"clouds: {cloud.name}/{model.name}: {missing}") from missing


class Names:
    """What a rule may send to. Raises SettingsError where a name means two things, or a chain's means none."""

    def __init__(self, candidates: tuple[Candidate, ...], chains: Mapping[str, tuple[str, ...]]) -> None:
        listed = [name for candidate in candidates for name in (candidate.name, *candidate.aliases)]
        for name in listed:
            if name in (AUTO, *POLICIES):
                raise SettingsError(f"a model cannot be called {name!r}, which has a meaning of its own")
            if listed.count(name) > 1:
                raise SettingsError(f"two models answer to {name!r}")
        self._models = by_name(candidates)
        self._chains = chains
        for chain, models in chains.items():
            unknown = [model for model in models if model not in self._models]
            if chain in (AUTO, *POLICIES, *self._models):
                raise SettingsError(f"routing.chains: {chain!r} is a model's or a policy's name")
            if unknown:
                raise SettingsError(
                    f"routing.chains.{chain}: {unknown[0]!r} is not there; there is {', '.join(listed)}"
                )

    def target(self, to: tuple[str, ...]) -> tuple[tuple[str, ...], PolicyName | None]:
        """Candidates in the order to try, or a policy. Unknown names stay, for the check."""
        if len(to) == 1 and to[0] in POLICIES:
            return (), next(policy for policy in POLICIES if policy == to[0])
        listed = [model for name in to for model in self._chains.get(name, (name,))]
        named = (self.resolved(name) for name in listed)
        return tuple(dict.fromkeys(named)), None

    def resolved(self, name: str) -> str:
        """A candidate's own name; an unknown one stays, for the check."""
        return self._models[name].name if name in self._models else name


def _rule(rule: RuleSettings, names: Names) -> Rule:
    to, policy = names.target(rule.to)
    try:
        boxes = _condition(rule.when).boxes
    except OverflowError as error:
        raise SettingsError(f"routing.rules: {rule.name!r} has {error}; split it") from error
    when = Condition(tuple({"model": _like((AUTO,)), **box} for box in boxes))
    return Rule(rule.name, when, to, policy, rule.private, _terms(rule, names))


def _terms(rule: RuleSettings, names: Names) -> Terms:
    gate = rule.gate
    judge = names.resolved(gate.judge.model) if gate.judge.model is not None else None
    judging = None if judge is None else Judging(judge, gate.judge.prompt or PROMPT, gate.judge.wait_s)
    return Terms(gate.bar, judging, gate.serves_rejected, rule.hedge_after_s, rule.patience_s)


def _condition(written: ConditionSettings) -> Condition:
    parts = [*_on_features(written), *map(_condition, written.all)]
    if written.any:
        parts.append(any_of(map(_condition, written.any)))
    return all_of(parts)


def _on_features(written: ConditionSettings) -> Iterator[Condition]:
    flags = {"private": written.private, "code": written.code, "image": written.image}
    yield from (one(name, OneOf(frozenset({flag}))) for name, flag in flags.items() if flag is not None)
    texts = {"model": written.model, "role": written.role, "agent": written.agent, "language": written.language}
    texts |= {HEADER + name.lower(): tuple(map(_said, patterns)) for name, patterns in written.headers.items()}
    texts |= {name: tuple(map(_said, said)) for name in ("role", "agent") if (said := texts[name]) is not None}
    yield from (one(name, _like(patterns)) for name, patterns in texts.items() if patterns is not None)
    spans = {"tools": written.tools, "tokens_in": written.tokens_in, "tokens_out": written.tokens_out}
    yield from (_range(name, span.min, span.max) for name, span in spans.items() if span is not None)
    if written.budget is not None:
        yield one("budget", OneOf(frozenset(written.budget)))
    if written.time is not None:
        yield _time(written.time)


def _said(pattern: str) -> str:
    """`*` is for those who say something: a header that is not there is empty."""
    return SAID if pattern == "*" else pattern


def _like(patterns: tuple[str, ...]) -> Like:
    return Like((frozenset(patterns),))


def _range(name: str, low: int, high: int | None) -> Condition:
    return Condition(()) if high is not None and high < low else one(name, Range(low, high))


def _time(written: str) -> Condition:
    """A span of the day, which may go over midnight."""
    start, end = (int(part[:2]) * 60 + int(part[3:]) for part in written.split("-"))
    if start < end:
        return one("minute", Range(start, end - 1))
    return any_of([_range("minute", start, DAY_MIN - 1), _range("minute", 0, end - 1)])
