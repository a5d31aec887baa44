"""Decides who answers a call: the first rule that holds, else the model that was asked for, else the policy.

Rules are made to hold only for requests that leave the choice (no model, or `auto`), unless they name models: who asks
for a model gets it. Whatever decides, clouds are taken out of the route of a private request.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from zoneinfo import ZoneInfo

from router.budget.payer import Payer
from router.call import Call
from router.learned.chooser import Chooser
from router.learned.explore import explored
from router.learned.opinion import Opinion
from router.policy.candidate import Candidate, by_name
from router.policy.condition import WHOLE
from router.policy.constraints import Value
from router.policy.decision import BUDGET_SPENT, Decision, Verdict
from router.policy.features import AUTO, Seen, features_of, model_asked, tokens_in
from router.policy.ready import Need, ranked
from router.policy.rule import LEARNED, OTHERWISE, PolicyName, ReadyName, Routing, Rule
from router.policy.speed import Speeds
from router.privacy.guard import Guard, Marking

Clock = Callable[[ZoneInfo], datetime]
Verdicts = tuple[Verdict, ...]
UNPRICED = "its price is not known, and there is a budget: set its `price`"


class Policy:
    """Decides by `routing`. `missing` are the candidates that cannot be asked from here, and why. Who `is_limited` by a
    budget is not sent to a cloud without a price.

    With `sees_all` every feature is read, for explanations; otherwise those that the rules name.
    """

    def __init__(
        self,
        routing: Routing,
        missing: Mapping[str, str] = MappingProxyType({}),
        clock: Clock = datetime.now,
        is_limited: Callable[[Payer], bool] = lambda _: False,
        *,
        sees_all: bool = False,
    ) -> None:
        self.routing = routing
        self.guard = Guard(routing.detectors, routing.harmless)
        self.speeds = Speeds()
        named = frozenset(name for rule in routing.rules for name in rule.when.named)
        self._wanted = named | WHOLE.keys() if sees_all else named
        self._has_clouds = any(not one.is_local for one in routing.candidates)
        self._missing = missing
        self._is_limited = is_limited
        self._clock = clock
        self._zone = ZoneInfo(routing.time_zone)
        self._by_name = by_name(routing.candidates)
        self._local = frozenset(one.name for one in routing.candidates if one.is_local)
        self._chooser = None if routing.learning is None else Chooser(routing.learning)

    def decide(self, call: Call, budget: str = "ok") -> Decision:
        """Who answers `call`."""
        seen = Seen(call, self._mark(call), self._clock(self._zone), budget)
        found = self._settled(self._found(seen), call, budget)
        learning = self.routing.learning
        if found.opinion is None or learning is None:
            return found
        return explored(found, learning.explore, learning.seed, self.is_cloud)

    def instead(self, found: Decision, call: Call, rule: Rule, budget: str) -> Decision:
        """`found`, with the targets of `rule` for its route, less those who may not be asked. Its marks stay."""
        opinion = found.opinion
        if rule.policy == LEARNED and opinion is None:
            opinion = self._opinion(Seen(call, found.marking, self._clock(self._zone), budget))
        route, lost = self._by_policy(rule.policy, call, opinion) if rule.policy else self._by_rule(rule, "variant")
        sent = replace(found, route=route, lost=lost, is_degraded=False, odds={}, opinion=opinion)
        return self._settled(sent, call, budget)

    def learn(self, id_: str, answered_by: str, score: float) -> bool:
        """The answer to the call `id_` got `score` (0 to 1) from its caller; whether `learned` learns from it."""
        return self._chooser is not None and self._chooser.learn(id_, answered_by, score)

    def _found(self, seen: Seen) -> Decision:
        """What is decided, before those who may not be asked are taken out."""
        features = features_of(seen, self._wanted)
        rule, opinion = self._first(seen, features)
        call, asked = seen.call, model_asked(seen.call)
        if rule is not None:
            route, lost = self._by_policy(rule.policy, call, opinion) if rule.policy else self._by_rule(rule)
            marking = seen.marking.by_rule() if rule.marks_private else seen.marking
            return Decision("rule", rule.name, route, lost, features, marking, opinion=opinion)
        if asked == AUTO:
            policy = self.routing.policy
            opinion = self._opinion(seen) if policy == LEARNED and opinion is None else opinion
            route, lost = self._by_policy(policy, call, opinion)
            return Decision("policy", policy, route, lost, features, seen.marking, opinion=opinion)
        route = self._asked(asked)
        return Decision("model", route[0].name if route else asked, route, (), features, seen.marking, not route)

    def _first(self, seen: Seen, features: Mapping[str, Value]) -> tuple[Rule | None, Opinion | None]:
        """The first rule that holds and does not abstain; and what was predicted on the way, if something was. One
        that marks requests private never abstains: the mark would be lost."""
        opinion: Opinion | None = None
        for rule in self.routing.rules:
            if not rule.when.holds(features):
                continue
            if rule.policy != LEARNED or rule.marks_private:
                return rule, opinion
            opinion = opinion or self._opinion(seen)
            if not opinion.abstains:
                return rule, opinion
        return None, opinion

    def _opinion(self, seen: Seen) -> Opinion:
        if seen.marking.is_private:
            return Opinion("local", "private requests stay here")
        if self._chooser is None:
            return Opinion(None, "routing.learned.model_file is not set")
        return self._chooser.opinion(seen.call, self._local)

    def is_cloud(self, name: str | None) -> bool:
        """That is the name of a cloud's model."""
        found = self._by_name.get(name or AUTO)
        return found is not None and not found.is_local

    def _mark(self, call: Call) -> Marking:
        """Text is examined only where that can change something."""
        if self._has_clouds or "private" in self._wanted:
            return self.guard.mark(call)
        return Marking(call.id, call.origin.marks)

    def _by_rule(self, rule: Rule, called: str = "rule") -> tuple[Verdicts, Verdicts]:
        route = tuple(Verdict(name, f"number {n} of the {called}") for n, name in enumerate(rule.to, 1))
        others = (one.name for one in self.routing.candidates if one.name not in rule.to)
        return route, tuple(Verdict(name, f"the {called} does not name it") for name in others)

    def _by_policy(self, policy: PolicyName, call: Call, opinion: Opinion | None) -> tuple[Verdicts, Verdicts]:
        need = Need(tokens_in(call), call.sampling.max_tokens, call.has_image)
        ready, candidates = self._ready(policy, opinion)
        found = ranked(ready, candidates, need, self.speeds)
        kept = {one.candidate.name for one in found}
        left_out = (one.name for one in self.routing.candidates if one.name not in kept)
        return tuple(Verdict(one.candidate.name, one.why) for one in found), tuple(
            Verdict(name, f"{ready} leaves it out") for name in left_out
        )

    def _ready(self, policy: PolicyName, opinion: Opinion | None) -> tuple[ReadyName, Sequence[Candidate]]:
        """The ready-made policy that does as `policy` says, and the order in which it gets the candidates."""
        candidates = self.routing.candidates
        if policy != "learned":
            return policy, candidates
        if opinion is None or opinion.pick is None:
            return OTHERWISE if self.routing.learning is None else self.routing.learning.otherwise, candidates
        ready: ReadyName = "prefer-local" if opinion.pick == "local" else "prefer-cloud"
        return ready, sorted(candidates, key=lambda one: one.name != opinion.local)

    def _asked(self, name: str) -> Verdicts:
        """The model of that name; `MODEL:ADAPTER` is the model's."""
        found = self._by_name.get(name) or self._by_name.get(name.rpartition(":")[0])
        return () if found is None else (Verdict(found.name, "asked for by name"),)

    def _settled(self, found: Decision, call: Call, budget: str) -> Decision:
        """`found` without those that may not be asked."""
        barred = {name: self._bar(name, call, found.marking, budget) for name in found.names}
        kept = tuple(verdict for verdict in found.route if not barred[verdict.name])
        out = tuple(Verdict(name, why) for name, why in barred.items() if why)
        settled = replace(found, route=kept, lost=(*out, *found.lost))
        is_short = bool(out) and barred[found.names[0]] == BUDGET_SPENT
        return self._without_money(settled) if is_short else settled

    def _without_money(self, found: Decision) -> Decision:
        """What becomes of a request that a cloud would answer, if there were money."""
        if self.routing.at_limit == "refuse":
            return replace(found, route=())
        if found.route:
            return found
        local = tuple(Verdict(one.name, "local, for want of money") for one in self.routing.candidates if one.is_local)
        lost = tuple(one for one in found.lost if one.name not in {verdict.name for verdict in local})
        return replace(found, route=local, lost=lost, is_degraded=True)

    def _bar(self, name: str, call: Call, marking: Marking, budget: str) -> str:
        candidate = self.routing.candidate(name)
        assert candidate is not None, "rules are checked before they decide (check.py)"
        if candidate.is_local:
            return ""
        if marking.is_private:
            return "private requests stay here"
        if budget == "spent":
            return BUDGET_SPENT
        if name in self._missing:
            return self._missing[name]
        is_unpriced = candidate.price is None and self._is_limited(call.origin.payer)
        return UNPRICED if is_unpriced else ""
